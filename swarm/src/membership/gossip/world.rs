//! A world of nodes that gossip, in virtual time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::forest::NodeName;
use crate::membership::gossip::{Gossip, GossipOptions, Now};
use crate::membership::keys::{Keyring, Keys, SwarmKey};
use crate::membership::{Event, Member, Roll, State, Through};

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const MS: Duration = Duration::from_millis(1);

/// What time it is when a world begins: microseconds since 1970.
pub(super) const EPOCH_US: u64 = 1_800_000_000_000_000;

pub(super) struct Node {
    pub(super) gossip: Gossip,
    pub(super) roll: Roll,
    pub(super) address: SocketAddr,
    /// Which side of a partition it is on.
    pub(super) side: u8,
    pub(super) lives: bool,
    pub(super) events: Vec<Event>,
}

/// When it arrives, its number, who sent it and where to, and what.
type Flight = (Duration, u64, (usize, SocketAddr), Vec<u8>);

pub(super) struct World {
    pub(super) now: Duration,
    pub(super) random: SmallRng,
    /// Datagrams that are lost, in a thousand.
    pub(super) loss: u32,
    pub(super) nodes: Vec<Node>,
    /// Who was seen last at an address.
    pub(super) places: BTreeMap<SocketAddr, usize>,
    pub(super) flights: BinaryHeap<Reverse<Flight>>,
    pub(super) count: u64,
    pub(super) sent: u64,
    pub(super) ring: Arc<Keyring>,
}

pub(super) fn ring(text: &[u8]) -> Arc<Keyring> {
    let key = SwarmKey::new(1, *blake3::hash(text).as_bytes());
    Keyring::new(Keys::parse(&key.line()).unwrap())
}

pub(super) fn name(number: usize) -> NodeName {
    NodeName::new(&format!("node-{number}")).unwrap()
}

pub(super) fn address(number: usize) -> SocketAddr {
    let host = Ipv4Addr::from(0x0a00_0000 + u32::try_from(number).unwrap());
    (host, 3260).into()
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            now: SECOND,
            random: SmallRng::seed_from_u64(seed),
            loss: 0,
            nodes: Vec::new(),
            places: BTreeMap::new(),

            flights: BinaryHeap::new(),
            count: 0,
            sent: 0,
            ring: ring(b"key"),
        }
    }

    /// Nodes that begin one after the other and know the first one.
    pub(super) fn of(seed: u64, nodes: usize) -> Self {
        let mut world = Self::new(seed);
        for number in 0..nodes {
            world.begin(name(number), address(number), &[address(0)], &[]);
            world.run(2 * MS);
        }
        world
    }

    pub(super) fn moment(&self) -> Now {
        let passed = u64::try_from(self.now.as_micros()).unwrap();
        Now {
            elapsed: self.now,
            unix_us: EPOCH_US + passed,
        }
    }

    pub(super) fn begin(
        &mut self,
        name: NodeName,
        at: SocketAddr,
        seeds: &[SocketAddr],
        remembered: &[SocketAddr],
    ) -> usize {
        let ring = Arc::clone(&self.ring);
        self.begin_with(ring, name, at, seeds, remembered)
    }

    pub(super) fn begin_with(
        &mut self,
        keys: Arc<Keyring>,
        name: NodeName,
        address: SocketAddr,
        seeds: &[SocketAddr],
        remembered: &[SocketAddr],
    ) -> usize {
        let options = GossipOptions {
            name,
            address,
            keys,
            seeds: seeds.to_vec(),
            remembered: remembered.to_vec(),
            random: self.random.random(),
        };
        self.nodes.push(Node {
            gossip: Gossip::new(self.moment(), options),
            roll: Roll::default(),
            address,
            side: 0,
            lives: true,
            events: Vec::new(),
        });
        let index = self.nodes.len() - 1;
        self.places.insert(address, index);
        self.drain(index);
        index
    }

    pub(super) fn drain(&mut self, index: usize) {
        while let Some((to, datagram)) = self.nodes[index].gossip.poll_send() {
            assert!(datagram.len() <= 1400, "{} bytes", datagram.len());
            self.sent += 1;
            if self.random.random_range(0..1000) < self.loss {
                continue;
            }
            let delay = MS + MS * self.random.random_range(0..3);
            self.count += 1;
            let flight = (self.now + delay, self.count, (index, to), datagram);
            self.flights.push(Reverse(flight));
        }
        while let Some(event) = self.nodes[index].gossip.poll_event() {
            let node = &mut self.nodes[index];
            node.events.push(event.clone());
            node.roll.apply(self.now.as_secs(), Through::Gossip, event);
        }
    }

    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        let mut clocks: BinaryHeap<Reverse<(Duration, usize)>> = BinaryHeap::new();
        for (index, node) in self.nodes.iter().enumerate() {
            if node.lives {
                clocks.push(Reverse((node.gossip.next_time(), index)));
            }
        }
        loop {
            let flight = self.flights.peek().map(|Reverse((at, ..))| *at);
            let clock = clocks.peek().map(|Reverse((at, _))| *at);
            let next = flight
                .unwrap_or(Duration::MAX)
                .min(clock.unwrap_or(Duration::MAX));
            if next > end {
                self.now = end;
                return;
            }
            self.now = next.max(self.now);
            if clock == Some(next) {
                let Some(Reverse((_, index))) = clocks.pop() else {
                    continue;
                };
                if self.nodes[index].lives {
                    let moment = self.moment();
                    self.nodes[index].gossip.handle_time(moment);
                    self.drain(index);
                    clocks.push(Reverse((
                        self.nodes[index].gossip.next_time().max(self.now + MS),
                        index,
                    )));
                }
                continue;
            }
            let Some(Reverse((_, _, (from, to), datagram))) = self.flights.pop() else {
                continue;
            };
            let side = self.nodes[from].side;
            // A node that came back is behind its former life.
            let here = self.places.get(&to).copied();
            let here =
                here.filter(|index| self.nodes[*index].lives && self.nodes[*index].side == side);
            let Some(index) = here else { continue };
            let moment = self.moment();
            // Refused datagrams are counted by the node.
            let _ = self.nodes[index].gossip.handle_datagram(moment, &datagram);
            self.drain(index);
        }
    }

    /// Runs until something is so; fails after `most`.
    pub(super) fn until(
        &mut self,
        most: Duration,
        what: &str,
        so: impl Fn(&Self) -> bool,
    ) -> Duration {
        let start = self.now;
        while !so(self) {
            assert!(self.now - start < most, "after {most:?} not yet: {what}");
            self.run(500 * MS);
        }
        self.now - start
    }

    /// How many of the living nodes on its side a node knows, in parts of one.
    pub(super) fn least_view(&self) -> f64 {
        let living: Vec<&Node> = self.nodes.iter().filter(|node| node.lives).collect();
        let view = |node: &&Node| {
            let others = living
                .iter()
                .filter(|other| other.side == node.side && other.address != node.address);
            let names: BTreeSet<_> = others
                .map(|other| other.gossip.identity().name.clone())
                .collect();
            let known = node
                .roll
                .present()
                .filter(|member| names.contains(&member.name))
                .count();
            if names.is_empty() {
                1.0
            } else {
                known as f64 / names.len() as f64
            }
        };
        living.iter().map(view).fold(1.0, f64::min)
    }

    /// True if nobody takes a dead node for a living one.
    pub(super) fn knows_the_dead(&self) -> bool {
        let dead = self.nodes.iter().filter(|node| !node.lives);
        let dead: BTreeSet<_> = dead
            .map(|node| node.gossip.identity().name.clone())
            .collect();
        let mut living = self.nodes.iter().filter(|node| node.lives);
        living.all(|node| {
            node.roll
                .present()
                .all(|member| !dead.contains(&member.name))
        })
    }

    pub(super) fn falsely_left(&self) -> usize {
        let events = self.nodes.iter().flat_map(|node| &node.events);
        events
            .filter(|event| matches!(event, Event::Left(_)))
            .count()
    }
}

pub(super) fn member(world: &World, at: usize, name: &NodeName) -> Option<(Member, State)> {
    let known = world.nodes[at]
        .roll
        .all()
        .find(|known| known.member.name == *name);
    known.map(|known| (known.member.clone(), known.state))
}
