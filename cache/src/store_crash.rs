//! Crash runs of the store: it serves what was the extent's or nothing, still has after a kill what it had, and after
//! a loss of power what it had when it was closed.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use super::Store;
use crate::ImageKey;
use crate::crash::{Cut, Verdict, cut_at, leave};
use crate::disk::{BootId, Disk};
use crate::map::Key;
use crate::testing::{Arrival, CrashDisk, Dice, Event, Image, Machine};

const STEPS: u64 = 40;
const IMAGES: u8 = 3;
const EXTENTS: u32 = 6;
/// Room for a table and five slots, or four.
const SIZES: [u64; 2] = [65536 * 6, 65536 * 5];
/// Or ten and nine, whose entries lie in two sectors.
const LARGE_SIZES: [u64; 2] = [65536 * 11, 65536 * 10];

/// An extent of an image.
type Name = (u8, u32);

struct Run {
    machine: Arc<Machine>,
    disk: Arc<CrashDisk>,
    images: Vec<Image>,
    boot: u8,
    sizes: [u64; 2],
    size: u64,
    dice: Dice,
    versions: [u8; IMAGES as usize],
    /// What the store must still have after a kill: filled, or seen to be good, since the last loss of power.
    sure: BTreeSet<Name>,
    /// What it must still have after a loss of power.
    safe: BTreeSet<Name>,
    /// What is done next, without trouble, after something failed.
    next: Option<Step>,
    verdict: Verdict,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Fill(Name),
    Read(Name),
    ReadAll,
    Forget(u8),
    Close { size: u64 },
    Kill,
    PowerLoss,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    None,
    Full(u64),
    BadWrites(u64, bool),
    BadSyncs,
}

/// One run from a seed.
pub(crate) fn run(seed: u64) -> Verdict {
    let mut run = Run::new(seed);
    let outcome = run.go();
    run.verdict.violation = outcome.err().map(|what| format!("store: {what}"));
    run.verdict
}

impl Run {
    fn new(seed: u64) -> Self {
        let machine = Machine::new();
        let disk = CrashDisk::new(&machine);
        let sizes = if seed % 4 == 3 { LARGE_SIZES } else { SIZES };
        Self {
            images: vec![disk.image()],
            machine,
            disk,
            boot: 1,
            sizes,
            size: sizes[0],
            dice: Dice(seed),
            versions: [0; IMAGES as usize],
            sure: BTreeSet::new(),
            safe: BTreeSet::new(),
            next: None,
            verdict: Verdict::default(),
        }
    }

    fn go(&mut self) -> Result<(), String> {
        let mut store = self.open()?;
        for number in 0..STEPS {
            let (step, trouble) = self.next_step();
            let at = |what| format!("step {number}, {step:?} with {trouble:?}: {what}");
            store = self.step(store, step, trouble).map_err(at)?;
        }
        Ok(())
    }

    fn next_step(&mut self) -> (Step, Trouble) {
        if let Some(step) = self.next.take() {
            return (step, Trouble::None);
        }
        let image = u8::try_from(self.dice.below(IMAGES.into())).unwrap();
        let name = (
            image,
            u32::try_from(self.dice.below(EXTENTS.into())).unwrap(),
        );
        let size = self.sizes[usize::from(self.dice.below(5) == 0)];
        let step = match self.dice.below(20) {
            0..=9 => Step::Fill(name),
            10 => Step::Read(name),
            11..=12 => Step::ReadAll,
            13..=14 => Step::Forget(image),
            15..=17 => Step::Close { size },
            18 => Step::Kill,
            _ => Step::PowerLoss,
        };
        let trouble = match self.dice.below(12) {
            0 => Trouble::Full(self.dice.below(3)),
            1 => Trouble::BadWrites(self.dice.below(3), self.dice.below(2) == 0),
            2 => Trouble::BadSyncs,
            _ => Trouble::None,
        };
        (step, trouble)
    }

    fn step(
        &mut self,
        store: Arc<Store>,
        step: Step,
        trouble: Trouble,
    ) -> Result<Arc<Store>, String> {
        match trouble {
            Trouble::None => {}
            Trouble::Full(pages) => self.machine.leave_pages(Some(pages)),
            Trouble::BadWrites(writes, half) => {
                self.machine.leave_writes(Some(writes), half);
            }
            Trouble::BadSyncs => self.machine.fail_syncs(true),
        }
        let held = names().filter(|name| store.holds(key(&store, *name)));
        let held: BTreeSet<Name> = held.collect();
        self.machine.start_journal();
        let done = match step {
            Step::Fill(name) => {
                store.fill(key(&store, name), &content(name, &self.versions));
                Ok(())
            }
            Step::Read(name) => self.read(&store, [name]),
            Step::ReadAll => self.read(&store, names()),
            Step::Forget(image) => store
                .forget_now(key_of(image))
                .map(drop)
                .map_err(|error| error.to_string()),
            Step::Close { .. } => store.close_now().map_err(|error| error.to_string()),
            Step::Kill | Step::PowerLoss => Ok(()),
        };
        self.machine.leave_pages(None);
        self.machine.leave_writes(None, false);
        self.machine.fail_syncs(false);
        // What went during the step may be gone at any time of it.
        let holds = |name: &Name| store.holds(key(&store, *name));
        // A closed store shows nothing, and has lost nothing.
        if !matches!(step, Step::Close { .. }) {
            self.sure.retain(holds);
            self.safe.retain(holds);
        }
        self.check_cuts()?;
        match (step, done) {
            (Step::Read(_) | Step::ReadAll, Err(what)) => return Err(what),
            (_, Err(what)) if trouble == Trouble::None => {
                return Err(format!("unexpected: {what}"));
            }
            (Step::Fill(name), _) if !held.contains(&name) && holds(&name) => {
                self.sure.insert(name);
            }
            (Step::Fill(_), _) if trouble != Trouble::None => {
                let close = Step::Close { size: self.size };
                self.next = (self.dice.below(2) == 0).then_some(close);
            }
            (Step::Forget(_), Err(_)) if trouble != Trouble::BadSyncs => self.next = Some(step),
            // From here on the image may have other content.
            (Step::Forget(image), Ok(())) => self.versions[usize::from(image)] += 1,
            (Step::Close { .. }, Ok(())) => self.safe.clone_from(&self.sure),
            // The store stops using a disk that failed to sync, and finds it as it is.
            (_, Err(_)) if trouble == Trouble::BadSyncs => return self.restart(store, Step::Kill),
            _ => {}
        }
        self.restart(store, step)
    }

    fn read(
        &mut self,
        store: &Arc<Store>,
        names: impl IntoIterator<Item = Name>,
    ) -> Result<(), String> {
        for name in names {
            if serve(store, name, &content(name, &self.versions))? {
                self.sure.insert(name);
            }
        }
        Ok(())
    }

    /// Opens the store again if the step asks for it.
    fn restart(&mut self, store: Arc<Store>, step: Step) -> Result<Arc<Store>, String> {
        let cut = match step {
            Step::Close { .. } | Step::Kill => Cut::Kill,
            Step::PowerLoss => Cut::PowerLoss(Arrival::Sectors(self.dice.roll())),
            _ => return Ok(store),
        };
        drop(store);
        if let Step::Close { size } = step
            && size != self.size
        {
            self.size = size;
            self.sure.clear();
            self.safe.clear();
        }
        if matches!(cut, Cut::PowerLoss(_)) {
            self.boot += 1;
            self.sure.clone_from(&self.safe);
        }
        self.images = leave(&self.images, cut)
            .iter()
            .map(|disk| disk.image())
            .collect();
        self.machine = Machine::new();
        self.disk = CrashDisk::holding(&self.machine, 0, self.images[0].clone());
        self.open()
    }

    fn open(&mut self) -> Result<Arc<Store>, String> {
        self.machine.start_journal();
        let store = open(&self.disk, self.size, self.boot);
        self.check_cuts()?;
        store
    }

    fn check_cuts(&mut self) -> Result<(), String> {
        let journal = self.machine.take_journal();
        for (at, entry) in journal.iter().enumerate() {
            let Self {
                images,
                dice,
                verdict,
                boot,
                size,
                versions,
                sure,
                safe,
                ..
            } = self;
            let check = |cut, mut disks: Vec<Arc<CrashDisk>>| {
                let (boot, must) = match cut {
                    Cut::Kill => (*boot, &*sure),
                    Cut::PowerLoss(_) => (*boot + 1, &*safe),
                };
                check(
                    disks.remove(0),
                    *size,
                    boot,
                    |name| content(name, versions),
                    must,
                )
            };
            cut_at(images, entry, dice, verdict, check)
                .map_err(|what| format!("event {at} of {}: {what}", journal.len()))?;
            if matches!(entry.1, Event::FailedSync) {
                // Harmless for a cache: what is not on media is fetched again.
                self.sure.clear();
                self.safe.clear();
            }
        }
        Ok(())
    }
}

/// What opens after a crash; once read by everybody at once, and once only after it was closed and opened again.
fn check(
    disk: Arc<CrashDisk>,
    size: u64,
    boot: u8,
    content: impl Fn(Name) -> Bytes,
    must: &BTreeSet<Name>,
) -> Result<(), String> {
    let unread = CrashDisk::holding(&Machine::new(), 0, disk.image());
    for (disk, closed_first) in [(disk, false), (unread, true)] {
        let mut store = open(&disk, size, boot)?;
        if closed_first {
            store.close_now().map_err(|error| error.to_string())?;
            drop(store);
            store = open(&disk, size, boot)?;
        }
        for name in names() {
            let served = serve(&store, name, &content(name))?;
            if !served && must.contains(&name) {
                return Err(format!("{name:?} is lost"));
            }
        }
    }
    Ok(())
}

fn open(disk: &Arc<CrashDisk>, size: u64, boot: u8) -> Result<Arc<Store>, String> {
    let disk: Arc<dyn Disk> = Arc::clone(disk) as _;
    Store::assemble(disk, size, BootId([boot; 16])).map_err(|error| error.to_string())
}

/// True if the store serves the extent; an error if it serves something else.
fn serve(store: &Arc<Store>, name: Name, content: &Bytes) -> Result<bool, String> {
    let length = u32::try_from(content.len()).unwrap();
    let found = store.find(key(store, name));
    let served = found.and_then(|found| store.read_wait(&found, length, 0..content.len()));
    match served {
        None => Ok(false),
        Some(bytes) if bytes == *content => Ok(true),
        Some(_) => Err(format!("{name:?} reads as what it is not")),
    }
}

fn names() -> impl Iterator<Item = Name> {
    (0..IMAGES).flat_map(|image| (0..EXTENTS).map(move |extent| (image, extent)))
}

fn key(store: &Store, (image, extent): Name) -> Key {
    let image = store.image(key_of(image)).unwrap();
    Key { image, extent }
}

fn key_of(image: u8) -> ImageKey {
    ImageKey([image + 1; 32])
}

/// Every sector different; the last extent of an image is short.
fn content((image, extent): Name, versions: &[u8]) -> Bytes {
    let sectors = if extent == EXTENTS - 1 { 3 } else { 128_u16 };
    let version = versions[usize::from(image)];
    let mut bytes = Vec::new();
    for sector in 0..sectors {
        let [low, high] = sector.to_le_bytes();
        let tag = [
            image,
            u8::try_from(extent).unwrap(),
            version,
            77,
            low,
            high,
            0,
            0,
        ];
        bytes.extend_from_slice(&tag.repeat(64));
    }
    bytes.into()
}
