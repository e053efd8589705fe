//! What an open overlay does with its files; everything here may wait for the disk.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use vmthunder_volume::{BlockSize, Error, Geometry, Result, Span};
use zerocopy::IntoBytes;

use super::files::Files;
use super::format::{Change, Header, MAP_START, Record, SECTOR_BYTES, UNIT_BYTES};
use super::log::{Log, Position};
use super::masks::{Masks, PAGE_BYTES, RAW_PAGE_BYTES, RawPage, Source, blank_page};
use super::{Lack, OverlayError};
use crate::disk::{BootId, Disk};
use crate::fault::{self, Fault};

/// An open overlay without its base.
#[derive(Debug)]
pub(super) struct State {
    files: Files,
    geometry: Geometry,
    sectors: Mutex<Sectors>,
    /// Raised after the bytes of a change are written and before it is acknowledged.
    changes: AtomicU64,
    /// How many changes the last flush covered; held by the flush under way.
    flushed: Arc<tokio::sync::Mutex<u64>>,
    fenced: AtomicBool,
    /// The most bytes that `data` may take on disk; [`u64::MAX`] for all that there are.
    quota: AtomicU64,
    /// What the last write that needed space did not get.
    lack: AtomicU8,
}

/// Masks and log change together, under one lock: the log repeats the order in which the masks changed.
#[derive(Debug)]
struct Sectors {
    masks: Masks,
    log: Log,
}

impl State {
    /// Opens the overlay in `files`, in this run of the machine.
    pub(super) fn open(
        files: Files,
        boot: BootId,
    ) -> std::result::Result<(Self, Header), OverlayError> {
        let header = files.header()?;
        let geometry = Geometry::of_bytes(header.block_size, header.bytes);
        let mut masks = Masks::new(header.base_bytes, header.block_size == BlockSize::B4096);
        if !Log::speaks(files.recent.as_ref(), boot)? && !fault::made(Fault::PagesBelieved) {
            // Perhaps because a sync failed: the page cache may hold what the kernel will never write again.
            files.data.drop_pages()?;
            files.map.drop_pages()?;
        }
        load(&files, &header, &mut masks)?;
        let log = Log::open(Arc::clone(&files.recent), boot, |record| {
            let span = Span::new(
                record.sector.saturating_mul(SECTOR_BYTES),
                u64::from(record.sectors) * SECTOR_BYTES,
            );
            let fits = geometry.check(span).is_ok();
            if fits {
                masks.apply(record);
            }
            fits
        })?;
        let state = Self {
            files,
            geometry,
            sectors: Mutex::new(Sectors { masks, log }),
            // What a program before this one wrote may not be on media: the first flush is never idle.
            changes: AtomicU64::new(u64::from(!fault::made(Fault::OpenCountsAsFlushed))),
            flushed: Arc::default(),
            fenced: AtomicBool::new(false),
            quota: AtomicU64::new(u64::MAX),
            lack: AtomicU8::new(NOTHING),
        };
        Ok((state, header))
    }

    /// Size and block size.
    pub(super) fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// An error once a flush has failed.
    pub(super) fn check_fence(&self) -> Result<()> {
        if self.fenced.load(Ordering::Acquire) {
            Err(Error::Fenced)
        } else {
            Ok(())
        }
    }

    /// Sets the most bytes that own blocks may take on disk.
    pub(super) fn set_quota(&self, bytes: u64) {
        self.quota.store(bytes, Ordering::Relaxed);
        if self.stored() < bytes && self.lacks() == Some(Lack::Quota) {
            self.lack.store(NOTHING, Ordering::Relaxed);
        }
    }

    /// What the last write that needed space did not get.
    pub(super) fn lacks(&self) -> Option<Lack> {
        match self.lack.load(Ordering::Relaxed) {
            DISK => Some(Lack::Disk),
            QUOTA => Some(Lack::Quota),
            _ => None,
        }
    }

    /// Notes what became of a write. `fresh` if it needed space.
    fn note_room(&self, fresh: bool, done: &Result<()>) {
        let lack = match done {
            Err(Error::NoSpace) => DISK,
            Err(Error::Quota) => QUOTA,
            Ok(()) if fresh => NOTHING,
            _ => return,
        };
        self.lack.store(lack, Ordering::Relaxed);
    }

    /// What own blocks take on disk.
    pub(super) fn stored(&self) -> u64 {
        stored(self.files.data.as_ref())
    }

    /// The files, and the masks that say what of them counts.
    pub(super) fn files(&self) -> &Files {
        &self.files
    }

    /// The numbers of the pages of masks that say something.
    pub(super) fn page_numbers(&self) -> Vec<u64> {
        self.lock().masks.numbers()
    }

    /// A page of masks as it would stand in `map`.
    pub(super) fn raw_page(&self, page: u64) -> Option<Box<RawPage>> {
        self.lock().masks.raw_page(page)
    }

    /// Refuses a write that would take more space than there may be. Blocks that are own already have theirs.
    fn check_quota(&self, span: Span) -> Result<()> {
        let quota = self.quota.load(Ordering::Relaxed);
        if quota == u64::MAX {
            return Ok(());
        }
        let runs = self.runs(span);
        let taken = runs.iter().filter(|(source, _)| *source != Source::Own);
        let taken: u64 = taken.map(|(_, run)| run.length()).sum();
        let after = self
            .stored()
            .saturating_add(taken.next_multiple_of(UNIT_BYTES));
        match taken > 0 && after > quota {
            true => Err(Error::Quota),
            false => Ok(()),
        }
    }

    /// Where the bytes of a span come from.
    pub(super) fn runs(&self, span: Span) -> Vec<(Source, Span)> {
        self.lock().masks.runs(span).collect()
    }

    /// Where the first bytes of a span come from, and how far that goes.
    pub(super) fn first_run(&self, span: Span) -> Option<(Source, Span)> {
        self.lock().masks.runs(span).next()
    }

    /// Reads own bytes if that needs no waiting.
    pub(super) fn read_now(&self, offset: u64, into: &mut [u8]) -> bool {
        self.files.data.read_now(offset, into)
    }

    /// Reads own bytes.
    pub(super) fn read_wait(&self, offset: u64, into: &mut [u8]) -> Result<()> {
        Ok(self.files.data.read_at(offset, into)?)
    }

    /// Writes blocks if that needs no waiting; false if it was not done, or in part.
    pub(super) fn write_now(&self, offset: u64, bytes: &[u8]) -> bool {
        let span = Span::new(offset, bytes.len() as u64);
        let own = |state: &Self| state.first_run(span) == Some((Source::Own, span));
        if !own(self) {
            return self.write_fresh_now(span, bytes);
        }
        // Looked at again afterwards: a trim that came between has made the blocks zeros, and must be undone.
        let done = self.files.data.write_now(offset, bytes) && own(self);
        if done && !fault::made(Fault::InPlaceNotCounted) {
            self.changes.fetch_add(1, Ordering::AcqRel);
        }
        done
    }

    /// The same where the masks change, unless space has to be counted or the log shortened first.
    fn write_fresh_now(&self, span: Span, bytes: &[u8]) -> bool {
        let is_limited = self.quota.load(Ordering::Relaxed) != u64::MAX;
        if is_limited || span.length() > CHANGE_BYTES || fault::made(Fault::RecordBeforeData) {
            return false;
        }
        let is_long = self.lock().log.length() > LOG_LIMIT;
        if is_long || !self.files.data.write_now(span.offset(), bytes) {
            return false;
        }
        let Ok(record) = record(span, Change::Own) else {
            return false;
        };
        let noted = self.note(record, |log| log.append_now(record));
        if noted {
            self.changes.fetch_add(1, Ordering::AcqRel);
            self.note_room(true, &Ok(()));
        }
        noted
    }

    /// Writes blocks: the data first, then the masks that name it.
    pub(super) fn write_wait(&self, offset: u64, bytes: &Bytes) -> Result<()> {
        self.check_fence()?;
        let span = Span::new(offset, bytes.len() as u64);
        let fresh = self.first_run(span) != Some((Source::Own, span));
        let done = self.write_span(span, bytes);
        self.note_room(fresh, &done);
        done
    }

    fn write_span(&self, span: Span, bytes: &Bytes) -> Result<()> {
        self.check_quota(span)?;
        if fault::made(Fault::RecordBeforeData) {
            self.change(span, Change::Own)?;
        }
        if let Err(error) = self.files.data.write_at(span.offset(), bytes) {
            self.count_failed();
            return Err(error.into());
        }
        self.change(span, Change::Own)
    }

    /// Makes blocks zeros, and gives their space back as far as it goes.
    pub(super) fn trim(&self, span: Span) -> Result<()> {
        self.check_fence()?;
        self.change(span, Change::Zero)?;
        let from = span.offset().next_multiple_of(UNIT_BYTES);
        let to = span.end() - span.end() % UNIT_BYTES;
        if to > from {
            // The masks say zeros already: a file system that cannot punch only keeps the space.
            self.files.data.punch(from, to - from).ok();
        }
        Ok(())
    }

    /// The number of changes so far, for [`flush`](Self::flush).
    pub(super) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Whoever flushes; the number is how many changes are on media.
    pub(super) fn flushed(&self) -> Arc<tokio::sync::Mutex<u64>> {
        Arc::clone(&self.flushed)
    }

    /// Brings at least the first `wanted` changes to media, unless a flush that just ended did.
    pub(super) fn flush(&self, flushed: &mut u64, wanted: u64) -> Result<()> {
        self.check_fence()?;
        if *flushed >= wanted {
            return Ok(());
        }
        let covered = self.changes();
        if fault::made(Fault::MasksAfterSync) {
            self.sync_data()?;
        }
        let (pages, position) = {
            let mut sectors = self.lock();
            (sectors.masks.take_dirty(), sectors.log.position())
        };
        let late = fault::made(Fault::MapBeforeData);
        if !late && !fault::made(Fault::MasksAfterSync) {
            // The masks were taken before: all that they name has been written, and reaches media now.
            self.sync_data()?;
        }
        if fault::made(Fault::LogForgottenEarly) {
            self.shorten_log(position);
        }
        self.write_masks(&pages, *flushed == 0)?;
        if late {
            self.sync_data()?;
        }
        self.shorten_log(position);
        *flushed = covered;
        Ok(())
    }

    fn sync_data(&self) -> Result<()> {
        if fault::made(Fault::DataNotSynced) {
            return Ok(());
        }
        self.files.data.sync().map_err(|error| self.fence(error))
    }

    /// Brings pages of masks to media. `first` since the overlay was opened: an earlier program may have written some
    /// and died before it synced them.
    fn write_masks(&self, pages: &[(u64, Box<RawPage>)], first: bool) -> Result<()> {
        for (page, masks) in pages {
            let at = MAP_START + page * RAW_PAGE_BYTES;
            if let Err(error) = self.files.map.write_at(at, masks.as_bytes()) {
                if !fault::made(Fault::DirtyForgotten) {
                    let unwritten = pages.iter().map(|(page, _)| *page);
                    self.lock().masks.mark_dirty(unwritten);
                }
                return Err(error.into());
            }
        }
        let idle = pages.is_empty() && (!first || fault::made(Fault::OpenMapTrusted));
        if idle || fault::made(Fault::MapNotSynced) {
            return Ok(());
        }
        self.files.map.sync().map_err(|error| self.fence(error))
    }

    fn shorten_log(&self, position: Position) {
        if let Err(error) = self.lock().log.forget_before(position) {
            // A log that is longer than it need be repeats what the map says already.
            tracing::debug!(%error, "overlay log not shortened");
        }
    }

    /// What failed may have been done in part, and whoever reads it and flushes counts on it.
    fn count_failed(&self) {
        if !fault::made(Fault::FailedNotCounted) {
            self.changes.fetch_add(1, Ordering::AcqRel);
        }
    }

    fn change(&self, span: Span, change: Change) -> Result<()> {
        let mut at = span.offset();
        while at < span.end() {
            let part = Span::new(at, (span.end() - at).min(CHANGE_BYTES));
            let record = record(part, change)?;
            let mut appended = Ok(());
            self.note(record, |log| {
                appended = log.append(record);
                appended.is_ok()
            });
            appended.inspect_err(|_| self.count_failed())?;
            at = part.end();
        }
        self.changes.fetch_add(1, Ordering::AcqRel);
        let long = self.lock().log.length() > LOG_LIMIT;
        if long && let Ok(mut flushed) = self.flushed.try_lock() {
            // Nobody waits for this: if it fails the log goes on growing, or the fence says so.
            let outcome = self.flush(&mut flushed, u64::MAX);
            if let Err(error) = outcome {
                tracing::warn!(%error, "overlay could not shorten its log");
            }
        }
        Ok(())
    }

    /// Repeats a change in the log, then makes it, if it is one; false if the log did not take it.
    fn note(&self, record: Record, append: impl FnOnce(&mut Log) -> bool) -> bool {
        let mut state = self.lock();
        if state.masks.differs(record) {
            if !fault::made(Fault::NoRecord) && !append(&mut state.log) {
                return false;
            }
            state.masks.apply(record);
        }
        true
    }

    /// The kernel forgets which pages it failed to write, so nothing read from now on can be trusted to last. The log
    /// is made void: after the next open, blocks whose data may be lost read as they did at the last flush.
    fn fence(&self, error: io::Error) -> Error {
        self.fenced.store(true, Ordering::Release);
        tracing::error!(%error, "overlay fenced: a flush failed");
        if fault::made(Fault::LogNotVoided) {
            return error.into();
        }
        if let Err(error) = self.lock().log.void() {
            tracing::error!(%error, "overlay log could not be made void");
        }
        error.into()
    }

    fn lock(&self) -> MutexGuard<'_, Sectors> {
        self.sectors.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A change of no more than [`CHANGE_BYTES`] as the log has it.
fn record(span: Span, change: Change) -> Result<Record> {
    Ok(Record {
        sector: span.offset() / SECTOR_BYTES,
        sectors: u32::try_from(span.length() / SECTOR_BYTES).map_err(|_| Error::OutOfRange)?,
        change,
    })
}

/// What a file takes on disk; nothing where there is no file.
fn stored(disk: &dyn Disk) -> u64 {
    let found = disk.file().map(std::fs::File::metadata);
    match found {
        Some(Ok(found)) => found.blocks().saturating_mul(512),
        _ => 0,
    }
}

fn load(
    files: &Files,
    header: &Header,
    masks: &mut Masks,
) -> std::result::Result<(), OverlayError> {
    let pages = header.bytes.div_ceil(PAGE_BYTES);
    let mut raw = blank_page();
    let mut page = 0;
    while page < pages {
        // Pages that were never written take no space and say nothing.
        let Some(stored) = files.map.next_stored(MAP_START + page * RAW_PAGE_BYTES)? else {
            break;
        };
        page = page.max(stored.saturating_sub(MAP_START) / RAW_PAGE_BYTES);
        if page >= pages {
            break;
        }
        files
            .map
            .read_at(MAP_START + page * RAW_PAGE_BYTES, raw.as_mut_bytes())?;
        masks.load(page, &raw).map_err(|_| OverlayError::Damaged)?;
        page += 1;
    }
    Ok(())
}

const NOTHING: u8 = 0;
const DISK: u8 = 1;
const QUOTA: u8 = 2;
/// How much one record of the log covers at most: the lock is let go in between.
const CHANGE_BYTES: u64 = 1 << 30;
/// Bytes of records after which the overlay flushes by itself.
const LOG_LIMIT: u64 = if cfg!(test) { 20 * 32 } else { 16 << 20 };
