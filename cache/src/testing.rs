//! A disk in memory whose machine can lose its power, die, run full or fail to sync.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::disk::Disk;

/// What the disks of one machine share.
#[derive(Debug, Default)]
pub(crate) struct Machine {
    power: Mutex<Power>,
}

#[derive(Debug, Default)]
struct Power {
    steps_left: Option<u64>,
    pages_left: Option<u64>,
    syncs_fail: bool,
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

    pub(crate) fn fail_syncs(&self, fail: bool) {
        lock(&self.power).syncs_fail = fail;
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
    image: Mutex<Image>,
}

#[derive(Clone, Debug, Default)]
struct Image {
    live: Vec<u8>,
    stored: BTreeSet<u64>,
    durable: Vec<u8>,
    pending: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Write(u64, Vec<u8>),
    Size(u64),
}

impl CrashDisk {
    pub(crate) fn new(machine: &Arc<Machine>) -> Arc<Self> {
        Arc::new(Self {
            machine: Arc::clone(machine),
            image: Mutex::default(),
        })
    }

    /// The disk as the next program of the same run of the machine finds it.
    pub(crate) fn after_kill(&self, machine: &Arc<Machine>) -> Arc<Self> {
        let image = lock(&self.image).clone();
        Arc::new(Self {
            machine: Arc::clone(machine),
            image: Mutex::new(image),
        })
    }

    /// The disk after the power came back: of what was not synced each sector may have arrived or not.
    pub(crate) fn after_power_loss(&self, machine: &Arc<Machine>, mut seed: u64) -> Arc<Self> {
        let image = lock(&self.image);
        let mut bytes = image.durable.clone();
        let mut coin = || {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            seed >> 63 == 1
        };
        for change in &image.pending {
            match change {
                Change::Size(size) if coin() => bytes.resize(index(*size), 0),
                Change::Size(_) => {}
                Change::Write(offset, written) => {
                    for (at, sector) in (*offset..).step_by(512).zip(written.chunks(512)) {
                        if coin() {
                            put(&mut bytes, at, sector);
                        }
                    }
                }
            }
        }
        let stored = (0..bytes.len() as u64 / 4096 + 1).collect();
        let image = Image {
            live: bytes.clone(),
            stored,
            durable: bytes,
            pending: Vec::new(),
        };
        Arc::new(Self {
            machine: Arc::clone(machine),
            image: Mutex::new(image),
        })
    }

    /// Turns a byte over, on media too.
    pub(crate) fn damage(&self, offset: u64) {
        let mut image = lock(&self.image);
        let at = index(offset);
        image.live[at] ^= 0xff;
        if let Some(byte) = image.durable.get_mut(at) {
            *byte ^= 0xff;
        }
    }

    fn change(&self, change: Change) {
        let mut image = lock(&self.image);
        match &change {
            Change::Write(offset, bytes) => put(&mut image.live, *offset, bytes),
            Change::Size(size) => {
                image.live.resize(index(*size), 0);
                image.stored.retain(|page| page * 4096 < *size);
            }
        }
        image.pending.push(change);
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
        let pages = offset / 4096..(offset + bytes.len() as u64).div_ceil(4096);
        let fresh = {
            let image = lock(&self.image);
            pages
                .clone()
                .filter(|page| !image.stored.contains(page))
                .count() as u64
        };
        self.machine.take_pages(fresh)?;
        lock(&self.image).stored.extend(pages);
        self.change(Change::Write(offset, bytes.to_vec()));
        Ok(())
    }

    fn write_now(&self, offset: u64, bytes: &[u8]) -> bool {
        self.write_at(offset, bytes).is_ok()
    }

    fn sync(&self) -> io::Result<()> {
        self.machine.step()?;
        if lock(&self.machine.power).syncs_fail {
            return Err(io::Error::other("sync failed"));
        }
        let mut image = lock(&self.image);
        image.durable = image.live.clone();
        image.pending.clear();
        Ok(())
    }

    fn set_size(&self, bytes: u64) -> io::Result<()> {
        self.machine.step()?;
        self.change(Change::Size(bytes));
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
        self.change(Change::Write(offset, vec![0; index(length)]));
        let pages = offset / 4096..(offset + length) / 4096;
        lock(&self.image)
            .stored
            .retain(|page| !pages.contains(page));
        Ok(())
    }

    fn next_stored(&self, offset: u64) -> io::Result<Option<u64>> {
        let image = lock(&self.image);
        let page = image.stored.range(offset / 4096..).next();
        Ok(page.map(|page| (page * 4096).max(offset)))
    }
}

fn put(bytes: &mut Vec<u8>, offset: u64, written: &[u8]) {
    let (from, to) = (index(offset), index(offset) + written.len());
    if bytes.len() < to {
        bytes.resize(to, 0);
    }
    bytes[from..to].copy_from_slice(written);
}

fn index(offset: u64) -> usize {
    usize::try_from(offset).unwrap()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
