//! What one simulated node has.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use vmthunder_cache::flight::{Flights, Limits, Ticket};
use vmthunder_swarm::fetch::{Backoff, Fetch, HedgeBudget, Source};
use vmthunder_swarm::forest::{Forest, NodeName};
use vmthunder_swarm::health::{Health, HealthOptions};
use vmthunder_volume::{Class, Extent};

use crate::Scenario;
use crate::link::Link;

/// Who waits for a flight.
#[derive(Debug)]
pub(crate) enum Waiter {
    Guest(u64),
    Prefetch,
    /// The request of a peer.
    Peer(u64),
}

/// A fetch under way.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) extent: Extent,
    pub(crate) class: Class,
    pub(crate) ticket: Ticket,
    pub(crate) fetch: Fetch,
    pub(crate) outstanding: usize,
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
    /// Where the guest is in its boot, how much of it has come, and when it was done.
    pub(crate) position: u64,
    pub(crate) arrived: u64,
    pub(crate) prefetched: u64,
    /// Reads of the guest that were refused wait here, above the flights.
    pub(crate) refused: HashMap<u64, Backoff>,
    pub(crate) done: Option<Duration>,
}

impl Node {
    pub(crate) fn new(
        scenario: &Scenario,
        name: NodeName,
        view: Forest,
        rate: u64,
        lies: bool,
    ) -> Self {
        // A boot never has more under way than this; what is bounded in the scenario are the queues between nodes.
        let limits = Limits {
            flights: 4096,
            peer_reserve: 1024,
            bulk_flights: 1024,
            waiters: 4096,
        };
        debug_assert!(scenario.demand_window + scenario.prefetch_window < 1024);
        Self {
            name,
            view,
            alive: true,
            lies,
            health: Health::new(HealthOptions::default()),
            hedges: HedgeBudget::default(),
            flights: Flights::new(limits),
            runs: HashMap::new(),
            resident: HashSet::new(),
            up: Link::new(rate),
            down: Link::new(rate),
            serving: 0,
            asking: HashMap::new(),
            uploads: 0,
            position: 0,
            arrived: 0,
            prefetched: 0,
            refused: HashMap::new(),
            done: None,
        }
    }

    /// Takes a place in the queue towards a source, if there is one: forwarded requests have a queue of their own.
    pub(crate) fn take_place(&mut self, source: &Source, class: Class, limit: usize) -> bool {
        let places = self
            .asking
            .entry((source.clone(), class == Class::Peer))
            .or_default();
        let free = *places < limit;
        *places += usize::from(free);
        free
    }

    pub(crate) fn leave_place(&mut self, source: &Source, class: Class) {
        if let Some(places) = self.asking.get_mut(&(source.clone(), class == Class::Peer)) {
            *places = places.saturating_sub(1);
        }
    }
}
