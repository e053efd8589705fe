//! Events in order of time, and what each of them does.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use vmthunder_cache::flight::{Join, Outcome as Landed, Ticket};
use vmthunder_swarm::fetch::{Action, End, Fetch, FetchOptions, Outcome, Source};
use vmthunder_swarm::forest::{Forest, NodeName, Parent, Tree};
use vmthunder_volume::{Class, EXTENT_BYTES, Extent};

use crate::dice::Dice;
use crate::node::{Link, Node, Read, Run, Waiter};
use crate::{LINK_RATE, Report, Scenario};

/// What happens to nodes, by their number, and to requests.
#[derive(Clone, Copy, Debug, Hash)]
enum Event {
    Boot(usize),
    Die(usize),
    Sent(usize),
    Return(usize, Read),
    Arrive(u64),
    Reply(u64, Outcome),
    Patience(u64),
    Overdue(u64),
}

/// A question on its way, or being answered.
#[derive(Clone, Debug)]
struct Request {
    asker: usize,
    run: u64,
    class: Class,
    extent: Extent,
    source: Source,
    patience: Duration,
    asked: Duration,
}

#[derive(Debug)]
pub(crate) struct World {
    scenario: Scenario,
    fetch: FetchOptions,
    now: Duration,
    sequence: u64,
    events: BTreeMap<(Duration, u64), Event>,
    log: DefaultHasher,
    dice: Dice,
    nodes: Vec<Node>,
    by_name: HashMap<NodeName, usize>,
    origin: Link,
    origin_sent: u64,
    /// What is not answered yet; the second is false once the asker does not wait any more.
    requests: HashMap<u64, (Request, bool)>,
    report: Report,
}

impl World {
    pub(crate) fn new(scenario: Scenario) -> Self {
        let mut dice = Dice(scenario.seed);
        let names: Vec<NodeName> = (0..scenario.nodes)
            .filter_map(|number| NodeName::new(&format!("node-{number}")).ok())
            .collect();
        let mut nodes = Vec::new();
        for (number, name) in names.iter().enumerate() {
            let known = names
                .iter()
                .filter(|other| *other == name || dice.throw() % 100 < scenario.view_percent);
            let view = Forest::new(&known.cloned().collect::<Vec<_>>());
            let slowness = if number < scenario.slow { 10 } else { 1 };
            let lies = number >= scenario.nodes - scenario.liars;
            nodes.push(Node::new(name.clone(), view, LINK_RATE / slowness, lies));
        }
        let mut world = Self {
            fetch: FetchOptions::default(),
            now: Duration::ZERO,
            sequence: 0,
            events: BTreeMap::new(),
            log: DefaultHasher::new(),
            dice,
            nodes,
            by_name: names.into_iter().zip(0..).collect(),
            origin: Link::new(LINK_RATE),
            origin_sent: 0,
            requests: HashMap::new(),
            report: Report::default(),
            scenario,
        };
        for node in 0..world.scenario.nodes {
            let wait = world.dice.within(world.scenario.stagger_ms);
            world.after(wait, Event::Boot(node));
        }
        // Neither the slow ones, which come first, nor the liars, which come last.
        for node in world.scenario.slow..world.scenario.slow + world.scenario.deaths {
            let wait = world.dice.within(DEATH_WINDOW_MS);
            world.after(wait, Event::Die(node));
        }
        world
    }

    pub(crate) fn play(mut self) -> Report {
        while let Some(((at, _), event)) = self.events.pop_first()
            && at <= TIME_LIMIT
        {
            self.now = at;
            (at, event).hash(&mut self.log);
            match event {
                Event::Boot(node) => self.read_on(node),
                Event::Die(node) => self.nodes[node].alive = false,
                Event::Sent(node) => self.nodes[node].serving -= 1,
                Event::Return(node, read) => self.join(node, read.extent, Waiter::Guest(read)),
                Event::Arrive(request) => self.arrive(request),
                Event::Reply(request, outcome) => self.reply(request, outcome),
                Event::Patience(request) => self.patience(request),
                Event::Overdue(request) => self.overdue(request),
            }
        }
        self.conclude()
    }

    // The guest.

    /// Lets the guest and the read-ahead ask for as much as their windows allow.
    fn read_on(&mut self, number: usize) {
        while let Some((extent, waiter)) = self.nodes[number].next_read(self.now, &self.scenario) {
            self.join(number, extent, waiter);
        }
    }

    fn join(&mut self, number: usize, extent: Extent, waiter: Waiter) {
        let class = match waiter {
            Waiter::Guest(_) => Class::Demand,
            Waiter::Prefetch => Class::Prefetch,
            Waiter::Peer(_) => Class::Peer,
        };
        let node = &mut self.nodes[number];
        if !node.alive {
            return;
        }
        if node.resident.contains(&extent) {
            return self.answer(number, waiter, Landed::Landed);
        }
        match node.flights.join(extent, class, waiter) {
            Join::Lead(ticket) => self.begin(number, extent, class, ticket),
            Join::Wait => {}
            Join::Refuse(waiter) => self.answer(number, waiter, Landed::Refused),
        }
    }

    // Fetches.

    fn begin(&mut self, number: usize, extent: Extent, class: Class, ticket: Ticket) {
        let run = Run {
            extent,
            class,
            ticket,
            fetch: Fetch::new(extent, class, self.fetch.clone()),
            outstanding: 0,
            came: false,
        };
        let id = self.next();
        self.nodes[number].runs.insert(id, run);
        self.drive(number, id);
    }

    /// Does what the fetch says until it has to wait for an answer.
    fn drive(&mut self, number: usize, id: u64) {
        let landed = loop {
            let node = &self.nodes[number];
            match node.decide(self.now, id, |fetch, view| fetch.next(view)) {
                Some(Action::Ask { source, patience }) => {
                    if self.send(number, id, source, patience) {
                        return;
                    }
                }
                Some(Action::End(End::Done)) => break Landed::Landed,
                Some(Action::End(End::Refused)) => break Landed::Refused,
                Some(Action::End(End::OriginCorrupt)) => break Landed::Failed,
                None => return,
            }
        };
        self.land(number, id, landed);
    }

    /// Sends a question, unless the queue towards the source is full.
    fn send(&mut self, number: usize, id: u64, source: Source, patience: Duration) -> bool {
        let node = &mut self.nodes[number];
        let Some(run) = node.runs.get_mut(&id) else {
            return false;
        };
        let (class, extent) = (run.class, run.extent);
        let key = (source.clone(), class == Class::Peer);
        let places = node.asking.entry(key).or_default();
        if *places >= self.scenario.ask_queue {
            run.fetch.handle(&source, Outcome::Busy);
            return false;
        }
        *places += 1;
        run.outstanding += 1;
        node.health.asked(self.now, &source);
        node.hedges.asked();
        if let Source::Peer(peer) = &source {
            // Of two nodes alone the one of lower rank is the root: whoever is asked must be it.
            let pair = Forest::new(&[node.name.clone(), peer.clone()]);
            let above = pair.parent(peer, Tree::of(extent), &|_| false);
            self.report.uphill += u64::from(above != Parent::Origin);
        }
        self.report.asked += 1;
        let overdue = node.health.stretch(self.fetch.hedge_after);
        let question = Request {
            asker: number,
            run: id,
            class,
            extent,
            source,
            patience,
            asked: self.now,
        };
        let request = self.next();
        self.requests.insert(request, (question, true));
        self.after(LATENCY, Event::Arrive(request));
        self.after(patience, Event::Patience(request));
        self.after(overdue, Event::Overdue(request));
        true
    }

    fn land(&mut self, number: usize, id: u64, outcome: Landed) {
        let node = &mut self.nodes[number];
        let Some(run) = node.runs.remove(&id) else {
            return;
        };
        if outcome == Landed::Landed {
            node.resident.insert(run.extent);
            self.report.wrong += u64::from(!run.came);
        }
        let landing = node.flights.land(run.extent, run.ticket, outcome);
        for waiter in landing.answered {
            self.answer(number, waiter, outcome);
        }
        if let Some((class, ticket)) = landing.lead {
            self.begin(number, run.extent, class, ticket);
        }
    }

    fn answer(&mut self, number: usize, waiter: Waiter, outcome: Landed) {
        match waiter {
            Waiter::Prefetch => {}
            Waiter::Peer(request) => self.serve(number, request, outcome),
            Waiter::Guest(read) if outcome == Landed::Landed => {
                self.report.failed += u64::from(self.now > read.since + GUEST_PATIENCE);
                let node = &mut self.nodes[number];
                node.arrived += 1;
                node.latest = self.now;
                self.read_on(number);
            }
            Waiter::Guest(mut read) => {
                let wait = read.backoff.next(self.dice.throw());
                self.after(wait, Event::Return(number, read));
            }
        }
    }

    // The one who is asked.

    fn arrive(&mut self, id: u64) {
        let (request, _) = &self.requests[&id];
        let (asker, extent) = (request.asker, request.extent);
        let Source::Peer(name) = &request.source else {
            self.origin_sent += 1;
            let sent = self.origin.carry(self.now);
            return self.deliver(id, asker, sent, Outcome::Answered);
        };
        let number = self.by_name[name];
        let node = &mut self.nodes[number];
        if node.alive && node.serving >= self.scenario.serve_queue {
            self.after(LATENCY, Event::Reply(id, Outcome::Busy));
        } else if node.alive {
            node.serving += 1;
            self.join(number, extent, Waiter::Peer(id));
        }
    }

    /// Answers a peer.
    fn serve(&mut self, number: usize, id: u64, outcome: Landed) {
        let (request, _) = &self.requests[&id];
        let node = &mut self.nodes[number];
        if !node.alive {
            return;
        }
        if outcome != Landed::Landed {
            node.serving -= 1;
            return self.after(LATENCY, Event::Reply(id, Outcome::Busy));
        }
        node.uploads += 1;
        let (asker, sent) = (request.asker, node.up.carry(self.now));
        let outcome = if node.lies {
            Outcome::Corrupt
        } else {
            Outcome::Answered
        };
        self.after(sent - self.now, Event::Sent(number));
        self.deliver(id, asker, sent, outcome);
    }

    fn deliver(&mut self, request: u64, asker: usize, sent: Duration, outcome: Outcome) {
        // The extent flows: it has left the sender's link when it has passed the receiver's, unless that is busier.
        let there = sent.max(self.nodes[asker].down.carry(self.now)) + LATENCY;
        self.after(there - self.now, Event::Reply(request, outcome));
    }

    // The one who asked.

    fn reply(&mut self, id: u64, outcome: Outcome) {
        let Some((request, true)) = self.requests.remove(&id) else {
            return;
        };
        let (source, health) = (&request.source, &mut self.nodes[request.asker].health);
        match outcome {
            Outcome::Answered => health.answered(self.now, request.asked, source, EXTENT_BYTES),
            Outcome::Corrupt => health.lied(self.now, source),
            _ => health.refused(self.now, source),
        }
        self.report.corrupt += u64::from(outcome == Outcome::Corrupt);
        self.settle(&request, outcome);
    }

    fn patience(&mut self, id: u64) {
        let Some((request, waits @ true)) = self.requests.get_mut(&id) else {
            return;
        };
        let (source, patience) = (&request.source, request.patience);
        let health = &mut self.nodes[request.asker].health;
        if let Some(left) = health.patience_left(self.now, source, patience) {
            return self.after(left, Event::Patience(id));
        }
        health.gave_up(self.now, source, patience);
        *waits = false;
        let request = request.clone();
        self.settle(&request, Outcome::Silent);
    }

    /// A question has come to its end; goes on with the fetch if no other question of it is open.
    fn settle(&mut self, request: &Request, outcome: Outcome) {
        let node = &mut self.nodes[request.asker];
        let key = (request.source.clone(), request.class == Class::Peer);
        *node.asking.entry(key).or_default() -= 1;
        let Some(run) = node.runs.get_mut(&request.run).filter(|_| node.alive) else {
            return;
        };
        run.outstanding -= 1;
        run.came |= outcome == Outcome::Answered;
        run.fetch.handle(&request.source, outcome);
        if run.came || run.outstanding == 0 {
            self.drive(request.asker, request.run);
        }
    }

    fn overdue(&mut self, id: u64) {
        let Some((request, true)) = self.requests.get(&id) else {
            return;
        };
        let (number, run, patience) = (request.asker, request.run, request.patience);
        let node = &mut self.nodes[number];
        node.health.overdue(self.now, &request.source);
        let hedge = node.decide(self.now, run, |fetch, view| {
            fetch.hedge(&request.source, view)
        });
        let alone = |run: &Run| run.outstanding == 1;
        if let Some(second) = hedge.flatten()
            && node.runs.get(&run).is_some_and(alone)
            && node.hedges.take()
        {
            self.report.hedges += u64::from(self.send(number, run, second, patience));
        }
    }

    // Time.

    fn after(&mut self, wait: Duration, event: Event) {
        let sequence = self.next();
        self.events.insert((self.now + wait, sequence), event);
    }

    fn next(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    fn conclude(self) -> Report {
        let (nodes, extents) = (&self.nodes, self.scenario.extents);
        let living: Vec<&Node> = nodes.iter().filter(|node| node.alive).collect();
        let mut ends: Vec<Duration> = living.iter().map(|node| node.latest).collect();
        ends.sort_unstable();
        let uploads = nodes.iter().map(|node| node.uploads).max();
        let boot = extents as f64;
        Report {
            stuck: living.iter().filter(|node| node.arrived < extents).count(),
            last: ends.last().copied().unwrap_or_default(),
            median: ends.get(ends.len() / 2).copied().unwrap_or_default(),
            origin_copies: self.origin_sent as f64 / boot,
            most_uploads: uploads.unwrap_or_default() as f64 / boot,
            log_hash: self.log.finish(),
            ..self.report
        }
    }
}

/// How long a message takes.
const LATENCY: Duration = Duration::from_micros(100);
/// The time within which nodes die.
const DEATH_WINDOW_MS: u64 = 500;
/// How long a guest's read may take before it counts as failed.
const GUEST_PATIENCE: Duration = Duration::from_secs(20);
/// When a simulation is cut off; whoever is not done then is stuck.
const TIME_LIMIT: Duration = Duration::from_secs(60);
