//! What a swarm counted.

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
    /// Extents known to be zero, answered without asking anybody.
    pub zero_extents: u64,
    /// Peers' requests that were refused because they could not be forwarded at once.
    pub refused: u64,
    /// Questions put to an ancestor of a silent parent.
    pub climbs: u64,
    /// Questions put to a second source before the first had answered.
    pub hedges: u64,
    /// Times that a fetch waited before it asked again.
    pub waits: u64,
    /// Fetches that ended without an answer.
    pub failures: u64,
}
