//! The node's one store of extents.
//!
//! Writing an extent: its old entry goes, then the data is written, then the entry that names it. None of it waits
//! for media, because the order matters only across an unclean stop, and after one every extent is hashed before it
//! is served: an entry that outran its data, or data that outran the clearing of an entry, is found out. What must
//! be on media is synced: the mark "open" before the first change, everything before the mark "clean", and the
//! cleared entries of an image that is forgotten, whose bytes would still match their hashes.
//!
//! Readers hold no lock while they read. Each slot belongs to one of some counters that is raised before the slot is
//! written again; a reader that finds it raised drops what it read.

#[cfg(test)]
#[path = "store_crash.rs"]
pub(crate) mod crash;
#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;

use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use zerocopy::{FromZeros, IntoBytes};

use crate::disk::{BootId, Disk, FileDisk};
use crate::fault::{self, Fault};
use crate::fill::{FillQueue, Offer};
use crate::format::{Entry, Layout, RawEntry, SLOT_BYTES, data_hash};
use crate::images::Images;
use crate::map::Key;
use crate::recover;
use crate::shelf::{Held, Shelf};
use crate::stats::StoreCounters;
use crate::{ImageKey, StoreStats};

/// Where the store lives and how much of the disk it may take.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// The file (or block device) that holds it.
    pub path: PathBuf,
    /// Bytes to take, table included. A store of another size is laid out anew, and empty.
    pub bytes: u64,
}

/// Why a store could not be opened or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The options leave no room for a single extent.
    #[error("too small to hold an extent")]
    TooSmall,
    /// The file is something else, and is left as it is.
    #[error(
        "the file is not empty and not a cache store: move it away, or keep the cache elsewhere"
    )]
    NotAStore,
    /// The file was written by another version.
    #[error(
        "the store has format version {found}, which this program does not know: remove it, it fills again"
    )]
    Version {
        /// The version found.
        found: u32,
    },
    /// Another program has it open.
    #[error("the store is in use by another program")]
    InUse,
    /// The disk.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Extents of all images of a node, in slots of one preallocated file.
#[derive(Debug)]
pub struct Store {
    disk: Arc<dyn Disk>,
    layout: Layout,
    boot: BootId,
    shelves: Vec<Mutex<Shelf>>,
    generations: Vec<AtomicU64>,
    images: Mutex<Images>,
    queue: FillQueue,
    /// Held by whoever changes slots or entries on disk.
    writer: Mutex<Writer>,
    failing: AtomicBool,
    lagging: AtomicBool,
    counters: StoreCounters,
}

#[derive(Debug)]
struct Writer {
    closed: bool,
}

/// A resident extent and what a reader needs to know whether it still is when it has read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    key: Key,
    slot: u32,
    held: Held,
    generation: u64,
}

impl Store {
    /// Opens the store, or makes it where there is none. What it held before is warm.
    pub async fn open(options: StoreOptions) -> Result<Arc<Self>, StoreError> {
        blocking::unblock(move || {
            let disk = FileDisk::open_or_create(&options.path)?;
            if !disk.lock()? {
                return Err(StoreError::InUse);
            }
            Self::assemble(Arc::new(disk), options.bytes, BootId::current())
        })
        .await
    }

    /// Drops every extent of an image, for good when this returns. [`Cache`](crate::Cache)s of that image that exist
    /// read past the store from then on. Returns the number of extents dropped.
    pub async fn forget(self: &Arc<Self>, key: ImageKey) -> Result<u64, StoreError> {
        let store = Arc::clone(self);
        Ok(blocking::unblock(move || store.forget_now(key)).await?)
    }

    /// Writes out what waits, and marks the store clean: the next open trusts what it finds.
    /// Nothing is filled from then on.
    pub async fn close(self: &Arc<Self>) -> Result<(), StoreError> {
        let store = Arc::clone(self);
        Ok(blocking::unblock(move || store.close_now()).await?)
    }

    /// Counters.
    pub fn stats(&self) -> StoreStats {
        let mut stats = self.counters.read();
        stats.slots = u64::from(self.layout.slots);
        for shelf in &self.shelves {
            let shelf = lock(shelf);
            stats.resident += shelf.resident();
            stats.unverified += shelf.counts().unverified;
            stats.evictions += shelf.counts().evictions;
        }
        stats
    }

    /// A store on any disk.
    pub(crate) fn assemble(
        disk: Arc<dyn Disk>,
        bytes: u64,
        boot: BootId,
    ) -> Result<Arc<Self>, StoreError> {
        let wanted = Layout::within(bytes).ok_or(StoreError::TooSmall)?;
        let opened = recover::open(disk.as_ref(), wanted, boot)?;
        let shelves = (wanted.slots / SHELF_SLOTS).clamp(1, MAX_SHELVES);
        let store = Self {
            disk,
            layout: opened.layout,
            boot,
            shelves: (0..shelves)
                .map(|shelf| Mutex::new(Shelf::new(shelf_slots(wanted.slots, shelves, shelf))))
                .collect(),
            generations: (0..GENERATIONS).map(|_| AtomicU64::new(0)).collect(),
            images: Mutex::default(),
            queue: FillQueue::new(QUEUE_EXTENTS),
            writer: Mutex::new(Writer { closed: false }),
            failing: AtomicBool::new(false),
            lagging: AtomicBool::new(false),
            counters: StoreCounters::default(),
        };
        let trusted = opened.clean
            || fault::made(Fault::OpenTrusts)
            || fault::made(Fault::EntryFirstAndTrusted);
        recover::scan(store.disk.as_ref(), store.layout, |slot, entry| {
            store.found(slot, entry, trusted);
        })?;
        // A twin that stayed would be found first one day, when it is the rotten one. What cannot be cleared now is
        // before its slot is used.
        store.clear_stale().ok();
        Ok(Arc::new(store))
    }

    /// The number under which an image's extents are asked for; `None` if there are too many images.
    pub(crate) fn image(&self, key: ImageKey) -> Option<u32> {
        lock(&self.images).number(key)
    }

    /// True if the extent is held, or waits to be written.
    pub(crate) fn holds(&self, key: Key) -> bool {
        lock(self.shelf(key)).peek(key).is_some() || self.queue.get(key).is_some()
    }

    /// An extent that waits to be written.
    pub(crate) fn staged(&self, key: Key) -> Option<Bytes> {
        self.queue.get(key)
    }

    /// An extent that is held, for a reader.
    pub(crate) fn find(&self, key: Key) -> Option<Found> {
        let mut shelf = lock(self.shelf(key));
        let held = shelf.touch(key)?;
        let slot = self.global(key, held.slot);
        let generation = self.generation(slot).load(Ordering::SeqCst);
        Some(Found {
            key,
            slot,
            held,
            generation,
        })
    }

    /// Reads a part of an extent of `length` bytes if that needs no waiting and no checking.
    pub(crate) fn read_now(&self, found: &Found, length: u32, from: u64, into: &mut [u8]) -> bool {
        let at = self.layout.slot_offset(found.slot) + from;
        !found.must_check(length) && self.disk.read_now(at, into) && self.is_current(found)
    }

    /// Reads a part of an extent of `length` bytes, and checks what must be checked; waits for the disk.
    /// `None`: it is not held any more, or was not what it should be and has been dropped.
    pub(crate) fn read_wait(
        &self,
        found: &Found,
        length: u32,
        part: Range<usize>,
    ) -> Option<Bytes> {
        self.counters.offloaded.fetch_add(1, Ordering::Relaxed);
        let read = if found.must_check(length) {
            self.read_checked(found, length)
        } else {
            let mut bytes = vec![0; part.len()];
            let at = self.layout.slot_offset(found.slot) + part.start as u64;
            self.disk
                .read_at(at, &mut bytes)
                .map(|()| Some(Bytes::from(bytes)))
        };
        if !self.is_current(found) {
            return None;
        }
        match read {
            Ok(Some(bytes)) if found.must_check(length) => {
                lock(self.shelf(found.key)).set_verified(found.key, found.held.slot);
                (part.end <= bytes.len()).then(|| bytes.slice(part))
            }
            Ok(Some(bytes)) => Some(bytes),
            Ok(None) => {
                tracing::warn!(
                    slot = found.slot,
                    "cached extent dropped: it is not what was written"
                );
                self.discard(found);
                None
            }
            Err(error) => {
                tracing::warn!(slot = found.slot, %error, "cached extent dropped: it cannot be read");
                self.discard(found);
                None
            }
        }
    }

    /// A read was answered without waiting.
    pub(crate) fn count_in_place(&self) {
        self.counters.in_place.fetch_add(1, Ordering::Relaxed);
    }

    /// Leaves an extent to be written; never waits.
    pub(crate) fn offer(self: &Arc<Self>, key: Key, bytes: Bytes) {
        match self.queue.offer(key, bytes) {
            Offer::Queued => {}
            Offer::Start => {
                let store = Arc::clone(self);
                blocking::unblock(move || store.drain()).detach();
            }
            Offer::Dropped => {
                self.counters.fill_drops.fetch_add(1, Ordering::Relaxed);
                if !self.lagging.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        "cache disk is slower than what is fetched: extents go uncached"
                    );
                }
            }
        }
    }

    fn drain(&self) {
        while let Some((key, bytes)) = self.queue.next() {
            self.fill(key, &bytes);
            self.queue.done(key);
        }
        if self.lagging.swap(false, Ordering::Relaxed) {
            tracing::info!("cache disk has caught up");
        }
    }

    fn fill(&self, key: Key, bytes: &[u8]) {
        let writer = lock(&self.writer);
        let Some(image) = lock(&self.images).key(key.image) else {
            return;
        };
        if writer.closed || bytes.is_empty() || bytes.len() > SLOT_BYTES as usize {
            return;
        }
        let reserved = {
            let mut shelf = lock(self.shelf(key));
            if shelf.peek(key).is_some() {
                return;
            }
            shelf.reserve()
        };
        let Some(reserved) = reserved else {
            return;
        };
        let slot = self.global(key, reserved.slot);
        self.generation(slot).fetch_add(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let length = u32::try_from(bytes.len()).unwrap_or(SLOT_BYTES);
        let entry = Entry {
            image,
            extent: key.extent,
            length,
            hash: data_hash(bytes),
        };
        match self.write_slot(slot, reserved.stale, entry, bytes) {
            Ok(()) => {
                lock(self.shelf(key)).insert(reserved.slot, key, length < SLOT_BYTES);
                self.counters.fills.fetch_add(1, Ordering::Relaxed);
                if self.failing.swap(false, Ordering::Relaxed) {
                    tracing::info!("cache disk takes extents again");
                }
            }
            Err((error, stale)) => {
                lock(self.shelf(key)).release(reserved.slot, stale);
                self.counters.fill_errors.fetch_add(1, Ordering::Relaxed);
                if !self.failing.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%error, "cache disk refuses extents: reads go on without it");
                }
            }
        }
    }

    /// Writes a slot and its entry. An error says whether something may still be named.
    fn write_slot(
        &self,
        slot: u32,
        stale: bool,
        entry: Entry,
        bytes: &[u8],
    ) -> Result<(), (io::Error, bool)> {
        let entry_at = self.layout.entry_offset(slot);
        if fault::made(Fault::EntryFirstAndTrusted) {
            let raw = entry.raw();
            self.disk
                .write_at(entry_at, raw.as_bytes())
                .map_err(|error| (error, true))?;
        } else if stale && !fault::made(Fault::OldEntryStays) {
            self.disk
                .write_at(entry_at, RawEntry::EMPTY.as_bytes())
                .map_err(|error| (error, true))?;
        }
        self.disk
            .write_at(self.layout.slot_offset(slot), bytes)
            .map_err(|error| (error, false))?;
        self.disk
            .write_at(entry_at, entry.raw().as_bytes())
            .map_err(|error| (error, true))
    }

    /// The extent's bytes, if its entry names them and their hash is right.
    fn read_checked(&self, found: &Found, length: u32) -> io::Result<Option<Bytes>> {
        let mut raw = RawEntry::new_zeroed();
        self.disk
            .read_at(self.layout.entry_offset(found.slot), raw.as_mut_bytes())?;
        let image = lock(&self.images).key(found.key.image);
        let Some(entry) = raw.parse() else {
            return Ok(None);
        };
        if Some(entry.image) != image || entry.extent != found.key.extent || entry.length != length
        {
            return Ok(None);
        }
        let mut bytes = vec![0; length as usize];
        self.disk
            .read_at(self.layout.slot_offset(found.slot), &mut bytes)?;
        let good = !found.held.unverified || data_hash(&bytes) == entry.hash;
        Ok(good.then(|| bytes.into()))
    }

    /// Drops an extent that was found bad.
    fn discard(&self, found: &Found) {
        let _writer = lock(&self.writer);
        let reserved = {
            let mut shelf = lock(self.shelf(found.key));
            if !self.is_current(found)
                || shelf
                    .peek(found.key)
                    .is_none_or(|held| held.slot != found.held.slot)
            {
                return;
            }
            shelf.remove(found.key)
        };
        if let Some(reserved) = reserved {
            self.counters.corrupt.fetch_add(1, Ordering::Relaxed);
            self.clear(found.key, reserved.slot).ok();
        }
    }

    /// Clears the entry of a reserved slot and frees the slot.
    fn clear(&self, key: Key, slot: u32) -> io::Result<()> {
        let at = self.layout.entry_offset(self.global(key, slot));
        let cleared = self.disk.write_at(at, RawEntry::EMPTY.as_bytes());
        lock(self.shelf(key)).release(slot, cleared.is_err());
        cleared
    }

    fn forget_now(&self, image: ImageKey) -> io::Result<u64> {
        let number = lock(&self.images).forget(image);
        // Whoever fills now has seen that the image is gone, or is done when the writer's lock is free.
        let _writer = lock(&self.writer);
        let mut dropped = 0;
        let mut outcome = self.clear_stale();
        if let Some(number) = number {
            self.queue.forget(number);
            for (index, shelf) in (0..).zip(&self.shelves) {
                let keys = lock(shelf).keys_of(number, self.slots_of(index));
                for key in keys {
                    let removed = lock(shelf).remove(key);
                    if let Some(reserved) = removed {
                        dropped += 1;
                        let cleared = self.clear(key, reserved.slot);
                        outcome = outcome.and(cleared);
                    }
                }
            }
        }
        outcome?;
        if !fault::made(Fault::ForgetWithoutSync) {
            self.disk.sync()?;
        }
        Ok(dropped)
    }

    /// Clears what free slots may still name: a twin that a loss of power left, an entry that could not be cleared
    /// before. The index does not know it, but the next open would.
    fn clear_stale(&self) -> io::Result<()> {
        for (index, shelf) in (0..).zip(&self.shelves) {
            if fault::made(Fault::ForgetLeavesTwins) {
                break;
            }
            let stale = lock(shelf).stale();
            for local in stale {
                let slot = local * self.shelf_count() + index;
                self.disk
                    .write_at(self.layout.entry_offset(slot), RawEntry::EMPTY.as_bytes())?;
                lock(shelf).set_cleared(local);
            }
        }
        Ok(())
    }

    fn close_now(&self) -> io::Result<()> {
        self.queue.close();
        self.drain();
        let mut writer = lock(&self.writer);
        if writer.closed {
            return Ok(());
        }
        writer.closed = true;
        if fault::made(Fault::CloseWithoutSync) {
            return Ok(());
        }
        self.disk.sync()?;
        let trusted = self
            .shelves
            .iter()
            .all(|shelf| lock(shelf).counts().unverified == 0);
        if trusted || fault::made(Fault::CloseTrustsUnverified) {
            return recover::write_mark(self.disk.as_ref(), true, self.boot);
        }
        // The mark stays "open": what an unclean stop left and nobody has hashed since is no better for this stop.
        Ok(())
    }

    /// Takes what the table says of a slot into the index.
    fn found(&self, slot: u32, raw: &RawEntry, clean: bool) {
        let (index, local) = self.place(slot);
        let Some(shelf) = self.shelves.get(index as usize) else {
            return;
        };
        let taken = raw.parse().is_some_and(|entry| {
            let Some(image) = self.image(entry.image) else {
                return false;
            };
            let key = Key {
                image,
                extent: entry.extent,
            };
            let here = self.shelf_index(key) == index;
            here && lock(shelf).insert_found(local, key, entry.length < SLOT_BYTES, !clean)
        });
        if !taken {
            lock(shelf).release(local, !raw.is_empty());
        }
    }

    fn is_current(&self, found: &Found) -> bool {
        fence(Ordering::SeqCst);
        self.generation(found.slot).load(Ordering::SeqCst) == found.generation
    }

    fn generation(&self, slot: u32) -> &AtomicU64 {
        &self.generations[slot as usize % GENERATIONS]
    }

    fn shelf(&self, key: Key) -> &Mutex<Shelf> {
        &self.shelves[self.shelf_index(key) as usize]
    }

    /// Depends on the extent alone: the image's number is another one after a restart.
    fn shelf_index(&self, key: Key) -> u32 {
        let spread = Key {
            image: 0,
            extent: key.extent,
        }
        .hash();
        u32::try_from(spread % self.shelves.len() as u64).unwrap_or(0)
    }

    fn shelf_count(&self) -> u32 {
        u32::try_from(self.shelves.len()).unwrap_or(MAX_SHELVES)
    }

    /// Slots are dealt to the shelves in turn.
    fn global(&self, key: Key, local: u32) -> u32 {
        local * self.shelf_count() + self.shelf_index(key)
    }

    fn place(&self, slot: u32) -> (u32, u32) {
        (slot % self.shelf_count(), slot / self.shelf_count())
    }

    fn slots_of(&self, shelf: u32) -> u32 {
        shelf_slots(self.layout.slots, self.shelf_count(), shelf)
    }
}

impl Found {
    fn must_check(&self, length: u32) -> bool {
        self.held.unverified || self.held.short || length < SLOT_BYTES
    }
}

fn shelf_slots(slots: u32, shelves: u32, shelf: u32) -> u32 {
    slots / shelves + u32::from(shelf < slots % shelves)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Extents that may wait to be written: 64 MiB.
const QUEUE_EXTENTS: usize = 1024;
/// How many slots earn a lock of their own, and how many locks there are at most.
const SHELF_SLOTS: u32 = 1024;
const MAX_SHELVES: u32 = 16;
/// Counters that slots share: a shared one costs a reader a second look now and then.
const GENERATIONS: usize = 4096;
