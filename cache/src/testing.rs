//! A disk in memory whose machine can lose its power, die, run full, fail to write or fail to sync.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::disk::Disk;

/// What the disks of one machine share.
#[derive(Debug, Default)]
pub(crate) struct Machine {
    power: Mutex<Power>,
    journal: Mutex<Option<Vec<(usize, Event)>>>,
}

#[derive(Default)]
struct Power {
    steps_left: Option<u64>,
    pages_left: Option<u64>,
    writes_left: Option<u64>,
    half_arrives: bool,
    syncs_fail: bool,
    during_sync: Option<Box<dyn FnOnce() + Send>>,
}

impl fmt::Debug for Power {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Power")
            .field("steps_left", &self.steps_left)
            .finish_non_exhaustive()
    }
}

impl Machine {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The power goes off after so many more changes.
    pub(crate) fn cut_after(&self, steps: u64) {
        lock(&self.power).steps_left = Some(steps);
    }

    /// True if it went off.
    pub(crate) fn is_off(&self) -> bool {
        lock(&self.power).steps_left == Some(0)
    }

    /// So many pages of 4 KiB can be written that were not before.
    pub(crate) fn leave_pages(&self, pages: Option<u64>) {
        lock(&self.power).pages_left = pages;
    }

    /// After so many more writes they fail, and the first half of what they were to write arrives or nothing.
    pub(crate) fn leave_writes(&self, writes: Option<u64>, half_arrives: bool) {
        let mut power = lock(&self.power);
        power.writes_left = writes;
        power.half_arrives = half_arrives;
    }

    /// A sync that fails forgets what it could not bring to media, as kernels do.
    pub(crate) fn fail_syncs(&self, fail: bool) {
        lock(&self.power).syncs_fail = fail;
    }

    /// Does something while the next sync is under way, too late to be covered by it.
    pub(crate) fn during_sync(&self, what: impl FnOnce() + Send + 'static) {
        lock(&self.power).during_sync = Some(Box::new(what));
    }

    /// Does what was to be done during a sync.
    pub(crate) fn meanwhile(&self) {
        let what = lock(&self.power).during_sync.take();
        if let Some(what) = what {
            what();
        }
    }

    /// Writes down what is done to the disks from now on.
    pub(crate) fn start_journal(&self) {
        *lock(&self.journal) = Some(Vec::new());
    }

    /// What was done, in order, each with the number of its disk.
    pub(crate) fn take_journal(&self) -> Vec<(usize, Event)> {
        lock(&self.journal).take().unwrap_or_default()
    }

    fn note(&self, disk: usize, event: &Event) {
        if let Some(journal) = lock(&self.journal).as_mut() {
            journal.push((disk, event.clone()));
        }
    }

    fn step(&self) -> io::Result<()> {
        let mut power = lock(&self.power);
        match &mut power.steps_left {
            Some(0) => Err(io::Error::other("the power is off")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// How much of a write is done.
    fn take_write(&self, bytes: usize) -> usize {
        let mut power = lock(&self.power);
        let half_arrives = power.half_arrives;
        match &mut power.writes_left {
            Some(0) if half_arrives => bytes / 1024 * 512,
            Some(0) => 0,
            Some(left) => {
                *left -= 1;
                bytes
            }
            None => bytes,
        }
    }

    fn take_pages(&self, pages: u64) -> io::Result<()> {
        match &mut lock(&self.power).pages_left {
            Some(left) if *left < pages => Err(io::ErrorKind::StorageFull.into()),
            Some(left) => {
                *left -= pages;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

/// A file with what it holds now and what is on media.
#[derive(Debug)]
pub(crate) struct CrashDisk {
    machine: Arc<Machine>,
    number: usize,
    image: Mutex<Image>,
}

/// The bytes of a file: as programs read them, as they are on media, and what lies between.
#[derive(Clone, Debug, Default)]
pub(crate) struct Image {
    live: Vec<u8>,
    stored: BTreeSet<u64>,
    durable: Vec<u8>,
    pending: Vec<Event>,
}

/// Something done to a disk.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Write(u64, Arc<[u8]>),
    Size(u64),
    Punch(u64, u64),
    Sync,
    /// A sync failed: of what was not on media some sectors are now, and the rest is forgotten.
    FailedSync,
    /// What programs read is what is on media, or still on its way.
    PagesDropped,
}

/// What of the unsynced changes has arrived when the power goes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Arrival {
    Nothing,
    Everything,
    /// Each sector by itself: writes torn inside, and overtaken by later ones.
    Sectors(u64),
    /// The newest changes, none of the older.
    Newest(u64),
    /// The oldest changes, and a part of the next.
    Oldest(u64),
}

impl Image {
    /// The file after something more was done to it.
    pub(crate) fn apply(&mut self, event: &Event) {
        match event {
            Event::Write(offset, bytes) => {
                put(&mut self.live, *offset, bytes);
                self.stored.extend(pages(*offset, bytes.len() as u64));
            }
            Event::Punch(offset, length) => {
                put(&mut self.live, *offset, &vec![0; index(*length)]);
                let punched = offset.div_ceil(4096)..(offset + length) / 4096;
                self.stored.retain(|page| !punched.contains(page));
            }
            Event::Size(size) => {
                self.live.resize(index(*size), 0);
                self.stored.retain(|page| page * 4096 < *size);
            }
            Event::Sync => {
                self.durable = self.arrived(Arrival::Everything);
                return self.pending.clear();
            }
            Event::FailedSync => {
                self.durable = self.arrived(Arrival::Sectors(self.pending.len() as u64));
                return self.pending.clear();
            }
            Event::PagesDropped => {
                self.live = self.arrived(Arrival::Everything);
                return;
            }
        }
        self.pending.push(event.clone());
    }

    /// The file after the power came back.
    pub(crate) fn after_power_loss(&self, arrival: Arrival) -> Self {
        let bytes = self.arrived(arrival);
        Self {
            stored: (0..bytes.len() as u64 / 4096 + 1).collect(),
            live: bytes.clone(),
            durable: bytes,
            pending: Vec::new(),
        }
    }

    fn arrived(&self, arrival: Arrival) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        let mut dice = Dice(match arrival {
            Arrival::Nothing | Arrival::Everything => 0,
            Arrival::Sectors(seed) | Arrival::Newest(seed) | Arrival::Oldest(seed) => seed,
        });
        let border = index(dice.below(self.pending.len() as u64 + 1));
        for (at, event) in self.pending.iter().enumerate() {
            let mut arrives = || match arrival {
                Arrival::Nothing => false,
                Arrival::Everything => true,
                Arrival::Sectors(_) => dice.below(2) == 1,
                Arrival::Newest(_) => at >= border,
                Arrival::Oldest(_) => at < border || (at == border && dice.below(2) == 1),
            };
            match event {
                Event::Write(offset, written) => {
                    for (at, sector) in (*offset..).step_by(512).zip(written.chunks(512)) {
                        if arrives() {
                            put(&mut bytes, at, sector);
                        }
                    }
                }
                Event::Punch(offset, length) if arrives() => {
                    put(&mut bytes, *offset, &vec![0; index(*length)]);
                }
                Event::Size(size) if arrives() => bytes.resize(index(*size), 0),
                _ => {}
            }
        }
        bytes
    }
}

impl CrashDisk {
    pub(crate) fn new(machine: &Arc<Machine>) -> Arc<Self> {
        Self::holding(machine, 0, Image::default())
    }

    /// A disk of that number in its machine's journal.
    pub(crate) fn holding(machine: &Arc<Machine>, number: usize, image: Image) -> Arc<Self> {
        Arc::new(Self {
            machine: Arc::clone(machine),
            number,
            image: Mutex::new(image),
        })
    }

    /// The file as it is.
    pub(crate) fn image(&self) -> Image {
        lock(&self.image).clone()
    }

    /// The disk as the next program of the same run of the machine finds it.
    pub(crate) fn after_kill(&self, machine: &Arc<Machine>) -> Arc<Self> {
        Self::holding(machine, self.number, self.image())
    }

    /// The disk after the power came back: of what was not synced each sector may have arrived or not.
    pub(crate) fn after_power_loss(&self, machine: &Arc<Machine>, seed: u64) -> Arc<Self> {
        let image = lock(&self.image).after_power_loss(Arrival::Sectors(seed));
        Self::holding(machine, self.number, image)
    }

    /// Turns a byte over, on media too.
    pub(crate) fn damage(&self, offset: u64) {
        let mut image = lock(&self.image);
        image.apply(&Event::Sync);
        let at = index(offset);
        image.live[at] ^= 0xff;
        image.durable[at] ^= 0xff;
    }

    fn change(&self, event: &Event) {
        self.machine.note(self.number, event);
        lock(&self.image).apply(event);
    }
}

impl Disk for CrashDisk {
    fn size(&self) -> io::Result<u64> {
        Ok(lock(&self.image).live.len() as u64)
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let image = lock(&self.image);
        let from = image.live.get(index(offset)..index(offset) + into.len());
        into.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn read_now(&self, offset: u64, into: &mut [u8]) -> bool {
        self.read_at(offset, into).is_ok()
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.machine.step()?;
        let done = self.machine.take_write(bytes.len());
        if done < bytes.len() {
            if done > 0 {
                self.change(&Event::Write(offset, bytes[..done].into()));
            }
            return Err(io::Error::other("write failed"));
        }
        let fresh = {
            let image = lock(&self.image);
            pages(offset, bytes.len() as u64)
                .filter(|page| !image.stored.contains(page))
                .count() as u64
        };
        self.machine.take_pages(fresh)?;
        self.change(&Event::Write(offset, bytes.into()));
        Ok(())
    }

    fn write_now(&self, offset: u64, bytes: &[u8]) -> bool {
        self.write_at(offset, bytes).is_ok()
    }

    fn sync(&self) -> io::Result<()> {
        self.machine.step()?;
        let fails = lock(&self.machine.power).syncs_fail;
        self.change(if fails {
            &Event::FailedSync
        } else {
            &Event::Sync
        });
        self.machine.meanwhile();
        if fails {
            return Err(io::Error::other("sync failed"));
        }
        Ok(())
    }

    fn drop_pages(&self) -> io::Result<()> {
        self.change(&Event::PagesDropped);
        Ok(())
    }

    fn set_size(&self, bytes: u64) -> io::Result<()> {
        self.machine.step()?;
        self.change(&Event::Size(bytes));
        Ok(())
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        let size = self.size()?;
        let wanted = bytes.saturating_sub(size).div_ceil(4096);
        let room = lock(&self.machine.power).pages_left;
        if room.is_none_or(|left| left >= wanted) {
            return self.set_size(bytes);
        }
        // As file systems do: what was there is taken, and kept.
        self.set_size(size.midpoint(bytes))?;
        Err(io::ErrorKind::StorageFull.into())
    }

    fn punch(&self, offset: u64, length: u64) -> io::Result<()> {
        self.machine.step()?;
        self.change(&Event::Punch(offset, length));
        Ok(())
    }

    fn next_stored(&self, offset: u64) -> io::Result<Option<u64>> {
        let image = lock(&self.image);
        let page = image.stored.range(offset / 4096..).next();
        Ok(page.map(|page| (page * 4096).max(offset)))
    }
}

/// Numbers from a seed (SplitMix64).
#[derive(Clone, Debug)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Less than `end`, which is not zero.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.roll() % end
    }
}

fn put(bytes: &mut Vec<u8>, offset: u64, written: &[u8]) {
    let (from, to) = (index(offset), index(offset) + written.len());
    if bytes.len() < to {
        bytes.resize(to, 0);
    }
    bytes[from..to].copy_from_slice(written);
}

fn pages(offset: u64, length: u64) -> Range<u64> {
    offset / 4096..(offset + length).div_ceil(4096)
}

fn index(offset: u64) -> usize {
    usize::try_from(offset).unwrap()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
