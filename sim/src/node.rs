//! What one simulated node has.

use std::collections::HashMap;
use std::time::Duration;

use vmthunder_cache::flight::{Flights, Limits, Ticket};
use vmthunder_swarm::Backoff;
use vmthunder_swarm::fetch::{Fetch, HedgeBudget, Source, View};
use vmthunder_swarm::forest::{Forest, NodeName};
use vmthunder_swarm::gate::{Gate, Place};
use vmthunder_swarm::health::Health;
use vmthunder_volume::Class;

use crate::Scenario;
use crate::link::{Disk, Link};
use crate::slab::Id;

/// Who waits for a flight.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Waiter {
    Local(Want),
    /// The request of a peer.
    Peer(Id),
}

/// What the guest or the read-ahead wants: which extent of the boot, since when, and how often it was refused.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Want {
    pub(crate) extent: u32,
    pub(crate) by: By,
    pub(crate) since: Duration,
    pub(crate) backoff: Backoff,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum By {
    /// The guest's read with this number.
    Guest(u32),
    Prefetch,
}

impl Want {
    pub(crate) fn class(&self) -> Class {
        match self.by {
            By::Guest(_) => Class::Demand,
            By::Prefetch => Class::Prefetch,
        }
    }
}

/// A fetch under way.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) node: u32,
    pub(crate) extent: u32,
    pub(crate) class: Class,
    pub(crate) ticket: Ticket,
    pub(crate) fetch: Fetch,
    pub(crate) outstanding: u32,
    /// The right bytes came.
    pub(crate) came: bool,
    /// Its number in the line for the origin, and when it leaves it.
    pub(crate) in_line: Option<(u64, Duration)>,
}

/// What has become of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Up,
    /// Its machine died: nothing comes from it any more.
    Dead,
    /// Its daemon was stopped: whoever asks is told so.
    Left,
}

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) name: NodeName,
    pub(crate) view: Forest,
    /// The version of the membership that the view shows.
    pub(crate) version: u32,
    pub(crate) state: State,
    /// How often it was started: what was begun in an earlier life is over.
    pub(crate) life: u32,
    pub(crate) lies: bool,
    pub(crate) slow: bool,
    pub(crate) health: Health,
    pub(crate) hedges: HedgeBudget,
    pub(crate) flights: Flights<Waiter>,
    pub(crate) resident: Vec<u64>,
    pub(crate) link: Link<Id>,
    pub(crate) disk: Disk,
    /// Requests of peers that are served at the moment.
    pub(crate) serving: usize,
    /// Requests under way at each peer, and at the origin.
    pub(crate) gates: HashMap<NodeName, Gate<Id>>,
    pub(crate) origin_gate: Gate<Id>,
    pub(crate) uploads: u64,
    pub(crate) guest: Guest,
}

/// Where the guest and the read-ahead are in the boot.
#[derive(Debug, Default)]
pub(crate) struct Guest {
    /// The next read.
    pub(crate) next: u32,
    /// The guest thinks before it.
    pub(crate) thinks: bool,
    /// Reads under way, and how many of their extents are not here yet.
    pub(crate) open: Vec<(u32, u32)>,
    /// Reads that are done.
    pub(crate) done: u32,
    /// The next extent to be read ahead, and how many are under way.
    pub(crate) ahead: u32,
    pub(crate) prefetching: u32,
    /// When the boot was over.
    pub(crate) end: Option<Duration>,
}

impl Node {
    pub(crate) fn new(name: NodeName, view: Forest, slow: bool, lies: bool, at: &Scenario) -> Self {
        let slowness = if slow { at.slowness.max(1) } else { 1 };
        let swarm = &at.swarm;
        Self {
            name,
            view,
            version: 0,
            state: State::Up,
            life: 0,
            lies,
            slow,
            health: Health::new(swarm.health.clone()),
            hedges: HedgeBudget::default(),
            flights: Flights::new(Limits::default()),
            resident: vec![0; at.boot.extents.len().div_ceil(64)],
            link: Link::new(at.rate / slowness),
            disk: Disk::new(at.disk_rate),
            serving: 0,
            gates: HashMap::new(),
            origin_gate: Gate::new(swarm.origin_queue, swarm.origin_bytes_per_second),
            uploads: 0,
            guest: Guest::default(),
        }
    }

    pub(crate) fn is_resident(&self, extent: u32) -> bool {
        let word = self.resident.get(extent as usize / 64);
        word.is_some_and(|word| word >> (extent % 64) & 1 == 1)
    }

    pub(crate) fn keep(&mut self, extent: u32) {
        if let Some(word) = self.resident.get_mut(extent as usize / 64) {
            *word |= 1 << (extent % 64);
        }
    }

    /// Gives a place at a source back.
    pub(crate) fn leave(&mut self, source: &Source, place: Place) {
        match source {
            Source::Origin => self.origin_gate.leave(place),
            Source::Peer(name) => {
                if let Some(gate) = self.gates.get_mut(name) {
                    gate.leave(place);
                }
            }
        }
    }

    /// Lets a fetch decide by what this node knows of the others.
    pub(crate) fn look<T>(&self, now: Duration, decide: impl FnOnce(&View<'_>) -> T) -> T {
        let absent = self.health.absent(now);
        decide(&View {
            forest: &self.view,
            me: &self.name,
            absent: &absent,
        })
    }

    /// What was under way is over: the daemon was stopped. What lies on its disk stays.
    pub(crate) fn stop(&mut self, at: &Scenario) {
        self.state = State::Left;
        self.life += 1;
        self.health = Health::new(at.swarm.health.clone());
        self.flights = Flights::new(Limits::default());
        self.gates.clear();
        self.origin_gate = Gate::new(at.swarm.origin_queue, at.swarm.origin_bytes_per_second);
        self.serving = 0;
        self.guest.open.clear();
        self.guest.thinks = false;
        self.guest.next = self.guest.done;
        self.guest.prefetching = 0;
        self.guest.ahead = 0;
    }
}
