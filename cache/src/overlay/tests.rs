//! The overlay against a table of sectors that knows what each may hold.

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::{Strategy, any, prop, prop_oneof, proptest};
use vmthunder_volume::testing::MemVolume;
use vmthunder_volume::{Allocation, BlockSize, Class, Error, Geometry, Span, Volume};

use super::files::Files;
use super::state::State;
use super::{Lack, Overlay, OverlayError, OverlayOptions, base_reads, header};
use crate::ImageKey;
use crate::disk::BootId;
use crate::overlay::masks::Source;
use crate::testing::{CrashDisk, Machine};

const KEY: ImageKey = ImageKey([9; 32]);
/// An odd number of units, and an end of the base inside a unit.
const BASE: u64 = 45 * 512;
const SECTORS: u64 = 80;

#[derive(Clone, Debug)]
enum Step {
    Write(u64, u64),
    Trim(u64, u64),
    Flush,
    Kill,
    PowerLoss,
}

/// A machine with an overlay, and what each of its sectors may hold.
struct Node {
    machine: Arc<Machine>,
    disks: [Arc<CrashDisk>; 3],
    boot: u8,
    seed: u64,
    overlay: Option<Overlay<Arc<MemVolume>>>,
    base: Arc<MemVolume>,
    next_tag: u16,
    /// Per sector what was there at the last flush and what was written since, the last one acknowledged at the end.
    may_hold: Vec<Vec<u16>>,
    /// Sectors of a change that was not acknowledged may hold their last value or not.
    torn: Option<Span>,
}

impl Node {
    fn new() -> Self {
        let machine = Machine::new();
        let tags: Vec<u16> = (0..SECTORS)
            .map(|sector| if sector < 45 { 1000 } else { 0 })
            .collect();
        let base: Vec<u8> = tags[..45].iter().flat_map(|tag| sector_of(*tag)).collect();
        let base = Arc::new(MemVolume::new(
            Geometry::of_bytes(BlockSize::B512, BASE),
            base,
        ));
        let disks = [(); 3].map(|()| CrashDisk::new(&machine));
        let options = OverlayOptions {
            base: KEY,
            bytes: Some(SECTORS * 512),
        };
        files(&disks)
            .lay_out(&header(options, base.geometry()).unwrap())
            .unwrap();
        let may_hold = tags.into_iter().map(|tag| vec![tag]).collect();
        let mut node = Self {
            machine,
            disks,
            boot: 1,
            seed: 7,
            overlay: None,
            base,
            next_tag: 1,
            may_hold,
            torn: None,
        };
        node.open();
        node
    }

    fn open(&mut self) {
        let (state, header) = State::open(files(&self.disks), BootId([self.boot; 16])).unwrap();
        self.overlay = Some(Overlay::over(state, &header, KEY, Arc::clone(&self.base)).unwrap());
    }

    async fn restart(&mut self, power_loss: bool) {
        self.overlay = None;
        self.machine = Machine::new();
        self.seed = self
            .seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(99);
        self.boot += u8::from(power_loss);
        let (machine, seed) = (&self.machine, self.seed);
        self.disks = self.disks.each_ref().map(|disk| {
            if power_loss {
                disk.after_power_loss(machine, seed)
            } else {
                disk.after_kill(machine)
            }
        });
        self.open();
        self.check(power_loss).await;
    }

    /// Reads everything in pieces and takes what it reads as what is there.
    async fn check(&mut self, power_loss: bool) {
        let overlay = self.overlay.as_ref().unwrap();
        for (from, length) in [(0, 17), (17, 1), (18, 30), (48, SECTORS - 48)] {
            let span = Span::new(from * 512, length * 512);
            let bytes = overlay.read(span, Class::Demand).await.unwrap();
            for (sector, bytes) in (from..).zip(bytes.chunks(512)) {
                let tag = u16::from_le_bytes([bytes[0], bytes[1]]);
                assert!(bytes == sector_of(tag), "sector {sector} is garbage");
                let allowed = &mut self.may_hold[usize::try_from(sector).unwrap()];
                let torn = self
                    .torn
                    .is_some_and(|torn| (torn.offset()..torn.end()).contains(&(sector * 512)));
                let from = match (power_loss, torn) {
                    (true, _) => 0,
                    (false, true) => allowed.len().saturating_sub(2),
                    (false, false) => allowed.len() - 1,
                };
                assert!(
                    allowed[from..].contains(&tag),
                    "sector {sector} holds {tag}, not of {:?}",
                    &allowed[from..]
                );
                // What is read stays, but only a flush makes it the least that a loss of power leaves.
                if power_loss {
                    *allowed = vec![tag];
                } else if allowed.last() != Some(&tag) {
                    allowed.push(tag);
                }
            }
        }
        self.torn = None;
    }

    async fn step(&mut self, step: &Step) {
        let overlay = self.overlay.as_ref().unwrap();
        let done = match *step {
            Step::Write(from, length) => {
                let tag = self.next_tag;
                self.next_tag += 1;
                let span = self.note(from, length, tag);
                let bytes: Vec<u8> = (0..length).flat_map(|_| sector_of(tag)).collect();
                let done = self
                    .overlay
                    .as_ref()
                    .unwrap()
                    .write(span.offset(), Bytes::from(bytes))
                    .await;
                (done, Some(span))
            }
            Step::Trim(from, length) => {
                let span = self.note(from, length, 0);
                (self.overlay.as_ref().unwrap().trim(span).await, Some(span))
            }
            Step::Flush => {
                let done = overlay.flush().await;
                if done.is_ok() {
                    self.may_hold
                        .iter_mut()
                        .for_each(|tags| drop(tags.drain(..tags.len() - 1)));
                }
                (done, None)
            }
            Step::Kill => return self.restart(false).await,
            Step::PowerLoss => return self.restart(true).await,
        };
        if let (Err(error), torn) = done {
            assert!(self.machine.is_off(), "{error}");
            self.torn = torn;
        }
    }

    fn note(&mut self, from: u64, length: u64, tag: u16) -> Span {
        let range = usize::try_from(from).unwrap()..usize::try_from(from + length).unwrap();
        self.may_hold[range]
            .iter_mut()
            .for_each(|tags| tags.push(tag));
        Span::new(from * 512, length * 512)
    }
}

fn files(disks: &[Arc<CrashDisk>; 3]) -> Files {
    let [data, map, recent] = disks.clone();
    Files { data, map, recent }
}

fn sector_of(tag: u16) -> Vec<u8> {
    tag.to_le_bytes().repeat(256)
}

/// Runs the steps; the power goes off, or the program dies, after `cut` changes. True if it came to that.
async fn run(steps: &[Step], cut: Option<u64>, kill: bool, seed: u64) -> bool {
    let mut node = Node::new();
    node.seed = seed;
    if let Some(cut) = cut {
        node.machine.cut_after(cut);
    }
    for step in steps {
        if node.machine.is_off() {
            break;
        }
        node.step(step).await;
    }
    let cut_happened = node.machine.is_off();
    if !cut_happened {
        node.check(false).await;
    }
    node.restart(!kill).await;
    // The overlay goes on working, and recovery itself left nothing half done.
    node.step(&Step::Write(3, 9)).await;
    node.restart(false).await;
    node.step(&Step::Flush).await;
    node.restart(true).await;
    cut_happened
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let span = || {
        (0..SECTORS)
            .prop_flat_map(|from| (proptest::strategy::Just(from), 1..=(SECTORS - from).min(24)))
    };
    let step = prop_oneof![
        6 => span().prop_map(|(from, length)| Step::Write(from, length)),
        3 => span().prop_map(|(from, length)| Step::Trim(from, length)),
        2 => proptest::strategy::Just(Step::Flush),
        1 => proptest::strategy::Just(Step::Kill),
        1 => proptest::strategy::Just(Step::PowerLoss),
    ];
    prop::collection::vec(step, 0..30)
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let limit = std::time::Duration::from_secs(60);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async { tokio::time::timeout(limit, future).await.unwrap() })
}

proptest! {
    #[test]
    fn behaves_like_a_disk(steps in steps(), cut in prop::option::of(0..120_u64), kill in any::<bool>(), seed in any::<u64>()) {
        block_on(run(&steps, cut, kill, seed));
    }
}

#[tokio::test]
async fn a_failed_sync_fences_and_reopening_goes_back_to_the_last_flush() {
    let mut node = Node::new();
    node.step(&Step::Write(0, 4)).await;
    node.step(&Step::Flush).await;
    node.step(&Step::Write(8, 4)).await;
    node.machine.fail_syncs(true);
    let overlay = node.overlay.as_ref().unwrap();
    assert!(matches!(overlay.flush().await, Err(Error::Io(_))));
    node.machine.fail_syncs(false);
    assert!(matches!(overlay.flush().await, Err(Error::Fenced)));
    assert!(matches!(
        overlay.write(0, Bytes::from(vec![1; 512])).await,
        Err(Error::Fenced)
    ));
    assert!(matches!(
        overlay.trim(Span::new(0, 512)).await,
        Err(Error::Fenced)
    ));
    assert!(matches!(
        overlay.read(Span::new(0, 512), Class::Demand).await,
        Err(Error::Fenced)
    ));
    node.open();
    let overlay = node.overlay.as_ref().unwrap();
    let kept = overlay
        .read(Span::new(0, 2048), Class::Demand)
        .await
        .unwrap();
    assert_eq!(kept, sector_of(1).repeat(4));
    let lost = overlay
        .read(Span::new(8 * 512, 2048), Class::Demand)
        .await
        .unwrap();
    assert_eq!(
        lost,
        sector_of(1000).repeat(4),
        "whose data may be lost reads as before"
    );
    overlay.write(0, Bytes::from(vec![1; 512])).await.unwrap();
}

#[test]
fn fresh_blocks_are_written_in_place_and_survive_a_kill_and_a_limit_on_space_takes_the_long_way() {
    let mut node = Node::new();
    node.overlay = None;
    let open = || State::open(files(&node.disks), BootId([1; 16])).unwrap().0;
    let (fresh, other) = (Span::new(512, 1024), Span::new(4096, 512));
    let state = open();
    assert!(state.write_now(fresh.offset(), &[7; 1024]));
    drop(state);
    let state = open();
    assert_eq!(state.runs(fresh), [(Source::Own, fresh)]);
    let mut bytes = [0; 1024];
    state.read_wait(fresh.offset(), &mut bytes).unwrap();
    assert_eq!(bytes, [7; 1024]);
    state.set_quota(1 << 20);
    assert!(
        !state.write_now(other.offset(), &[7; 512]),
        "nobody counted"
    );
    assert_eq!(state.runs(other), [(Source::Base, other)]);
    assert!(
        state.write_now(fresh.offset(), &[8; 1024]),
        "it has its space"
    );
}

#[tokio::test]
async fn a_full_disk_fails_that_write_and_nothing_else() {
    let mut node = Node::new();
    node.step(&Step::Write(0, 16)).await;
    // Two pages of data, and one each for the log and the map.
    node.machine.leave_pages(Some(0));
    let overlay = node.overlay.as_ref().unwrap();
    let refused = overlay.write(32 * 512, Bytes::from(vec![1; 8192])).await;
    assert!(matches!(refused, Err(Error::NoSpace)), "{refused:?}");
    assert_eq!(overlay.lacks(), Some(Lack::Disk));
    let before = overlay
        .read(Span::new(32 * 512, 8192), Class::Demand)
        .await
        .unwrap();
    assert_eq!(before[..13 * 512], sector_of(1000).repeat(13));
    assert_eq!(before[13 * 512..], [0; 3 * 512]);
    // What has its space can be written.
    overlay.write(0, Bytes::from(vec![2; 8192])).await.unwrap();
    assert_eq!(overlay.lacks(), Some(Lack::Disk), "it needed none");
    assert!(
        matches!(overlay.flush().await, Err(Error::NoSpace)),
        "the map has no space yet"
    );
    node.machine.leave_pages(Some(1));
    overlay.flush().await.unwrap();
    node.machine.leave_pages(None);
    overlay
        .write(32 * 512, Bytes::from(vec![1; 8192]))
        .await
        .unwrap();
    assert_eq!(overlay.lacks(), None);
    node.may_hold.iter_mut().for_each(Vec::clear);
}

#[tokio::test]
async fn writes_never_read_the_base_and_reads_ask_it_once() {
    let geometry = Geometry::of_bytes(BlockSize::B512, 4 << 20);
    let base = Arc::new(MemVolume::new(geometry, vec![5; 4 << 20]));
    let directory = tempfile::tempdir().unwrap();
    let options = OverlayOptions {
        base: KEY,
        bytes: None,
    };
    let overlay = Overlay::create(directory.path(), options, Arc::clone(&base))
        .await
        .unwrap();
    for block in 0..50 {
        overlay
            .write(block * 1024, Bytes::from(vec![6; 512]))
            .await
            .unwrap();
    }
    overlay
        .write(1 << 20, Bytes::from(vec![6; 1 << 20]))
        .await
        .unwrap();
    overlay.trim(Span::new(2 << 20, 1 << 20)).await.unwrap();
    assert_eq!(base.reads(), 0);
    let mixed = overlay
        .read(Span::new(0, 65536), Class::Demand)
        .await
        .unwrap();
    assert_eq!((mixed[0], mixed[512], mixed[1024]), (6, 5, 6));
    assert_eq!(base.reads(), 1, "one read brings all the gaps");
    overlay
        .read(Span::new(1 << 20, 2 << 20), Class::Demand)
        .await
        .unwrap();
    assert_eq!(base.reads(), 1, "what is wholly own or zeros asks nothing");
    let trimmed = overlay
        .allocation(Span::new(2 << 20, 2 << 20))
        .await
        .unwrap();
    assert_eq!(trimmed, (Allocation::Hole, Span::new(2 << 20, 1 << 20)));
    let own = overlay
        .allocation(Span::new(1 << 20, 2 << 20))
        .await
        .unwrap();
    assert_eq!(own, (Allocation::Mapped, Span::new(1 << 20, 1 << 20)));
}

#[test]
fn gaps_are_read_over_unless_an_extent_would_be_fetched_for_nothing() {
    let base = |offset, length| (Source::Base, Span::new(offset, length));
    let runs = [
        base(0, 512),
        base(65536, 512),
        base(3 * 65536 - 512, 512),
        base(5 * 65536, 512),
    ];
    // Between the second and the third no whole extent; between the others: none, none, two.
    let reads = [Span::new(0, 3 * 65536), Span::new(5 * 65536, 512)];
    assert_eq!(base_reads(&runs), reads);
}

#[tokio::test]
async fn is_opened_over_its_own_base_alone_and_by_one_program() {
    let base = || {
        Arc::new(MemVolume::zeroed(Geometry::of_bytes(
            BlockSize::B4096,
            1 << 20,
        )))
    };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("instance");
    let small = OverlayOptions {
        base: KEY,
        bytes: Some(4096),
    };
    assert!(matches!(
        Overlay::create(&path, small, base()).await,
        Err(OverlayError::Size)
    ));
    let options = OverlayOptions {
        base: KEY,
        bytes: Some(2 << 20),
    };
    let overlay = Overlay::create(&path, options, base()).await.unwrap();
    assert!(matches!(
        Overlay::open(&path, KEY, base()).await,
        Err(OverlayError::InUse)
    ));
    assert!(matches!(
        Overlay::create(&path, options, base()).await,
        Err(OverlayError::Exists)
    ));
    overlay
        .write((2 << 20) - 4096, Bytes::from(vec![3; 4096]))
        .await
        .unwrap();
    drop(overlay);
    let other = Overlay::open(&path, ImageKey([8; 32]), base()).await;
    assert!(matches!(other, Err(OverlayError::OtherBase)));
    let larger = Arc::new(MemVolume::zeroed(Geometry::of_bytes(
        BlockSize::B4096,
        2 << 20,
    )));
    assert!(matches!(
        Overlay::open(&path, KEY, larger).await,
        Err(OverlayError::OtherBase)
    ));
    let overlay = Overlay::open(&path, KEY, base()).await.unwrap();
    assert_eq!(overlay.geometry().bytes(), 2 << 20);
    let read = overlay
        .read(Span::new((2 << 20) - 8192, 8192), Class::Demand)
        .await
        .unwrap();
    assert_eq!(
        (&read[..4096], &read[4096..]),
        (&[0; 4096][..], &[3; 4096][..])
    );
    assert!(matches!(
        overlay.write(512, Bytes::from(vec![0; 512])).await,
        Err(Error::OutOfRange)
    ));
}
