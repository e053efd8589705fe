//! Reads, writes, trims and flushes on a part of a disk, and what came of them.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::fs::{FallocateFlags, OFlags, fallocate};
use serde_json::{Value, json};

use crate::content::{BLOCK, Chance, Content, Known};

/// The most blocks of one command: 64 KiB.
const MOST_BLOCKS: u64 = 16;
/// What direct I/O wants of memory.
const ALIGNMENT: usize = 4096;
/// After an error: not to fill a console.
const AFTER_ERROR: Duration = Duration::from_millis(50);

/// A block device past the page cache.
pub(crate) struct Disk {
    path: String,
    file: File,
    seed: u64,
    blocks: u64,
}

impl Disk {
    pub(crate) fn open(path: &str, seed: u64) -> Result<Self> {
        let mut options = File::options();
        let direct = i32::try_from(OFlags::DIRECT.bits())?;
        let options = options.read(true).write(true).custom_flags(direct);
        let file = options.open(path).context(path.to_owned())?;
        let bytes = rustix::fs::seek(&file, rustix::fs::SeekFrom::End(0))?;
        Ok(Self {
            path: path.to_owned(),
            file,
            seed,
            blocks: bytes / BLOCK as u64,
        })
    }

    pub(crate) fn reopen(&self) -> Result<Self> {
        Self::open(&self.path, self.seed)
    }

    pub(crate) fn blocks(&self) -> u64 {
        self.blocks
    }
}

/// What all workers did.
pub(crate) struct Tally {
    began: Instant,
    reads: AtomicU64,
    writes: AtomicU64,
    trims: AtomicU64,
    flushes: AtomicU64,
    errors: AtomicU64,
    wrong_bytes: AtomicU64,
    /// The longest command that ended since the last look, in milliseconds; what still lasts counts too.
    longest: AtomicU64,
    /// The longest and shortest until an error.
    error_after: Mutex<Option<(u64, u64)>>,
    /// Of each worker since when its command is under way, in milliseconds and one; 0: none is.
    under_way: Vec<AtomicU64>,
    checks: Mutex<Checks>,
    checked: Condvar,
    ended: AtomicBool,
}

/// Every worker makes each check that was asked for.
struct Checks {
    asked: u64,
    /// Workers that have not made the last one.
    missing: usize,
}

impl Tally {
    pub(crate) fn new(workers: usize) -> Self {
        Self {
            began: Instant::now(),
            reads: AtomicU64::new(0),
            writes: AtomicU64::new(0),
            trims: AtomicU64::new(0),
            flushes: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            wrong_bytes: AtomicU64::new(0),
            longest: AtomicU64::new(0),
            error_after: Mutex::new(None),
            under_way: (0..workers).map(|_| AtomicU64::new(0)).collect(),
            checks: Mutex::new(Checks {
                asked: 0,
                missing: 0,
            }),
            checked: Condvar::new(),
            ended: AtomicBool::new(false),
        }
    }

    /// Lets every worker read all that is its own.
    pub(crate) fn check(&self) -> Result<()> {
        let mut checks = self.checks.lock().unwrap_or_else(PoisonError::into_inner);
        checks.asked += 1;
        checks.missing = self.under_way.len();
        let waited = self.checked.wait_while(checks, |checks| checks.missing > 0);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
        Ok(())
    }

    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }

    pub(crate) fn figures(&self) -> Value {
        let now = self.millis();
        let lasts = |began: &AtomicU64| match began.load(Ordering::Relaxed) {
            0 => 0,
            began => now.saturating_sub(began - 1),
        };
        let lasts = self.under_way.iter().map(lasts).max().unwrap_or_default();
        let longest = self.longest.swap(0, Ordering::Relaxed).max(lasts);
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let after = *self
            .error_after
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        json!({
            "reads": count(&self.reads),
            "writes": count(&self.writes),
            "trims": count(&self.trims),
            "flushes": count(&self.flushes),
            "errors": count(&self.errors),
            "wrong_bytes": count(&self.wrong_bytes),
            "longest_ms": longest,
            "first_error_after_ms": after.map(|(least, _)| least),
            "last_error_after_ms": after.map(|(_, most)| most),
        })
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Works on a part of the disk that is its own.
pub(crate) struct Worker {
    disk: Disk,
    tally: Arc<Tally>,
    number: usize,
    first: u64,
    known: Vec<Known>,
    chance: Chance,
    /// The last write's number.
    version: u32,
    memory: Vec<u8>,
    /// The last check that it made.
    checked: u64,
}

impl Worker {
    pub(crate) fn new(disk: Disk, tally: Arc<Tally>, number: usize, blocks: u64) -> Self {
        let first = number as u64 * blocks;
        let known = (0..blocks).map(|_| Known::Holds(Content::Image)).collect();
        let chance = Chance(disk.seed ^ first);
        let most = usize::try_from(MOST_BLOCKS).unwrap_or_default() * BLOCK;
        Self {
            disk,
            tally,
            number,
            first,
            known,
            chance,
            version: 0,
            memory: vec![0; most + ALIGNMENT],
            checked: 0,
        }
    }

    /// Goes on until the end is asked for.
    pub(crate) fn run(&mut self) {
        let tally = Arc::clone(&self.tally);
        while !tally.ended.load(Ordering::Relaxed) {
            self.check_if_asked(&tally);
            let here = self.known.len() as u64;
            let count = 1 + self.chance.below(MOST_BLOCKS.min(here));
            let at = self.chance.below(here - count + 1);
            match self.chance.below(20) {
                0 => self.flush(),
                1 => self.trim(at, count),
                2..=9 => self.write(at, count),
                _ => self.read(at, count),
            }
        }
    }

    fn check_if_asked(&mut self, tally: &Tally) {
        let asked = tally
            .checks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .asked;
        if asked == self.checked {
            return;
        }
        let here = self.known.len() as u64;
        let mut at = 0;
        while at < here {
            let count = MOST_BLOCKS.min(here - at);
            self.read(at, count);
            at += count;
        }
        self.checked = asked;
        let mut checks = tally.checks.lock().unwrap_or_else(PoisonError::into_inner);
        checks.missing = checks.missing.saturating_sub(1);
        tally.checked.notify_all();
    }

    fn read(&mut self, at: u64, count: u64) {
        let offset = (self.first + at) * BLOCK as u64;
        let read = self.command(count, |file, bytes| file.read_exact_at(bytes, offset));
        self.tally.reads.fetch_add(1, Ordering::Relaxed);
        if !read {
            return;
        }
        for block in at..at + count {
            let number = self.first + block;
            let (Some(bytes), Some(known)) = (
                piece(&self.memory, block - at),
                usize::try_from(block)
                    .ok()
                    .and_then(|block| self.known.get(block)),
            ) else {
                continue;
            };
            match known.read(self.disk.seed, number, bytes) {
                Some(known) => self.now(block, known),
                None => self.complain(number, bytes),
            }
        }
    }

    /// One wrong byte in a block is as bad as all: it counts as a whole.
    fn complain(&self, number: u64, bytes: &[u8]) {
        self.tally
            .wrong_bytes
            .fetch_add(bytes.len() as u64, Ordering::Relaxed);
        let found = bytes.get(..24).unwrap_or_default();
        eprintln!(
            "disk_work: block {number} is wrong, it begins {:?}",
            String::from_utf8_lossy(found)
        );
    }

    fn write(&mut self, at: u64, count: u64) {
        self.version += 1;
        let content = Content::Written(self.version);
        for block in 0..count {
            let (seed, number) = (self.disk.seed, self.first + at + block);
            if let Some(bytes) = piece_mut(&mut self.memory, block) {
                content.fill(seed, number, bytes);
            }
        }
        let offset = (self.first + at) * BLOCK as u64;
        let written = self.command(count, |file, bytes| file.write_all_at(bytes, offset));
        self.tally.writes.fetch_add(1, Ordering::Relaxed);
        self.put(at, count, content, written);
    }

    fn trim(&mut self, at: u64, count: u64) {
        let (offset, length) = ((self.first + at) * BLOCK as u64, count * BLOCK as u64);
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let trimmed = self.command(count, |file, _| Ok(fallocate(file, flags, offset, length)?));
        self.tally.trims.fetch_add(1, Ordering::Relaxed);
        self.put(at, count, Content::Trimmed, trimmed);
    }

    fn flush(&mut self) {
        self.command(0, |file, _| file.sync_data());
        self.tally.flushes.fetch_add(1, Ordering::Relaxed);
    }

    fn put(&mut self, at: u64, count: u64, content: Content, acknowledged: bool) {
        for block in at..at + count {
            let place = usize::try_from(block).unwrap_or(usize::MAX);
            if let Some(&known) = self.known.get(place) {
                self.now(block, known.put(content, acknowledged));
            }
        }
    }

    fn now(&mut self, block: u64, known: Known) {
        let place = usize::try_from(block).unwrap_or(usize::MAX);
        if let Some(place) = self.known.get_mut(place) {
            *place = known;
        }
    }

    /// Does one command and takes its time; true if it went well.
    fn command(
        &mut self,
        count: u64,
        command: impl FnOnce(&File, &mut [u8]) -> io::Result<()>,
    ) -> bool {
        let tally = &self.tally;
        let began = tally.millis();
        let Some(under_way) = tally.under_way.get(self.number) else {
            return false;
        };
        under_way.store(began + 1, Ordering::Relaxed);
        let length = usize::try_from(count).unwrap_or_default() * BLOCK;
        let done = match aligned(&mut self.memory, length) {
            Some(bytes) => command(&self.disk.file, bytes),
            None => Err(ErrorKind::OutOfMemory.into()),
        };
        let took = tally.millis().saturating_sub(began);
        under_way.store(0, Ordering::Relaxed);
        tally.longest.fetch_max(took, Ordering::Relaxed);
        let Err(error) = done else {
            return true;
        };
        eprintln!("disk_work: after {took} ms: {error}");
        tally.errors.fetch_add(1, Ordering::Relaxed);
        let mut after = tally
            .error_after
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let (least, most) = after.unwrap_or((took, took));
        *after = Some((least.min(took), most.max(took)));
        drop(after);
        thread::sleep(AFTER_ERROR);
        false
    }
}

fn start(memory: &[u8]) -> usize {
    memory.as_ptr().align_offset(ALIGNMENT)
}

fn aligned(memory: &mut [u8], length: usize) -> Option<&mut [u8]> {
    let start = start(memory);
    memory.get_mut(start..start.checked_add(length)?)
}

fn piece(memory: &[u8], block: u64) -> Option<&[u8]> {
    let start = start(memory) + usize::try_from(block).ok()? * BLOCK;
    memory.get(start..start + BLOCK)
}

fn piece_mut(memory: &mut [u8], block: u64) -> Option<&mut [u8]> {
    let start = start(memory) + usize::try_from(block).ok()? * BLOCK;
    memory.get_mut(start..start + BLOCK)
}
