//! The node's one store of extents.
//!
//! Writing an extent: its old entry goes, then the data is written, then the entry that names it. None of it waits
//! for media, because the order matters only across an unclean stop, and after one every extent is hashed before it
//! is served: an entry that outran its data, or data that outran the clearing of an entry, is found out. What must
//! be on media is synced: the mark "open" before the first change, everything before the mark "clean", and the
//! cleared entries of an image that is forgotten, whose bytes would still match their hashes.
//!
//! A disk that fails is out of use: everything is read past it until it can be opened again, and nothing that is found
//! there then is believed. The pool and the clock that this takes are in [`tend`].

#[cfg(test)]
#[path = "store_crash.rs"]
pub(crate) mod crash;
#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, Weak};
use std::time::SystemTime;

use bytes::Bytes;

use crate::body::{Body, Filled, Found, Read, lock};
use crate::disk::{BootId, Disk, FileDisk};
use crate::fault::{self, Fault};
use crate::fill::{FillQueue, Offer};
use crate::format::{Layout, SLOT_BYTES};
use crate::health::{Cause, StoreState, is_disk_trouble, is_full, judge, still_out};
use crate::images::Images;
use crate::map::Key;
use crate::stats::StoreCounters;
use crate::tend::{self, Late};
use crate::{ImageKey, StoreStats};

/// Where the store lives and how much of the disk it may take.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// The file (or block device) that holds it.
    pub path: PathBuf,
    /// Bytes to take, table included. A store of another size is laid out anew, and empty.
    pub bytes: u64,
    /// Bytes that the scrubber reads in a second, to find what has rotted; 0 for none.
    pub scrub_bytes_per_second: u64,
}

/// 100 GiB in seven hours.
pub const SCRUB_BYTES_PER_SECOND: u64 = 4 << 20;

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
    /// The file is missing, and would be made on another file system than it was on.
    #[error(
        "the file is gone, and its place is on another file system than it was: mount the cache's disk there, or start \
        the program again to begin a cache in that place"
    )]
    Elsewhere,
    /// The disk.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Extents of all images of a node, in slots of one preallocated file.
#[derive(Debug)]
pub struct Store {
    opener: Opener,
    layout: Layout,
    boot: BootId,
    disk: RwLock<InUse>,
    images: Arc<Mutex<Images>>,
    queue: FillQueue,
    /// Writes fail, and since when.
    refusing: Mutex<Option<(Cause, SystemTime)>>,
    lagging: AtomicBool,
    pub(crate) late: Arc<Late>,
    pub(crate) counters: StoreCounters,
}

/// The disk that is in use.
#[derive(Debug)]
enum InUse {
    Disk(Arc<Body>),
    /// None. What is left of the last one may still be read or written by those whom it keeps waiting.
    None {
        cause: Cause,
        since: SystemTime,
        last: Weak<Body>,
    },
    /// None any more.
    Closed,
}

/// How to get at the disk again.
struct Opener(Box<dyn Fn() -> Result<Arc<dyn Disk>, StoreError> + Send + Sync>);

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Opener")
    }
}

impl Store {
    /// Opens the store, or makes it where there is none. What it held before is warm. A disk that fails meanwhile is
    /// no error: the store is [degraded](StoreState) and looks for it. Needs a tokio runtime.
    pub async fn open(options: StoreOptions) -> Result<Arc<Self>, StoreError> {
        let rate = options.scrub_bytes_per_second;
        let store = blocking::unblock(move || {
            let path = options.path;
            let home = OnceLock::new();
            let opener = move || -> Result<Arc<dyn Disk>, StoreError> {
                let Some(disk) = FileDisk::open_or_create_on(&path, home.get().copied())? else {
                    return Err(StoreError::Elsewhere);
                };
                if !disk.lock()? {
                    return Err(StoreError::InUse);
                }
                // A cache that is found on another disk than before has moved; one that is missing has not.
                let _ = home.set(disk.device()?);
                Ok(Arc::new(disk))
            };
            Self::open_with(opener, options.bytes, BootId::current())
        })
        .await?;
        tokio::spawn(tend::tend(Arc::downgrade(&store), rate));
        Ok(store)
    }

    /// Drops every extent of an image, for good when this returns. [`Cache`](crate::Cache)s of that image that exist
    /// read past the store from then on. Returns the number of extents dropped. After an error, and while the store
    /// is out of use, they may come back with the disk: ask again then.
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
        stats.state = self.state();
        if let Some(body) = self.body() {
            let (resident, counts) = body.counts();
            stats.resident = resident;
            stats.unverified = counts.unverified;
            stats.evictions += counts.evictions;
        }
        stats
    }

    /// A store on any disk.
    #[cfg(test)]
    pub(crate) fn assemble(
        disk: Arc<dyn Disk>,
        bytes: u64,
        boot: BootId,
    ) -> Result<Arc<Self>, StoreError> {
        Self::open_with(move || Ok(Arc::clone(&disk)), bytes, boot)
    }

    /// A store on the disk that the opener opens, now and whenever it was out of use.
    pub(crate) fn open_with(
        opener: impl Fn() -> Result<Arc<dyn Disk>, StoreError> + Send + Sync + 'static,
        bytes: u64,
        boot: BootId,
    ) -> Result<Arc<Self>, StoreError> {
        let store = Self {
            opener: Opener(Box::new(opener)),
            layout: Layout::within(bytes).ok_or(StoreError::TooSmall)?,
            boot,
            disk: RwLock::new(InUse::Closed),
            images: Arc::default(),
            queue: FillQueue::new(QUEUE_EXTENTS),
            refusing: Mutex::default(),
            lagging: AtomicBool::new(false),
            late: Arc::default(),
            counters: StoreCounters::default(),
        };
        let in_use = match store.open_disk(true) {
            Ok(body) => InUse::Disk(Arc::new(body)),
            Err(StoreError::Io(error)) if is_disk_trouble(&error) => {
                tracing::error!(%error, "cache out of use: its disk cannot be opened; reads go past it until it can");
                InUse::None {
                    cause: Cause::Failing,
                    since: SystemTime::now(),
                    last: Weak::new(),
                }
            }
            Err(error) => return Err(error),
        };
        store.set(in_use);
        Ok(Arc::new(store))
    }

    /// The number under which an image's extents are asked for; `None` if there are too many images.
    pub(crate) fn image(&self, key: ImageKey) -> Option<u32> {
        lock(&self.images).number(key)
    }

    /// True if the extent is held, or waits to be written.
    pub(crate) fn holds(&self, key: Key) -> bool {
        self.body().is_some_and(|body| body.holds(key)) || self.queue.get(key).is_some()
    }

    /// An extent that waits to be written.
    pub(crate) fn staged(&self, key: Key) -> Option<Bytes> {
        self.queue.get(key)
    }

    /// An extent that is held, for a reader. [`Found::read_now`] or [`Self::read_wait`] reads it.
    pub(crate) fn find(&self, key: Key) -> Option<Found> {
        self.body()?.find(key)
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
        let read = found.read_wait(length, part);
        self.conclude(&found.body, read)
    }

    /// A read was answered without waiting.
    pub(crate) fn count_in_place(&self) {
        self.counters.in_place.fetch_add(1, Ordering::Relaxed);
    }

    /// Leaves an extent to be written; never waits.
    pub(crate) fn offer(self: &Arc<Self>, key: Key, bytes: Bytes) {
        if self.body().is_none() {
            return;
        }
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

    /// Hashes the extent in a slot, as media have it; how many bytes that were. `None`: there is no such slot.
    pub(crate) fn scrub(&self, slot: u32) -> Option<u64> {
        let body = self.body()?;
        if slot >= body.slots() {
            return None;
        }
        let Some(read) = body.scrub(slot) else {
            return Some(0);
        };
        if matches!(read, Read::Bad | Read::Failed(_)) {
            self.counters.scrub_dropped.fetch_add(1, Ordering::Relaxed);
        }
        let bytes = self
            .conclude(&body, read)
            .map_or(0, |bytes| bytes.len() as u64);
        self.counters
            .scrubbed_bytes
            .fetch_add(bytes, Ordering::Relaxed);
        Some(bytes)
    }

    /// Stops using a file that is not where it was opened any more.
    pub(crate) fn check_place(&self) {
        if let Some(body) = self.body()
            && !body.disk.is_in_place()
        {
            self.retire(&body, Cause::Gone);
        }
    }

    /// Opens the disk again if it is out of use. False if it still is.
    pub(crate) fn heal(&self) -> bool {
        match &*self.disk.read().unwrap_or_else(PoisonError::into_inner) {
            // A write that hangs in the old one could arrive after all, over what was written since.
            InUse::None { last, .. } if last.strong_count() > 0 => return false,
            InUse::None { .. } => {}
            InUse::Disk(_) | InUse::Closed => return true,
        }
        match self.open_disk(false) {
            Ok(body) => {
                self.set(InUse::Disk(Arc::new(body)));
                *lock(&self.refusing) = None;
                tracing::warn!("cache disk is back: what it holds is hashed before it is served");
                true
            }
            Err(error) => {
                self.stays_out(&error);
                false
            }
        }
    }

    /// Why a disk is out of use may change: what is said of it is the cause now.
    fn stays_out(&self, error: &StoreError) {
        let mut disk = self.disk.write().unwrap_or_else(PoisonError::into_inner);
        let InUse::None { cause, .. } = &mut *disk else {
            return;
        };
        let now = still_out(error);
        if std::mem::replace(cause, now) == now {
            tracing::debug!(%error, "cache disk is not back");
        } else {
            tracing::warn!("cache still out of use: {error}");
        }
    }

    /// True if there is no disk to use, and one is looked for.
    pub(crate) fn is_out_of_use(&self) -> bool {
        let in_use = self.disk.read().unwrap_or_else(PoisonError::into_inner);
        matches!(&*in_use, InUse::None { .. })
    }

    /// True once it was closed.
    pub(crate) fn is_closed(&self) -> bool {
        let in_use = self.disk.read().unwrap_or_else(PoisonError::into_inner);
        matches!(&*in_use, InUse::Closed)
    }

    fn state(&self) -> StoreState {
        let degraded = |(cause, since)| StoreState::Degraded { cause, since };
        match &*self.disk.read().unwrap_or_else(PoisonError::into_inner) {
            InUse::None { cause, since, .. } => return degraded((*cause, *since)),
            InUse::Closed => return StoreState::Ok,
            InUse::Disk(_) => {}
        }
        let slow = self.late.since().map(|since| (Cause::Slow, since));
        slow.or_else(|| *lock(&self.refusing))
            .map_or(StoreState::Ok, degraded)
    }

    fn open_disk(&self, trusting: bool) -> Result<Body, StoreError> {
        let disk = (self.opener.0)()?;
        let images = Arc::clone(&self.images);
        Body::open(disk, self.layout, self.boot, images, trusting)
    }

    /// The disk, if one is in use.
    fn body(&self) -> Option<Arc<Body>> {
        match &*self.disk.read().unwrap_or_else(PoisonError::into_inner) {
            InUse::Disk(body) => Some(Arc::clone(body)),
            InUse::None { .. } | InUse::Closed => None,
        }
    }

    fn set(&self, in_use: InUse) {
        *self.disk.write().unwrap_or_else(PoisonError::into_inner) = in_use;
    }

    /// Takes a disk out of use.
    fn retire(&self, body: &Arc<Body>, cause: Cause) {
        let mut disk = self.disk.write().unwrap_or_else(PoisonError::into_inner);
        let InUse::Disk(used) = &*disk else {
            return;
        };
        if !Arc::ptr_eq(used, body) {
            return;
        }
        body.retire();
        let (_, counts) = body.counts();
        self.counters
            .evictions
            .fetch_add(counts.evictions, Ordering::Relaxed);
        *disk = InUse::None {
            cause,
            since: SystemTime::now(),
            last: Arc::downgrade(body),
        };
        tracing::error!(%cause, "cache out of use: reads go past it until its disk is back");
    }

    /// What follows for the disk from a read.
    fn conclude(&self, body: &Arc<Body>, read: Read) -> Option<Bytes> {
        match read {
            Read::Good(bytes) => return Some(bytes),
            Read::Gone => return None,
            Read::Bad => {}
            Read::Failed(error) => {
                if let Some(cause) = judge(&error, &body.errors) {
                    self.retire(body, cause);
                }
            }
        }
        self.counters.corrupt.fetch_add(1, Ordering::Relaxed);
        None
    }

    fn drain(&self) {
        while let Some((key, bytes)) = self.queue.next() {
            let began = self.late.begin_fill();
            self.fill(key, &bytes);
            drop(began);
            self.queue.done(key);
        }
        if self.lagging.swap(false, Ordering::Relaxed) {
            tracing::warn!("cache disk has caught up");
        }
    }

    fn fill(&self, key: Key, bytes: &[u8]) {
        let Some(body) = self.body() else {
            return;
        };
        if bytes.is_empty() || bytes.len() > SLOT_BYTES as usize {
            return;
        }
        match body.fill(key, bytes) {
            Filled::Unneeded => {}
            Filled::Written => {
                self.counters.fills.fetch_add(1, Ordering::Relaxed);
                if lock(&self.refusing).take().is_some() {
                    tracing::warn!("cache disk takes extents again");
                }
            }
            Filled::Failed(error) => {
                self.counters.fill_errors.fetch_add(1, Ordering::Relaxed);
                if let Some(cause) = judge(&error, &body.errors) {
                    return self.retire(&body, cause);
                }
                let cause = if is_full(&error) {
                    Cause::Full
                } else {
                    Cause::Refusing
                };
                if lock(&self.refusing)
                    .replace((cause, SystemTime::now()))
                    .is_none()
                {
                    tracing::warn!(%error, "cache disk refuses extents: reads go on without it");
                }
            }
        }
    }

    fn forget_now(&self, image: ImageKey) -> io::Result<u64> {
        let body = self
            .body()
            .ok_or_else(|| io::Error::other("the cache is out of use"))?;
        let number = lock(&self.images).forget(image);
        if let Some(number) = number {
            self.queue.forget(number);
        }
        let dropped = body.forget(number)?;
        if !fault::made(Fault::ForgetWithoutSync) {
            // What a failed sync leaves on media nobody knows.
            body.disk
                .sync()
                .inspect_err(|_| self.retire(&body, Cause::Sync))?;
        }
        Ok(dropped)
    }

    fn close_now(&self) -> io::Result<()> {
        self.queue.close();
        self.drain();
        let Some(body) = self.body() else {
            return Ok(());
        };
        self.set(InUse::Closed);
        body.close(self.boot)
    }
}

/// Extents that may wait to be written: 64 MiB.
const QUEUE_EXTENTS: usize = 1024;
