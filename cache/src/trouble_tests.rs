//! The cache over disks that fail, fill up, vanish, hang and rot: no reader is told of it.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use bytes::Bytes;
use rustix::io::Errno;
use tokio::time::timeout;
use vmthunder_volume::testing::MemVolume;
use vmthunder_volume::{BlockSize, Class, EXTENT_BYTES, Geometry, Span, Volume};

use crate::body::lock;
use crate::disk::{BootId, Disk};
use crate::map::Key;
use crate::testing::{CrashDisk, Machine};
use crate::{Cache, Cause, ImageKey, Store, StoreOptions, StoreState};

const KEY: ImageKey = ImageKey([1; 32]);
const EXTENTS: u64 = 10;
const LIMIT: Duration = Duration::from_secs(60);

/// What ails a disk now.
#[derive(Debug, Default)]
struct Ills {
    opens: Mutex<Option<Errno>>,
    reads: Mutex<Option<Errno>>,
    writes: Mutex<Option<Errno>>,
    moved: AtomicBool,
    /// Reads and writes of slots wait until this is false again.
    hangs: Mutex<bool>,
    goes_on: Condvar,
}

impl Ills {
    fn set(of: &Mutex<Option<Errno>>, ill: Option<Errno>) {
        *lock(of) = ill;
    }

    fn hang(&self, hangs: bool) {
        *lock(&self.hangs) = hangs;
        self.goes_on.notify_all();
    }

    fn fail(&self, of: &Mutex<Option<Errno>>) -> io::Result<()> {
        let mut hangs = lock(&self.hangs);
        while *hangs {
            hangs = self.goes_on.wait(hangs).unwrap();
        }
        lock(of).map_or(Ok(()), |ill| Err(ill.into()))
    }
}

#[derive(Debug)]
struct AilingDisk {
    disk: Arc<CrashDisk>,
    ills: Arc<Ills>,
}

impl Disk for AilingDisk {
    fn size(&self) -> io::Result<u64> {
        self.disk.size()
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.ills.fail(&self.ills.reads)?;
        self.disk.read_at(offset, into)
    }

    /// Nothing is in the page cache.
    fn read_now(&self, _: u64, _: &mut [u8]) -> bool {
        false
    }

    fn is_in_place(&self) -> bool {
        !self.ills.moved.load(Ordering::SeqCst)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.ills.fail(&self.ills.writes)?;
        self.disk.write_at(offset, bytes)
    }

    fn write_now(&self, _: u64, _: &[u8]) -> bool {
        false
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.sync()
    }

    fn drop_pages(&self) -> io::Result<()> {
        self.disk.drop_pages()
    }

    fn set_size(&self, bytes: u64) -> io::Result<()> {
        self.disk.set_size(bytes)
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        self.disk.allocate(bytes)
    }

    fn punch(&self, offset: u64, length: u64) -> io::Result<()> {
        self.disk.punch(offset, length)
    }

    fn next_stored(&self, offset: u64) -> io::Result<Option<u64>> {
        self.disk.next_stored(offset)
    }
}

/// A node whose cache has an ailing disk.
struct Node {
    machine: Arc<Machine>,
    disk: Arc<CrashDisk>,
    ills: Arc<Ills>,
    store: Arc<Store>,
    below: Arc<MemVolume>,
    cache: Cache<Arc<MemVolume>>,
}

impl Node {
    fn new() -> Self {
        Self::with(Arc::default())
    }

    fn with(ills: Arc<Ills>) -> Self {
        let machine = Machine::new();
        let disk = CrashDisk::new(&machine);
        let opener = {
            let (disk, ills) = (Arc::clone(&disk), Arc::clone(&ills));
            move || {
                ills.fail(&ills.opens)?;
                let (disk, ills) = (Arc::clone(&disk), Arc::clone(&ills));
                Ok(Arc::new(AilingDisk { disk, ills }) as Arc<dyn Disk>)
            }
        };
        let store = Store::open_with(opener, 31 * EXTENT_BYTES, BootId([1; 16])).unwrap();
        let below = image();
        let cache = Cache::new(Arc::clone(&store), KEY, Arc::clone(&below));
        Self {
            machine,
            disk,
            ills,
            store,
            below,
            cache,
        }
    }

    /// A node that holds the whole image.
    async fn warm() -> Self {
        let node = Self::new();
        node.read().await;
        node.until(|node| node.store.stats().resident == EXTENTS)
            .await;
        node
    }

    /// Until nothing waits to be written: readers are served that, too.
    async fn idle(&self) {
        self.until(|node| {
            let image = node.store.image(KEY).unwrap();
            let staged = |extent| node.store.staged(Key { image, extent }).is_some();
            !(0..10).any(staged)
        })
        .await;
    }

    /// Reads everything; how much of it the volume below was asked.
    async fn read(&self) -> u64 {
        let before = self.below.reads();
        for extent in 0..EXTENTS {
            let span = Span::new(extent * EXTENT_BYTES, EXTENT_BYTES);
            let read = timeout(LIMIT, self.cache.read(span, Class::Demand)).await;
            let range =
                usize::try_from(span.offset()).unwrap()..usize::try_from(span.end()).unwrap();
            assert!(read.unwrap().unwrap() == self.below.contents()[range]);
        }
        self.below.reads() - before
    }

    async fn until(&self, so: impl Fn(&Self) -> bool) {
        let waiting = async {
            while !so(self) {
                tokio::task::yield_now().await;
            }
        };
        timeout(LIMIT, waiting).await.unwrap();
    }

    fn cause(&self) -> Option<Cause> {
        match self.store.stats().state {
            StoreState::Ok => None,
            StoreState::Degraded { cause, .. } => Some(cause),
        }
    }

    /// Nothing of the disk is used, and all of it is when it is back.
    async fn passes_and_heals(&self) {
        self.idle().await;
        assert_eq!(self.read().await, 10, "everything comes from below");
        self.idle().await;
        assert_eq!(self.store.stats().resident, 0);
        let ills = &self.ills;
        for ill in [&ills.opens, &ills.reads, &ills.writes] {
            Ills::set(ill, None);
        }
        self.until(|node| node.store.heal()).await;
        assert_eq!(self.cause(), None);
    }
}

fn image() -> Arc<MemVolume> {
    let content = (0..EXTENTS * EXTENT_BYTES / 8).flat_map(|word| (word ^ 0x77).to_le_bytes());
    let geometry = Geometry::of_bytes(BlockSize::B512, EXTENTS * EXTENT_BYTES);
    Arc::new(MemVolume::new(geometry, content.collect()))
}

#[tokio::test]
async fn a_disk_that_cannot_be_read_is_passed_and_warm_when_it_is_back() {
    let node = Node::warm().await;
    assert_eq!(node.read().await, 0);
    Ills::set(&node.ills.reads, Some(Errno::IO));
    assert_eq!(node.read().await, 10, "nobody is told");
    assert_eq!(node.cause(), Some(Cause::Failing));
    assert!(!node.store.heal(), "it cannot be read yet");
    node.idle().await;
    assert_eq!(node.read().await, 10);
    Ills::set(&node.ills.reads, None);
    node.until(|node| node.store.heal()).await;
    // What failed was dropped as it was read; the rest is there, and hashed.
    let stats = node.store.stats();
    assert_eq!((node.cause(), stats.corrupt), (None, 9));
    assert!(stats.resident > 0 && stats.unverified == stats.resident);
    node.read().await;
    node.until(|node| node.store.stats().resident == EXTENTS)
        .await;
    assert_eq!(node.read().await, 0);
}

#[tokio::test]
async fn a_few_bad_places_cost_only_what_lies_there() {
    let node = Node::warm().await;
    Ills::set(&node.ills.reads, Some(Errno::IO));
    for extent in 0..3 {
        let span = Span::new(extent * EXTENT_BYTES, 512);
        node.cache.read(span, Class::Demand).await.unwrap();
    }
    Ills::set(&node.ills.reads, None);
    assert_eq!((node.cause(), node.store.stats().corrupt), (None, 3));
}

#[tokio::test]
async fn a_read_only_file_system_and_a_vanished_device_are_passed_at_once() {
    for (ill, cause) in [
        (Errno::ROFS, Cause::ReadOnly),
        (Errno::NODEV, Cause::Gone),
        (Errno::NXIO, Cause::Gone),
    ] {
        let node = Node::new();
        Ills::set(&node.ills.writes, Some(ill));
        Ills::set(&node.ills.opens, Some(ill));
        node.read().await;
        node.until(|node| node.cause() == Some(cause)).await;
        assert!(!node.store.heal());
        node.passes_and_heals().await;
        node.read().await;
        node.until(|node| node.store.stats().resident == EXTENTS)
            .await;
        assert_eq!(node.read().await, 0);
    }
}

#[tokio::test]
async fn a_full_disk_serves_what_it_has_and_says_so() {
    let node = Node::warm().await;
    node.machine.leave_pages(Some(0));
    let other = Cache::new(Arc::clone(&node.store), ImageKey([2; 32]), image());
    other.read(Span::new(0, 512), Class::Demand).await.unwrap();
    node.until(|node| node.cause() == Some(Cause::Full)).await;
    assert_eq!(node.read().await, 0);
    node.machine.leave_pages(None);
    other.read(Span::new(0, 512), Class::Demand).await.unwrap();
    node.until(|node| node.cause().is_none()).await;
}

#[tokio::test]
async fn a_file_that_was_moved_away_is_left_and_another_is_begun() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let options = StoreOptions {
        path: path.clone(),
        bytes: 31 * EXTENT_BYTES,
        scrub_bytes_per_second: 0,
    };
    let store = Store::open(options).await.unwrap();
    store.check_place();
    assert_eq!(store.stats().state, StoreState::Ok);
    std::fs::remove_file(&path).unwrap();
    store.check_place();
    let gone = |store: &Store| {
        matches!(
            store.stats().state,
            StoreState::Degraded {
                cause: Cause::Gone,
                ..
            }
        )
    };
    assert!(gone(&store));
    std::fs::write(&path, [7; 9000]).unwrap();
    assert!(!store.heal(), "somebody else's file is left alone");
    std::fs::remove_file(&path).unwrap();
    assert!(store.heal() && path.exists());
    assert_eq!(store.stats().state, StoreState::Ok);
    std::fs::rename(&path, directory.path().join("elsewhere")).unwrap();
    store.check_place();
    assert!(gone(&store));
}

#[tokio::test(start_paused = true)]
async fn a_store_finds_its_file_again_and_scrubs_by_itself() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let options = StoreOptions {
        path: path.clone(),
        bytes: 31 * EXTENT_BYTES,
        scrub_bytes_per_second: 1 << 20,
    };
    let store = Store::open(options).await.unwrap();
    std::fs::remove_file(&path).unwrap();
    for so in [
        (|_, path| path.exists()) as fn(&Store, &std::path::Path) -> bool,
        |store, _| store.stats().state == StoreState::Ok,
        |store, _| store.stats().scrub_passes > 0,
    ] {
        let mut turns = 0;
        while !so(&store, &path) {
            turns += 1;
            assert!(turns < 1_000_000);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_hangs_is_passed_until_it_answers() {
    let node = Node::new();
    for extent in 0..10 {
        let image = node.store.image(KEY).unwrap();
        let from = usize::try_from(u64::from(extent) * EXTENT_BYTES).unwrap();
        let bytes = Bytes::copy_from_slice(&node.below.contents()[from..from + 65536]);
        node.store.offer(Key { image, extent }, bytes);
    }
    node.until(|node| node.store.stats().resident == 10).await;
    node.ills.hang(true);
    assert_eq!(node.read().await, 10, "what hangs comes from below");
    assert_eq!(node.cause(), Some(Cause::Slow));
    // The clock may have run ahead of the thread that the one read waits in.
    node.until(|node| node.store.stats().offloaded > 0).await;
    assert_eq!(node.store.stats().offloaded, 1, "nobody waits behind it");
    node.ills.hang(false);
    node.until(|node| node.cause().is_none()).await;
    // The clock would run ahead of the pool.
    tokio::time::resume();
    assert_eq!(node.read().await, 0);
}

#[tokio::test]
async fn writes_that_hang_hold_a_bounded_number_of_extents() {
    let node = Node::new();
    node.ills.hang(true);
    let image = node.store.image(KEY).unwrap();
    let bytes = Bytes::from_static(&[5; 65536]);
    for extent in 0..3000 {
        node.store.offer(Key { image, extent }, bytes.clone());
    }
    assert_eq!(node.store.stats().fill_drops, 3000 - 1024);
    node.ills.hang(false);
    node.until(|node| {
        node.store
            .staged(Key {
                image,
                extent: 1023,
            })
            .is_none()
    })
    .await;
}

#[tokio::test]
async fn a_disk_is_not_opened_again_while_anything_hangs_in_it() {
    let node = Node::warm().await;
    let image = node.store.image(KEY).unwrap();
    let reader = node.store.find(Key { image, extent: 3 }).unwrap();
    node.ills.moved.store(true, Ordering::SeqCst);
    node.store.check_place();
    assert_eq!(node.cause(), Some(Cause::Gone));
    assert!(!node.store.heal());
    assert!(
        node.store.read_wait(&reader, 65536, 0..512).is_none(),
        "what a disk out of use says is not served"
    );
    drop(reader);
    node.ills.moved.store(false, Ordering::SeqCst);
    assert!(node.store.heal());
    assert_eq!(
        (node.store.stats().resident, node.store.stats().unverified),
        (10, 10)
    );
    assert_eq!(node.read().await, 0);
}

#[tokio::test]
async fn a_forget_that_cannot_be_synced_is_not_done_and_can_be_asked_again() {
    let node = Node::warm().await;
    node.machine.fail_syncs(true);
    node.store.forget(KEY).await.unwrap_err();
    assert_eq!(node.cause(), Some(Cause::Sync));
    node.store.forget(KEY).await.unwrap_err();
    node.machine.fail_syncs(false);
    node.until(|node| node.store.heal()).await;
    node.store.forget(KEY).await.unwrap();
    assert_eq!(node.store.stats().resident, 0);
}

#[tokio::test]
async fn a_disk_that_fails_at_the_start_is_looked_for() {
    let ills = Arc::new(Ills::default());
    Ills::set(&ills.opens, Some(Errno::NODEV));
    let node = Node::with(ills);
    assert!(node.cause().is_some());
    node.passes_and_heals().await;
    assert_eq!(node.read().await, 10);
    node.until(|node| node.store.stats().resident == EXTENTS)
        .await;
}

#[tokio::test]
async fn the_scrubber_finds_rot_and_hashes_what_nobody_has() {
    let node = Node::warm().await;
    // Rot that no unclean stop gives away.
    node.disk.damage(65536 + 4 * EXTENT_BYTES + 99);
    let scrub = || {
        let read = (0..100).map_while(|slot| node.store.scrub(slot));
        read.sum::<u64>()
    };
    assert_eq!(scrub(), 9 * EXTENT_BYTES);
    let stats = node.store.stats();
    assert_eq!((stats.scrub_dropped, stats.resident), (1, 9));
    assert_eq!(stats.scrubbed_bytes, 9 * EXTENT_BYTES);
    assert_eq!(node.read().await, 1);
    node.until(|node| node.store.stats().resident == EXTENTS)
        .await;
    // Another disk in use: all of it is to be hashed.
    node.ills.moved.store(true, Ordering::SeqCst);
    node.store.check_place();
    assert_eq!(scrub(), 0, "nothing to scrub");
    node.store.heal();
    assert_eq!(node.store.stats().unverified, EXTENTS);
    scrub();
    assert_eq!(node.store.stats().unverified, 0);
}

#[tokio::test]
async fn the_scrubber_keeps_to_its_rate_and_yields_to_guests() {
    let node = Node::warm().await;
    let mut scrubber = crate::tend::Scrubber::new(0);
    scrubber.turn(&node.store, 3 * EXTENT_BYTES);
    assert_eq!(node.store.stats().scrubbed_bytes, 3 * EXTENT_BYTES);
    // Half a slot a turn: every other turn reads one.
    for turns in 1..=4 {
        scrubber.turn(&node.store, EXTENT_BYTES / 2);
        let read = node.store.stats().scrubbed_bytes / EXTENT_BYTES;
        assert_eq!(read, 3 + turns / 2);
    }
    node.ills.hang(true);
    let guest = {
        let cache = node.cache.clone();
        tokio::spawn(async move { cache.read(Span::new(0, 512), Class::Demand).await })
    };
    node.until(|node| node.store.stats().offloaded == 1).await;
    for _ in 0..8 {
        scrubber.turn(&node.store, 3 * EXTENT_BYTES);
    }
    assert_eq!(node.store.stats().scrubbed_bytes, 5 * EXTENT_BYTES);
    node.ills.hang(false);
    timeout(LIMIT, guest).await.unwrap().unwrap().unwrap();
    for _ in 0..20 {
        scrubber.turn(&node.store, 64 * EXTENT_BYTES);
    }
    assert!(node.store.stats().scrub_passes > 0);
}
