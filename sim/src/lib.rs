//! Many nodes in one thread under virtual time, from a seed: drives the decisions of the swarm before sockets do.
//!
//! [`run`] plays a [`Scenario`]: every node replays one boot, reading the same extents in the same order, through the
//! real forest, fetch, health and flights; links, queues, deaths and lies are simulated. The same scenario always gives
//! the same [`Report`], down to the hash of its event log.
#![forbid(unsafe_code)]

mod dice;
mod node;
mod world;

use std::time::Duration;

/// Bytes per second of a link, each way: 1 Gb/s.
pub const LINK_RATE: u64 = 125_000_000;

/// What is simulated.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Decides everything that is left to chance.
    pub seed: u64,
    /// Nodes that boot.
    pub nodes: usize,
    /// Extents that a boot reads.
    pub extents: u64,
    /// Extents that a guest asks for at once.
    pub demand_window: u64,
    /// Extents that are read ahead of the guest; none if zero.
    pub prefetch_window: u64,
    /// Nodes begin within this many milliseconds.
    pub stagger_ms: u64,
    /// Requests of peers that a node serves at once.
    pub serve_queue: usize,
    /// Requests that a node has under way at one source, for itself; as many again for peers.
    pub ask_queue: usize,
    /// Per cent of the other nodes that a node knows of.
    pub view_percent: u64,
    /// Nodes that die silently within the first half second.
    pub deaths: usize,
    /// Nodes with a tenth of the rate.
    pub slow: usize,
    /// Nodes that answer with wrong bytes.
    pub liars: usize,
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            seed: 1,
            nodes: 8,
            extents: 256,
            demand_window: 4,
            prefetch_window: 0,
            stagger_ms: 100,
            serve_queue: 1024,
            ask_queue: 96,
            view_percent: 100,
            deaths: 0,
            slow: 0,
            liars: 0,
        }
    }
}

/// What came out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Extents sent by the origin, divided by the extents that a boot reads.
    pub origin_copies: f64,
    /// When the last node that lives was done.
    pub last: Duration,
    /// When the middle one was.
    pub median: Duration,
    /// Nodes that live and have not read everything.
    pub stuck: usize,
    /// Reads that took longer than a guest waits.
    pub failed: u64,
    /// Extents that were handed up although nobody had given the right bytes.
    pub wrong: u64,
    /// Wrong bytes noticed.
    pub corrupt: u64,
    /// Requests to a node of higher rank: one would be enough for a loop.
    pub uphill: u64,
    /// Requests sent to peers and the origin.
    pub asked: u64,
    /// Second sources asked.
    pub hedges: u64,
    /// Most extents that one node sent, divided by the extents that a boot reads.
    pub most_uploads: f64,
    /// Hash of all events in order.
    pub log_hash: u64,
}

/// Plays a scenario to its end.
pub fn run(scenario: &Scenario) -> Report {
    world::World::new(scenario.clone()).play()
}
