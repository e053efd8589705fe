//! Counters, read by the driver.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::StoreState;

/// What one [`Cache`](crate::Cache) did since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Bytes answered from the store.
    pub hit_bytes: u64,
    /// Bytes answered by a fetch below, own or joined.
    pub miss_bytes: u64,
    /// Fetches asked of the volume below.
    pub flights: u64,
    /// Reads that waited for a fetch that somebody else had begun.
    pub joined: u64,
    /// Reads refused because too much was under way.
    pub refused: u64,
    /// Fetches that ended in an error.
    pub failed: u64,
}

/// What the [`Store`](crate::Store) holds and did since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// How well its disk does.
    pub state: StoreState,
    /// Places for extents.
    pub slots: u64,
    /// Extents held now.
    pub resident: u64,
    /// Extents held that nobody has hashed since an unclean stop.
    pub unverified: u64,
    /// Reads answered without leaving the task.
    pub in_place: u64,
    /// Reads that waited for the disk on the pool.
    pub offloaded: u64,
    /// Extents written.
    pub fills: u64,
    /// Extents not written because too many waited to be.
    pub fill_drops: u64,
    /// Extents not written because the disk refused.
    pub fill_errors: u64,
    /// Extents that made room for others.
    pub evictions: u64,
    /// Extents dropped because their bytes were not what the table says, or could not be read.
    pub corrupt: u64,
    /// Bytes that the scrubber found to be what was written.
    pub scrubbed_bytes: u64,
    /// How often it has come to the end of the store.
    pub scrub_passes: u64,
    /// Extents that it dropped; also counted as corrupt.
    pub scrub_dropped: u64,
}

/// Counts while the cache runs.
#[derive(Debug, Default)]
pub(crate) struct CacheCounters {
    pub hit_bytes: AtomicU64,
    pub miss_bytes: AtomicU64,
    pub flights: AtomicU64,
    pub joined: AtomicU64,
    pub refused: AtomicU64,
    pub failed: AtomicU64,
}

impl CacheCounters {
    pub(crate) fn read(&self) -> CacheStats {
        CacheStats {
            hit_bytes: self.hit_bytes.load(Ordering::Relaxed),
            miss_bytes: self.miss_bytes.load(Ordering::Relaxed),
            flights: self.flights.load(Ordering::Relaxed),
            joined: self.joined.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
        }
    }
}

/// Counts while the store is open.
#[derive(Debug, Default)]
pub(crate) struct StoreCounters {
    pub in_place: AtomicU64,
    pub offloaded: AtomicU64,
    pub fills: AtomicU64,
    pub fill_drops: AtomicU64,
    pub fill_errors: AtomicU64,
    pub corrupt: AtomicU64,
    pub scrubbed_bytes: AtomicU64,
    pub scrub_passes: AtomicU64,
    pub scrub_dropped: AtomicU64,
    /// By disks that are out of use.
    pub evictions: AtomicU64,
}

impl StoreCounters {
    /// What is counted here; what the shelves know is still zero.
    pub(crate) fn read(&self) -> StoreStats {
        StoreStats {
            in_place: self.in_place.load(Ordering::Relaxed),
            offloaded: self.offloaded.load(Ordering::Relaxed),
            fills: self.fills.load(Ordering::Relaxed),
            fill_drops: self.fill_drops.load(Ordering::Relaxed),
            fill_errors: self.fill_errors.load(Ordering::Relaxed),
            corrupt: self.corrupt.load(Ordering::Relaxed),
            scrubbed_bytes: self.scrubbed_bytes.load(Ordering::Relaxed),
            scrub_passes: self.scrub_passes.load(Ordering::Relaxed),
            scrub_dropped: self.scrub_dropped.load(Ordering::Relaxed),
            evictions: self.evictions.load(Ordering::Relaxed),
            ..StoreStats::default()
        }
    }
}
