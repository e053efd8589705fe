//! What a swarm counts.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::fetch::Source;

/// What one source gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceStats {
    /// Who.
    pub source: Source,
    /// Extents that came and were verified.
    pub extents: u64,
    /// Bytes that came and were verified.
    pub bytes: u64,
    /// Questions that it refused.
    pub refusals: u64,
    /// Questions that it did not answer in time, or could not.
    pub failures: u64,
    /// Answers that were not what they should be.
    pub corrupt: u64,
    /// True if it is left out at the moment: dead, slow or quarantined.
    pub absent: bool,
}

/// What a swarm counted since it was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SwarmStats {
    /// Each source, the origin first.
    pub sources: Vec<SourceStats>,
    /// Extents answered without asking anybody: zeros, and the header of a manifest.
    pub known_extents: u64,
    /// Requests that were refused because nobody answered them at once.
    pub refused: u64,
    /// Questions put to a second source before the first had answered.
    pub hedges: u64,
    /// How long the origin has not answered, if it did not when it was asked last, lately.
    pub origin_silent: Option<Duration>,
    /// Extents of which the origin has other content than the manifest says, as far as was noticed lately.
    pub origin_wrong: usize,
}

#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Debug, Default)]
pub(crate) struct SourceCounters {
    pub(crate) extents: Counter,
    pub(crate) bytes: Counter,
    pub(crate) refusals: Counter,
    pub(crate) failures: Counter,
    pub(crate) corrupt: Counter,
}

impl SourceCounters {
    pub(crate) fn snapshot(&self, source: Source, absent: bool) -> SourceStats {
        SourceStats {
            source,
            extents: self.extents.get(),
            bytes: self.bytes.get(),
            refusals: self.refusals.get(),
            failures: self.failures.get(),
            corrupt: self.corrupt.get(),
            absent,
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) known_extents: Counter,
    pub(crate) refused: Counter,
    pub(crate) hedges: Counter,
}

impl Counters {
    pub(crate) fn snapshot(&self, sources: Vec<SourceStats>) -> SwarmStats {
        SwarmStats {
            sources,
            known_extents: self.known_extents.get(),
            refused: self.refused.get(),
            hedges: self.hedges.get(),
            ..SwarmStats::default()
        }
    }
}
