//! Gossip: the nodes tell each other who is there, with no server (SWIM, by the crate `foca`).
//!
//! [`Gossip`] is one node's side of it without sockets and clocks. Bytes and time in: [`Gossip::handle_datagram`],
//! [`Gossip::handle_time`] when [`Gossip::next_time`] has come. Then, until they give nothing more: [`Gossip::poll_send`]
//! and [`Gossip::poll_event`].
//!
//! A node that begins asks whether somebody alive has its name, and is no member if so; nor is the younger of two that
//! meet later, when a partition heals. It asks again from time to time.

mod claim;
mod out;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod world;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use foca::{Config, Foca, NoCustomBroadcast};
use rand::SeedableRng as _;
use rand::rngs::SmallRng;

use crate::forest::NodeName;
use crate::membership::codec::{Codec, Identity, Noticed, lock};
use crate::membership::envelope::{Envelope, MOST_BYTES, OVERHEAD, Refused};
use crate::membership::gossip::claim::{CLAIM_OF_MEMBER, CLAIM_PASSED_ON};
use crate::membership::gossip::out::Out;
use crate::membership::keys::Keyring;
use crate::membership::{Event, Images};

/// How often it is looked after what nobody else looks after.
const ROUND: Duration = Duration::from_secs(1);

/// How often a node that begins asks whether its name is free, and for how long.
const ASK_EVERY: Duration = Duration::from_millis(200);
const ASK_FOR: Duration = Duration::from_millis(800);

/// How long a node whose name is taken waits before it asks again.
const TAKEN_FOR: Duration = Duration::from_secs(30);

/// The shortest time between two attempts to settle who has a name.
const SETTLE_EVERY: Duration = Duration::from_millis(500);

/// Rounds between two messages to a seed while there are members: it may know others.
const SEED_EVERY: u64 = 30;

/// Remembered members that are tried in each round while nobody is there.
const TRIED_AT_ONCE: usize = 8;

/// Those who ask after a node that moved, of all who see it.
const WITNESSES: u64 = 16;

/// Spreads who they are: 2^64 over the golden ratio.
const LOT: u64 = 0x9e37_79b9_7f4a_7c15;

/// Places where a node looks for others.
const MOST_PLACES: usize = 1024;

/// The smallest swarm that anything is tuned for.
const LEAST_SIZE: u32 = 32;

/// The swarm that could be gathering.
const GATHERING: NonZeroU32 = NonZeroU32::MIN.saturating_add(4095);

/// What a moment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Time that passes evenly, from any beginning.
    pub elapsed: Duration,
    /// Microseconds since 1970, UTC, as far as the machine knows.
    pub unix_us: u64,
}

/// How a node takes part.
#[derive(Clone, Debug)]
pub struct GossipOptions {
    /// The node's permanent name; letters, digits, `.` and `-`.
    pub name: NodeName,
    /// Where others reach it.
    pub address: SocketAddr,
    /// The swarm's keys.
    pub keys: Arc<Keyring>,
    /// Where somebody is told to be.
    pub seeds: Vec<SocketAddr>,
    /// Where somebody was.
    pub remembered: Vec<SocketAddr>,
    /// What random choices begin with.
    pub random: u64,
}

/// One node's side of the gossip.
pub struct Gossip {
    me: Identity,
    random: u64,
    envelope: Envelope,
    noticed: Arc<Mutex<Noticed>>,
    phase: Phase,
    seeds: Vec<SocketAddr>,
    remembered: Vec<SocketAddr>,
    suspects: BTreeSet<NodeName>,
    settled: Duration,
    round: u64,
    out: Out,
    refused: BTreeMap<Refused, u64>,
}

type Protocol = Foca<Identity, Codec, SmallRng, NoCustomBroadcast>;

/// Whether this node is a member.
enum Phase {
    /// It asks whether its name is free.
    Asking { next: Duration, until: Duration },
    /// It is.
    Member {
        protocol: Box<Protocol>,
        next: Duration,
    },
    /// Another one has its name.
    Taken { until: Duration },
}

/// What a payload is.
const PROTOCOL: u8 = 0;
const CLAIM: u8 = 1;
const TAKEN: u8 = 2;

impl Gossip {
    /// A node that begins now.
    pub fn new(now: Now, options: GossipOptions) -> Self {
        let me = Identity {
            name: options.name,
            address: options.address,
            born: now.unix_us,
            generation: now.unix_us / 1000,
            draining: false,
            images: Images::Any,
        };
        let elsewhere = |places: Vec<SocketAddr>| {
            let mut places: Vec<_> = places.into_iter().filter(|at| *at != me.address).collect();
            places.truncate(MOST_PLACES);
            places
        };
        let mut gossip = Self {
            // Two nodes may begin in the same microsecond.
            envelope: Envelope::new(options.keys, me.name.hash() ^ me.born),
            noticed: Arc::default(),
            phase: Phase::Asking {
                next: now.elapsed,
                until: now.elapsed + ASK_FOR,
            },
            random: options.random,
            seeds: elsewhere(options.seeds),
            remembered: elsewhere(options.remembered),
            suspects: BTreeSet::new(),
            settled: Duration::ZERO,
            round: 0,
            out: Out::default(),
            refused: BTreeMap::new(),
            me,
        };
        gossip.handle_time(now);
        gossip
    }

    /// Takes a datagram in. What is no good is counted, and nothing else comes of it.
    pub fn handle_datagram(&mut self, now: Now, datagram: &[u8]) -> Result<(), Refused> {
        self.out.now = now.elapsed;
        let payload = match self.envelope.open(now.unix_us, datagram) {
            Ok(payload) => payload,
            Err(refused) => {
                *self.refused.entry(refused).or_default() += 1;
                return Err(refused);
            }
        };
        match payload.split_first() {
            Some((&PROTOCOL, message)) => self.handle_message(now, message),
            Some((&CLAIM, claim)) => self.handle_claim(now, claim),
            Some((&TAKEN, answer)) => self.handle_taken(now, answer),
            _ => {}
        }
        self.seal(now);
        Ok(())
    }

    /// Does what is due.
    pub fn handle_time(&mut self, now: Now) {
        self.out.now = now.elapsed;
        match &mut self.phase {
            Phase::Asking { until, .. } if *until <= now.elapsed => self.become_member(now),
            Phase::Asking { .. } if self.seeds.is_empty() && self.remembered.is_empty() => {
                self.become_member(now);
            }
            Phase::Asking { next, .. } if *next <= now.elapsed => {
                *next = now.elapsed + ASK_EVERY;
                self.ask_everywhere();
            }
            Phase::Taken { until } if *until <= now.elapsed => {
                self.phase = Phase::Asking {
                    next: now.elapsed,
                    until: now.elapsed + ASK_FOR,
                };
            }
            Phase::Member { .. } => self.handle_timers(now),
            Phase::Asking { .. } | Phase::Taken { .. } => {}
        }
        self.seal(now);
    }

    /// When there is something to do again.
    pub fn next_time(&self) -> Duration {
        match &self.phase {
            Phase::Asking { next, until } => *next.min(until),
            Phase::Taken { until } => *until,
            Phase::Member { next, .. } => match self.out.timers.peek() {
                Some(Reverse(due)) => due.at.min(*next),
                None => *next,
            },
        }
    }

    /// What is to be sent, and where to.
    pub fn poll_send(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        self.out.datagrams.pop_front()
    }

    /// What has changed.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.out.events.pop_front()
    }

    /// Datagrams that were refused, by cause.
    pub fn refused(&self) -> &BTreeMap<Refused, u64> {
        &self.refused
    }

    /// Who this node is to the others.
    pub fn identity(&self) -> &Identity {
        &self.me
    }

    /// Where somebody is told to be, from now on.
    pub fn set_seeds(&mut self, mut seeds: Vec<SocketAddr>) {
        seeds.retain(|at| *at != self.me.address);
        seeds.truncate(MOST_PLACES);
        self.seeds = seeds;
    }

    /// Tells the others whether this node wants new work.
    pub fn set_draining(&mut self, now: Now, draining: bool) {
        self.out.now = now.elapsed;
        if self.me.draining != draining {
            self.me.draining = draining;
            self.live_again(0);
            self.seal(now);
        }
    }

    /// Tells the others what this node is attached to.
    pub fn set_images(&mut self, now: Now, images: Images) {
        self.out.now = now.elapsed;
        if self.me.images != images {
            self.me.images = images;
            self.live_again(0);
            self.seal(now);
        }
    }

    /// Tells the others that this node goes. Nothing is heard of it after what is to be sent now.
    pub fn leave(&mut self, now: Now) {
        self.out.now = now.elapsed;
        if let Phase::Member { protocol, .. } = &mut self.phase {
            // It fails only where there is nothing to say.
            let _ = protocol.leave_cluster(&mut self.out);
        }
        self.seal(now);
    }

    fn become_member(&mut self, now: Now) {
        let (codec, noticed) = Codec::new(&self.me);
        self.noticed = noticed;
        self.out.timers.clear();
        self.suspects.clear();
        let random = SmallRng::seed_from_u64(self.random ^ self.round);
        let protocol = Foca::new(self.me.clone(), config(LEAST_SIZE), random, codec);
        self.phase = Phase::Member {
            protocol: Box::new(protocol),
            next: now.elapsed,
        };
        self.out.events.push_back(Event::Joined);
        self.handle_timers(now);
    }

    fn handle_message(&mut self, now: Now, message: &[u8]) {
        let Phase::Member { protocol, .. } = &mut self.phase else {
            return;
        };
        // What cannot be read is a mistake of whoever has the key; there is nobody to tell.
        let _ = protocol.handle_data(message, &mut self.out);
        self.follow_up();
        let rivals = std::mem::take(&mut lock(&self.noticed).rivals);
        for rival in rivals {
            self.settle(now, &rival);
        }
    }

    fn handle_timers(&mut self, now: Now) {
        while let Phase::Member { protocol, .. } = &mut self.phase
            && let Some(Reverse(due)) = self.out.timers.peek()
            && due.at <= now.elapsed
        {
            if let Some(Reverse(due)) = self.out.timers.pop() {
                // It fails where a timer is of a former life.
                let _ = protocol.handle_timer(due.timer, &mut self.out);
            }
            self.follow_up();
        }
        if let Phase::Member { next, .. } = &mut self.phase
            && *next <= now.elapsed
        {
            *next = now.elapsed + ROUND;
            self.do_round();
        }
    }

    /// Looks for others while there are none, and after what the protocol does not tell.
    fn do_round(&mut self) {
        let round = self.round;
        self.round = round.wrapping_add(1);
        let Phase::Member { protocol, .. } = &mut self.phase else {
            return;
        };
        let mut places: Vec<SocketAddr> = Vec::new();
        let rotated = |places: &[SocketAddr], count: usize| {
            let start = usize::try_from(round)
                .unwrap_or_default()
                .saturating_mul(count);
            let start = start.checked_rem(places.len()).unwrap_or_default();
            let some = places
                .iter()
                .cycle()
                .skip(start)
                .take(count.min(places.len()));
            some.copied().collect::<Vec<_>>()
        };
        if protocol.num_members() == 0 {
            places.extend(rotated(&self.seeds, TRIED_AT_ONCE));
            places.extend(rotated(&self.remembered, TRIED_AT_ONCE));
        } else if round.is_multiple_of(SEED_EVERY) {
            places.extend(rotated(&self.seeds, 1));
        }
        for place in places {
            let _ = protocol.announce(Identity::anybody_at(place), &mut self.out);
        }
        let size = u32::try_from(protocol.num_members()).unwrap_or(u32::MAX);
        let _ = protocol.set_config(config(
            size.saturating_add(1).max(LEAST_SIZE).next_power_of_two(),
        ));
        for member in protocol.iter_members() {
            let identity = member.id();
            let suspected = member.state() == foca::State::Suspect;
            if suspected && self.suspects.insert(identity.name.clone()) {
                self.out
                    .events
                    .push_back(Event::Suspect(identity.name.clone()));
            } else if !suspected && self.suspects.remove(&identity.name) {
                self.out.events.push_back(Event::Is(identity.member()));
            }
        }
        let mut noticed = lock(&self.noticed);
        if noticed.is_full() {
            noticed.retain(
                protocol
                    .iter_membership_state()
                    .map(|member| &member.id().name),
            );
        }
    }

    /// Tells of those that live on under another address or generation; learns of our own new life. A node that moves
    /// may be two nodes of one name: a few of those who see it ask where it was before.
    fn follow_up(&mut self) {
        let Phase::Member { protocol, next } = &mut self.phase else {
            return;
        };
        if let Some(me) = self.out.renewed.take() {
            lock(&self.noticed).renamed(&me);
            self.me = me;
            // Whoever took us for dead is asked at once whether this life counts.
            if protocol.num_members() == 0 {
                *next = self.out.now;
            }
        }
        let members = u64::try_from(protocol.num_members())
            .unwrap_or_default()
            .max(1);
        let mut doubtful = Vec::new();
        for (before, after) in std::mem::take(&mut self.out.renamed) {
            if protocol.iter_members().any(|member| *member.id() == after) {
                self.out.events.push_back(Event::Is(after.member()));
            }
            let lot = self.me.name.hash() ^ after.generation.wrapping_mul(LOT);
            if before.address != after.address && lot % members < WITNESSES {
                doubtful.push((before.address, after));
            }
        }
        for (place, identity) in doubtful {
            self.say(
                place,
                &[CLAIM, CLAIM_OF_MEMBER | CLAIM_PASSED_ON],
                &identity,
            );
        }
    }

    /// Begins another life, of a generation above `generation`.
    fn live_again(&mut self, generation: u64) {
        self.me.generation = self.me.generation.max(generation).saturating_add(1);
        if let Phase::Member { protocol, .. } = &mut self.phase {
            lock(&self.noticed).renamed(&self.me);
            let _ = protocol.change_identity(self.me.clone(), &mut self.out);
            // After that it waits to be spoken to, which nobody would do if all did this at once.
            let _ = protocol.apply_many(std::iter::empty(), true, &mut self.out);
            self.follow_up();
        }
    }

    fn say(&mut self, to: SocketAddr, head: &[u8], identity: &Identity) {
        let mut payload = head.to_vec();
        if identity.put(&mut payload).is_ok() {
            self.out.payloads.push_back((to, payload));
        }
    }

    fn seal(&mut self, now: Now) {
        while let Some((to, payload)) = self.out.payloads.pop_front() {
            let datagram = self.envelope.seal(now.unix_us, &payload);
            self.out.datagrams.push_back((to, datagram));
        }
    }
}

/// The protocol's figures for a swarm of this size. What is new is told so often that a large swarm learns of it, too:
/// nobody knows its size while it gathers.
fn config(size: u32) -> Config {
    let most = MOST_BYTES - OVERHEAD - 1;
    let size = NonZeroU32::new(size).unwrap_or(NonZeroU32::MIN);
    Config {
        max_packet_size: NonZeroUsize::new(most).unwrap_or(NonZeroUsize::MIN),
        max_transmissions: Config::new_lan(GATHERING).max_transmissions,
        ..Config::new_lan(size)
    }
}
