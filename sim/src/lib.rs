//! Many nodes in one thread under virtual time, from a seed: drives the decisions of the swarm before sockets do.
//!
//! [`run`] plays a [`Scenario`]: every node replays one [`Boot`], through the real forest, fetch, health, gates and
//! flights; links, disks, queues, deaths and lies are simulated. The same scenario always gives the same [`Report`], down
//! to the hash of its event log.
#![forbid(unsafe_code)]

mod agenda;
mod asking;
mod boot;
mod churn;
mod dice;
mod guest;
mod hunt;
mod link;
mod mesh;
mod node;
mod serving;
mod slab;
mod world;

use std::sync::Arc;
use std::time::Duration;

use vmthunder_swarm::SwarmOptions;

pub use boot::Boot;
pub use hunt::hunted;

/// What is simulated.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Decides everything that is left to chance.
    pub seed: u64,
    /// Nodes that boot.
    pub nodes: u32,
    /// What each of them reads.
    pub boot: Arc<Boot>,
    /// Who asks whom.
    pub shape: Shape,
    /// Bits per second of a node's link, each way.
    pub rate: u64,
    /// The same for the origin.
    pub origin_rate: u64,
    /// How long a message and its answer are on their way.
    pub round_trip: Duration,
    /// Bytes per second of a node's disk.
    pub disk_rate: u64,
    /// Extents that are read ahead of the guest at once, and fewer on a slow link; none if zero.
    pub prefetch: u32,
    /// Nodes begin within this time.
    pub stagger: Duration,
    /// The limits of the daemon.
    pub swarm: SwarmOptions,
    /// Requests of peers that a node serves at once.
    pub serve_queue: usize,
    /// Per cent of the other nodes that a node knows of.
    pub view_percent: u64,
    /// Nodes that die silently, within half of the bound.
    pub deaths: u32,
    /// Nodes with a slower link.
    pub slow: u32,
    /// How much slower it is.
    pub slowness: u64,
    /// Nodes that answer with wrong bytes.
    pub liars: u32,
    /// Nodes that stop and come back under another address, within the bound; others learn it one after the other.
    pub churn: u32,
}

/// Who asks whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// The forest of mirrored pairs.
    Forest,
    /// Everybody asks neighbours for what is rarest among them; nothing goes wrong there but slow links.
    Mesh,
    /// One binary tree.
    Tree,
    /// Everybody asks the origin.
    Star,
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            seed: 1,
            nodes: 8,
            boot: Arc::new(Boot::of_size(16 << 20, 4 << 30, 1)),
            shape: Shape::Forest,
            rate: 1_000_000_000,
            origin_rate: 1_000_000_000,
            round_trip: Duration::from_micros(200),
            disk_rate: 500_000_000,
            prefetch: 96,
            stagger: Duration::from_millis(1),
            swarm: SwarmOptions::default(),
            // What a target holds in memory at once: a gibibyte.
            serve_queue: 16_384,
            view_percent: 100,
            deaths: 0,
            slow: 0,
            slowness: 10,
            liars: 0,
            churn: 0,
        }
    }
}

impl Scenario {
    /// The least time that any way of distribution takes: max(W/B, W/B0, T_cpu).
    pub fn bound(&self) -> Duration {
        let bits = u128::from(self.boot.bytes()) * 8_000_000_000;
        let rate = self.rate.min(self.origin_rate).max(1);
        let nanos = bits / u128::from(rate);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)).max(self.boot.think())
    }
}

/// What came out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Extents sent by the origin, divided by the extents that a boot reads.
    pub origin_copies: f64,
    /// When the last node that lives was done.
    pub last: Duration,
    /// The last of those whose link is not slow.
    pub last_fast: Duration,
    /// When the middle one was.
    pub median: Duration,
    /// When each was, in order.
    pub ends: Vec<Duration>,
    /// Nodes that live and have not read everything.
    pub stuck: u32,
    /// The longest that a guest waited for a read.
    pub longest_read: Duration,
    /// Extents that were handed up although nobody had given the right bytes.
    pub wrong: u64,
    /// Wrong bytes noticed.
    pub corrupt: u64,
    /// Requests to a node of higher rank: one would be enough for a loop.
    pub uphill: u64,
    /// Requests sent to peers and the origin.
    pub asked: u64,
    /// Extents that nodes got.
    pub delivered: u64,
    /// Requests that were refused.
    pub refused: u64,
    /// Requests that were given up.
    pub silent: u64,
    /// Second sources asked.
    pub hedges: u64,
    /// Most extents that one node sent, divided by the extents that a boot reads.
    pub most_uploads: f64,
    /// Extents that the origin sent in each [`Report::tick`].
    pub origin_sent: Vec<u32>,
    /// A hundredth of the bound.
    pub tick: Duration,
    /// Things that happened.
    pub events: u64,
    /// Hash of all of them in order.
    pub log_hash: u64,
}

/// Plays a scenario to its end.
pub fn run(scenario: &Scenario) -> Report {
    match scenario.shape {
        Shape::Mesh => mesh::play(scenario),
        Shape::Forest | Shape::Tree | Shape::Star => world::World::new(scenario.clone()).play(),
    }
}

impl Report {
    /// The origin has sent an extent.
    fn count_origin(&mut self, now: Duration) {
        let tick = (now.as_nanos() / self.tick.as_nanos().max(1)).min(MAX_TICKS);
        let tick = usize::try_from(tick).unwrap_or_default();
        if self.origin_sent.len() <= tick {
            self.origin_sent.resize(tick + 1, 0);
        }
        self.origin_sent[tick] += 1;
    }

    /// Sums up: when all nodes were done and the fast ones of them, in order, and what the busiest one sent.
    fn finish(&mut self, ends: Vec<Duration>, fast: &[Duration], uploads: u64, extents: u64) {
        let boot = extents.max(1) as f64;
        let sent: u64 = self.origin_sent.iter().map(|sent| u64::from(*sent)).sum();
        self.last = ends.last().copied().unwrap_or_default();
        self.last_fast = fast.last().copied().unwrap_or_default();
        self.median = ends.get(ends.len() / 2).copied().unwrap_or_default();
        self.ends = ends;
        self.origin_copies = sent as f64 / boot;
        self.most_uploads = uploads as f64 / boot;
    }
}

/// A storm is not drawn further than so many hundredths of the bound.
const MAX_TICKS: u128 = 100_000;
