//! The slots of one disk that the store has open, and their index. Where the disk fails the store drops all of this,
//! and builds another when the disk is back.
//!
//! Readers hold no lock while they read. Each slot belongs to one of some counters that is raised before the slot is
//! written again; a reader that finds it raised drops what it read. So does one whose disk is out of use by then.

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use zerocopy::{FromZeros, IntoBytes};

use crate::disk::{BootId, Disk};
use crate::fault::{self, Fault};
use crate::format::{Entry, Layout, RawEntry, SLOT_BYTES, data_hash};
use crate::images::Images;
use crate::map::Key;
use crate::recover;
use crate::shelf::{Counts, Held, Shelf};
use crate::store::StoreError;

/// An open disk with its index.
#[derive(Debug)]
pub(crate) struct Body {
    pub(crate) disk: Arc<dyn Disk>,
    layout: Layout,
    images: Arc<Mutex<Images>>,
    shelves: Vec<Mutex<Shelf>>,
    generations: Vec<AtomicU64>,
    /// Held by whoever changes slots or entries on disk.
    writer: Mutex<()>,
    /// Out of use: nothing read from here may be served any more.
    retired: AtomicBool,
    /// Reads and writes that failed.
    pub(crate) errors: AtomicU32,
}

/// A resident extent and what a reader needs to know whether it still is when it has read.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) body: Arc<Body>,
    key: Key,
    slot: u32,
    held: Held,
    generation: u64,
}

/// What a checked read brought.
#[derive(Debug)]
pub(crate) enum Read {
    /// The bytes.
    Good(Bytes),
    /// It is not held any more.
    Gone,
    /// It was not what its entry says, and has been dropped.
    Bad,
    /// It could not be read, and has been dropped.
    Failed(io::Error),
}

/// What became of a fill.
#[derive(Debug)]
pub(crate) enum Filled {
    /// It is held.
    Written,
    /// It was held already, or nothing could make room.
    Unneeded,
    /// The disk refused.
    Failed(io::Error),
}

impl Body {
    /// Opens the store on `disk`. With `trusting`, entries are believed if the store was closed in this run of the
    /// machine.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        wanted: Layout,
        boot: BootId,
        images: Arc<Mutex<Images>>,
        trusting: bool,
    ) -> Result<Self, StoreError> {
        let opened = recover::open(disk.as_ref(), wanted, boot)?;
        let shelves = (wanted.slots / SHELF_SLOTS).clamp(1, MAX_SHELVES);
        let body = Self {
            disk,
            layout: opened.layout,
            images,
            shelves: (0..shelves)
                .map(|shelf| Mutex::new(Shelf::new(shelf_slots(wanted.slots, shelves, shelf))))
                .collect(),
            generations: (0..GENERATIONS).map(|_| AtomicU64::new(0)).collect(),
            writer: Mutex::default(),
            retired: AtomicBool::new(false),
            errors: AtomicU32::new(0),
        };
        let trusted = (opened.clean && trusting)
            || fault::made(Fault::OpenTrusts)
            || fault::made(Fault::EntryFirstAndTrusted);
        recover::scan(body.disk.as_ref(), body.layout, |slot, entry| {
            body.take(slot, entry, trusted);
        })?;
        // A twin that stayed would be found first one day, when it is the rotten one. What cannot be cleared now is
        // before its slot is used.
        body.clear_stale().ok();
        Ok(body)
    }

    /// Places for extents.
    pub(crate) fn slots(&self) -> u32 {
        self.layout.slots
    }

    /// Extents held, and how many slots are what.
    pub(crate) fn counts(&self) -> (u64, Counts) {
        let mut resident = 0;
        let mut sum = Counts::default();
        for shelf in &self.shelves {
            let shelf = lock(shelf);
            resident += shelf.resident();
            sum.unverified += shelf.counts().unverified;
            sum.evictions += shelf.counts().evictions;
        }
        (resident, sum)
    }

    /// Bytes of memory.
    #[cfg(test)]
    pub(crate) fn memory(&self) -> usize {
        let shelves = self.shelves.iter().map(|shelf| lock(shelf).memory());
        shelves.sum::<usize>() + size_of_val(&*self.generations)
    }

    /// Takes this out of use.
    pub(crate) fn retire(&self) {
        self.retired.store(true, Ordering::SeqCst);
    }

    /// True if the extent is held.
    pub(crate) fn holds(&self, key: Key) -> bool {
        lock(self.shelf(key)).peek(key).is_some()
    }

    /// An extent that is held, for a reader.
    pub(crate) fn find(self: &Arc<Self>, key: Key) -> Option<Found> {
        let mut shelf = lock(self.shelf(key));
        let held = shelf.touch(key)?;
        Some(self.found(key, held))
    }

    /// Writes an extent.
    pub(crate) fn fill(&self, key: Key, bytes: &[u8]) -> Filled {
        let _writer = lock(&self.writer);
        let Some(image) = lock(&self.images).key(key.image) else {
            return Filled::Unneeded;
        };
        if self.retired.load(Ordering::SeqCst) {
            return Filled::Unneeded;
        }
        let reserved = {
            let mut shelf = lock(self.shelf(key));
            if shelf.peek(key).is_some() {
                return Filled::Unneeded;
            }
            shelf.reserve()
        };
        let Some(reserved) = reserved else {
            return Filled::Unneeded;
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
                Filled::Written
            }
            Err((error, stale)) => {
                lock(self.shelf(key)).release(reserved.slot, stale);
                Filled::Failed(error)
            }
        }
    }

    /// Drops every extent of an image, and brings that to media; how many there were.
    pub(crate) fn forget(&self, number: Option<u32>) -> io::Result<u64> {
        // Whoever fills now has seen that the image is gone, or is done when the writer's lock is free.
        let _writer = lock(&self.writer);
        let mut dropped = 0;
        let mut outcome = self.clear_stale();
        for (index, shelf) in (0..).zip(&self.shelves) {
            let Some(number) = number else {
                break;
            };
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
        outcome?;
        Ok(dropped)
    }

    /// Brings everything to media, and says so if all of it can be believed.
    /// Nothing is written from then on.
    pub(crate) fn close(&self, boot: BootId) -> io::Result<()> {
        let _writer = lock(&self.writer);
        self.retire();
        if fault::made(Fault::CloseWithoutSync) {
            return Ok(());
        }
        // What a free slot still names may be rotten, and would be believed.
        let cleared = self.clear_stale();
        self.disk.sync()?;
        let (_, counts) = self.counts();
        let sound =
            counts.unverified == 0 && (cleared.is_ok() || fault::made(Fault::CloseTrustsStale));
        if sound || fault::made(Fault::CloseTrustsUnverified) {
            return recover::write_mark(self.disk.as_ref(), true, boot);
        }
        // The mark stays "open": what an unclean stop left and nobody has hashed since is no better for this stop.
        Ok(())
    }

    /// Hashes the extent in a slot, as media have it, and drops it if it is rotten. `None`: the slot holds nothing.
    pub(crate) fn scrub(self: &Arc<Self>, slot: u32) -> Option<Read> {
        let (index, local) = (slot % self.shelf_count(), slot / self.shelf_count());
        let found = {
            let shelf = lock(self.shelves.get(index as usize)?);
            let (key, held) = shelf.resident_in(local)?;
            self.found(key, held)
        };
        let read = self.read_checked(&found, None, true);
        Some(found.judge(read))
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

    /// The extent's bytes, if its entry names them (and says that they are `length`) and their hash is right.
    fn read_checked(
        &self,
        found: &Found,
        length: Option<u32>,
        from_media: bool,
    ) -> io::Result<Option<Bytes>> {
        let mut raw = RawEntry::new_zeroed();
        self.disk
            .read_at(self.layout.entry_offset(found.slot), raw.as_mut_bytes())?;
        let Some(entry) = raw.parse() else {
            return Ok(None);
        };
        let expected = length.unwrap_or(entry.length);
        let image = lock(&self.images).key(found.key.image);
        if Some(entry.image) != image
            || entry.extent != found.key.extent
            || entry.length != expected
        {
            return Ok(None);
        }
        let at = self.layout.slot_offset(found.slot);
        let bytes = if from_media {
            self.disk.read_media(at, entry.length as usize)?
        } else {
            let mut bytes = vec![0; entry.length as usize];
            self.disk.read_at(at, &mut bytes)?;
            bytes.into()
        };
        let good = (!found.held.unverified && !from_media) || data_hash(&bytes) == entry.hash;
        Ok(good.then_some(bytes))
    }

    /// Drops an extent that was found bad.
    fn discard(&self, found: &Found) {
        let _writer = lock(&self.writer);
        let reserved = {
            let mut shelf = lock(self.shelf(found.key));
            let same = |held: Held| held.slot == found.held.slot;
            if !found.is_current() || !shelf.peek(found.key).is_some_and(same) {
                return;
            }
            shelf.remove(found.key)
        };
        if let Some(reserved) = reserved {
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

    /// Clears what free slots may still name: a twin that a loss of power left, an entry that could not be cleared
    /// before. The index does not know it, but the next open would.
    fn clear_stale(&self) -> io::Result<()> {
        for (index, shelf) in (0..).zip(&self.shelves) {
            if fault::made(Fault::ForgetLeavesTwins) || fault::made(Fault::CloseTrustsStale) {
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

    /// Takes what the table says of a slot into the index.
    fn take(&self, slot: u32, raw: &RawEntry, trusted: bool) {
        let (index, local) = (slot % self.shelf_count(), slot / self.shelf_count());
        let Some(shelf) = self.shelves.get(index as usize) else {
            return;
        };
        let taken = raw.parse().is_some_and(|entry| {
            let Some(image) = lock(&self.images).number(entry.image) else {
                return false;
            };
            let key = Key {
                image,
                extent: entry.extent,
            };
            let here = self.shelf_index(key) == index;
            here && lock(shelf).insert_found(local, key, entry.length < SLOT_BYTES, !trusted)
        });
        if !taken {
            lock(shelf).release(local, !raw.is_empty());
        }
    }

    fn found(self: &Arc<Self>, key: Key, held: Held) -> Found {
        let slot = self.global(key, held.slot);
        Found {
            body: Arc::clone(self),
            key,
            slot,
            held,
            generation: self.generation(slot).load(Ordering::SeqCst),
        }
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

    fn slots_of(&self, shelf: u32) -> u32 {
        shelf_slots(self.layout.slots, self.shelf_count(), shelf)
    }
}

impl Found {
    /// Reads a part of an extent of `length` bytes if that needs no waiting and no checking.
    pub(crate) fn read_now(&self, length: u32, from: u64, into: &mut [u8]) -> bool {
        let at = self.body.layout.slot_offset(self.slot) + from;
        !self.must_check(length) && self.body.disk.read_now(at, into) && self.is_current()
    }

    /// Reads a part of an extent of `length` bytes, and checks what must be checked; waits for the disk.
    pub(crate) fn read_wait(&self, length: u32, part: Range<usize>) -> Read {
        if self.must_check(length) {
            let read = self.body.read_checked(self, Some(length), false);
            return match self.judge(read) {
                Read::Good(bytes) if part.end <= bytes.len() => Read::Good(bytes.slice(part)),
                Read::Good(_) => Read::Gone,
                other => other,
            };
        }
        let mut bytes = vec![0; part.len()];
        let at = self.body.layout.slot_offset(self.slot) + part.start as u64;
        match self.body.disk.read_at(at, &mut bytes) {
            _ if !self.is_current() => Read::Gone,
            Ok(()) => Read::Good(bytes.into()),
            Err(error) => self.failed(error),
        }
    }

    /// Draws the conclusions from a checked read.
    fn judge(&self, read: io::Result<Option<Bytes>>) -> Read {
        match read {
            _ if !self.is_current() => Read::Gone,
            Ok(Some(bytes)) => {
                lock(self.body.shelf(self.key)).set_verified(self.key, self.held.slot);
                Read::Good(bytes)
            }
            Ok(None) => {
                tracing::warn!(
                    slot = self.slot,
                    "cached extent dropped: it is not what was written"
                );
                self.body.discard(self);
                Read::Bad
            }
            Err(error) => self.failed(error),
        }
    }

    fn failed(&self, error: io::Error) -> Read {
        tracing::warn!(slot = self.slot, %error, "cached extent dropped: it cannot be read");
        self.body.discard(self);
        Read::Failed(error)
    }

    fn is_current(&self) -> bool {
        fence(Ordering::SeqCst);
        self.body.generation(self.slot).load(Ordering::SeqCst) == self.generation
            && !self.body.retired.load(Ordering::SeqCst)
    }

    fn must_check(&self, length: u32) -> bool {
        self.held.unverified || self.held.short || length < SLOT_BYTES
    }
}

fn shelf_slots(slots: u32, shelves: u32, shelf: u32) -> u32 {
    slots / shelves + u32::from(shelf < slots % shelves)
}

/// A lock that a panic elsewhere does not close.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How many slots earn a lock of their own, and how many locks there are at most.
const SHELF_SLOTS: u32 = 1024;
const MAX_SHELVES: u32 = 16;
/// Counters that slots share: a shared one costs a reader a second look now and then.
const GENERATIONS: usize = 4096;
