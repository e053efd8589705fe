//! What one simulated node has.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use vmthunder_cache::flight::{Flights, Limits, Ticket};
use vmthunder_swarm::Backoff;
use vmthunder_swarm::fetch::{Fetch, HedgeBudget, Source, View};
use vmthunder_swarm::forest::{Forest, NodeName};
use vmthunder_swarm::health::{Health, HealthOptions};
use vmthunder_volume::{Class, EXTENT_BYTES, Extent};

use crate::Scenario;

/// Who waits for a flight.
#[derive(Debug)]
pub(crate) enum Waiter {
    Guest(Read),
    Prefetch,
    /// The request of a peer.
    Peer(u64),
}

/// A guest's read: of what, since when it is wanted, and how often it was refused.
#[derive(Clone, Copy, Debug, Hash)]
pub(crate) struct Read {
    pub(crate) extent: Extent,
    pub(crate) since: Duration,
    pub(crate) backoff: Backoff,
}

/// A fetch under way.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) extent: Extent,
    pub(crate) class: Class,
    pub(crate) ticket: Ticket,
    pub(crate) fetch: Fetch,
    pub(crate) outstanding: usize,
    /// The right bytes came.
    pub(crate) came: bool,
}

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) name: NodeName,
    pub(crate) view: Forest,
    pub(crate) alive: bool,
    pub(crate) lies: bool,
    pub(crate) health: Health,
    pub(crate) hedges: HedgeBudget,
    pub(crate) flights: Flights<Waiter>,
    pub(crate) runs: HashMap<u64, Run>,
    pub(crate) resident: HashSet<Extent>,
    pub(crate) up: Link,
    pub(crate) down: Link,
    /// Requests of peers that are served at the moment.
    pub(crate) serving: usize,
    /// Requests under way at each source, local ones and forwarded ones.
    pub(crate) asking: HashMap<(Source, bool), usize>,
    pub(crate) uploads: u64,
    /// Where the guest and the read-ahead are in the boot, how much of it has come, and when the latest of it came.
    pub(crate) position: u64,
    pub(crate) prefetched: u64,
    pub(crate) arrived: u64,
    pub(crate) latest: Duration,
}

impl Node {
    pub(crate) fn new(name: NodeName, view: Forest, rate: u64, lies: bool) -> Self {
        Self {
            name,
            view,
            alive: true,
            lies,
            health: Health::new(HealthOptions::default()),
            hedges: HedgeBudget::default(),
            flights: Flights::new(Limits::default()),
            runs: HashMap::new(),
            resident: HashSet::new(),
            up: Link::new(rate),
            down: Link::new(rate),
            serving: 0,
            asking: HashMap::new(),
            uploads: 0,
            position: 0,
            prefetched: 0,
            arrived: 0,
            latest: Duration::ZERO,
        }
    }

    /// What the guest, or the read-ahead, wants next if its window allows.
    pub(crate) fn next_read(&mut self, now: Duration, at: &Scenario) -> Option<(Extent, Waiter)> {
        // A boot jumps about on its disk. Multiplying by an odd number permutes.
        let extent = |index: u64| Extent(index.wrapping_mul(0x9e37_79b1) % (1 << 20));
        if self.position < at.extents.min(self.arrived + at.demand_window) {
            let read = Read {
                extent: extent(self.position),
                since: now,
                backoff: Backoff::default(),
            };
            self.position += 1;
            return Some((read.extent, Waiter::Guest(read)));
        }
        if self.prefetched < at.extents.min(self.arrived + at.prefetch_window) {
            self.prefetched += 1;
            return Some((extent(self.prefetched - 1), Waiter::Prefetch));
        }
        None
    }

    /// Lets a fetch decide by what this node knows of the others.
    pub(crate) fn decide<T>(
        &self,
        now: Duration,
        run: u64,
        decide: impl FnOnce(&Fetch, &View<'_>) -> T,
    ) -> Option<T> {
        let fetch = &self.runs.get(&run)?.fetch;
        let absent = |name: &NodeName| self.health.is_absent(now, name);
        let view = View {
            forest: &self.view,
            me: &self.name,
            absent: &absent,
        };
        Some(decide(fetch, &view))
    }
}

/// One direction of a link, which carries one extent after the other.
#[derive(Debug)]
pub(crate) struct Link {
    per_extent: Duration,
    free_at: Duration,
}

impl Link {
    pub(crate) fn new(rate: u64) -> Self {
        Self {
            per_extent: Duration::from_nanos(EXTENT_BYTES * 1_000_000_000 / rate),
            free_at: Duration::ZERO,
        }
    }

    /// Carries an extent that is there `from` on; answers when it has passed.
    pub(crate) fn carry(&mut self, from: Duration) -> Duration {
        self.free_at = self.free_at.max(from) + self.per_extent;
        self.free_at
    }
}
