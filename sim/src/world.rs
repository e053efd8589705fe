//! Events in order of time, and what each of them does.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::Duration;

use vmthunder_cache::flight::{Join, Outcome as Landed, Ticket};
use vmthunder_swarm::fetch::{Action, Fetch, Outcome, Source, View};
use vmthunder_swarm::forest::{Forest, NodeName, Parent, Tree};
use vmthunder_volume::{Class, EXTENT_BYTES, Extent};

use crate::dice::{Dice, mix};
use crate::link::Link;
use crate::node::{Node, Run, Waiter};
use crate::{Report, Scenario};

/// What happens; the numbers are those of nodes, runs and requests.
#[derive(Clone, Copy, Debug)]
enum Event {
    Boot { node: usize },
    Die { node: usize },
    Retry { node: usize, run: u64 },
    GuestRetry { node: usize, index: u64 },
    Arrive { request: u64 },
    Sent { node: usize },
    Reply { request: u64, outcome: Outcome },
    Patience { request: u64 },
    Overdue { request: u64 },
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
    /// The asker does not wait for it any more.
    given_up: bool,
}

pub(crate) struct World {
    scenario: Scenario,
    now: Duration,
    sequence: u64,
    queue: BinaryHeap<Reverse<(Duration, u64)>>,
    events: HashMap<u64, Event>,
    dice: Dice,
    nodes: Vec<Node>,
    by_name: HashMap<NodeName, usize>,
    origin: Link,
    origin_sent: u64,
    requests: HashMap<u64, Request>,
    report: Report,
}

impl World {
    pub(crate) fn new(scenario: Scenario) -> Self {
        let mut dice = Dice::new(scenario.seed);
        let names: Vec<NodeName> = (0..scenario.nodes)
            .filter_map(|n| NodeName::new(&format!("node-{n}")).ok())
            .collect();
        let mut nodes = Vec::new();
        for (number, name) in names.iter().enumerate() {
            let known = names
                .iter()
                .filter(|other| *other == name || dice.below(100) < scenario.view_percent);
            let view = Forest::new(&known.cloned().collect::<Vec<_>>());
            let rate = if number < scenario.slow {
                scenario.node_rate / 10
            } else {
                scenario.node_rate
            };
            let lies = number >= scenario.nodes - scenario.liars;
            nodes.push(Node::new(&scenario, name.clone(), view, rate, lies));
        }
        let by_name = names
            .into_iter()
            .enumerate()
            .map(|(number, name)| (name, number))
            .collect();
        let mut world = Self {
            now: Duration::ZERO,
            sequence: 0,
            queue: BinaryHeap::new(),
            events: HashMap::new(),
            dice,
            nodes,
            by_name,
            origin: Link::new(scenario.origin_rate),
            origin_sent: 0,
            requests: HashMap::new(),
            report: Report::default(),
            scenario,
        };
        for node in 0..world.nodes.len() {
            let wait = world.within(world.scenario.stagger);
            world.after(wait, Event::Boot { node });
        }
        for death in 0..world.scenario.deaths {
            let wait = world.within(world.scenario.death_window);
            // Neither the slow ones, which come first, nor the liars, which come last.
            let node = (world.scenario.slow + death) % world.nodes.len();
            world.after(wait, Event::Die { node });
        }
        world
    }

    pub(crate) fn play(mut self) -> Report {
        while let Some(Reverse((at, sequence))) = self.queue.pop() {
            if at > self.scenario.time_limit {
                break;
            }
            self.now = at;
            if let Some(event) = self.events.remove(&sequence) {
                self.log(&event);
                self.apply(event);
            }
        }
        self.conclude()
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::Boot { node } => self.read_on(node),
            Event::Die { node } => self.nodes[node].alive = false,
            Event::Retry { node, run } => self.drive(node, run),
            Event::GuestRetry { node, index } => self.want(node, index, Class::Demand),
            Event::Arrive { request } => self.arrive(request),
            Event::Sent { node } => self.nodes[node].serving -= 1,
            Event::Reply { request, outcome } => self.reply(request, outcome),
            Event::Patience { request } => self.patience(request),
            Event::Overdue { request } => self.overdue(request),
        }
    }

    // The guest.

    /// Lets the guest and the read-ahead ask for as much as their windows allow.
    fn read_on(&mut self, node: usize) {
        let (extents, windows) = (
            self.scenario.extents,
            (
                self.scenario.demand_window as u64,
                self.scenario.prefetch_window as u64,
            ),
        );
        while self.nodes[node].position < extents.min(self.nodes[node].arrived + windows.0) {
            let index = self.nodes[node].position;
            self.nodes[node].position += 1;
            self.want(node, index, Class::Demand);
        }
        while self.nodes[node].prefetched < extents.min(self.nodes[node].arrived + windows.1) {
            let index = self.nodes[node].prefetched;
            self.nodes[node].prefetched += 1;
            self.want(node, index, Class::Prefetch);
        }
    }

    fn want(&mut self, node: usize, index: u64, class: Class) {
        let extent = place_of(index);
        let waiter = if class == Class::Demand {
            Waiter::Guest(index)
        } else {
            Waiter::Prefetch
        };
        if self.nodes[node].resident.contains(&extent) {
            return self.answer(node, extent, waiter, Landed::Landed);
        }
        match self.nodes[node].flights.join(extent, class, waiter) {
            Join::Lead(ticket) => self.begin(node, extent, class, ticket),
            Join::Wait => {}
            Join::Refuse(waiter) => self.answer(node, extent, waiter, Landed::Refused),
        }
    }

    // Fetches.

    fn begin(&mut self, node: usize, extent: Extent, class: Class, ticket: Ticket) {
        let deadline = self.now + self.scenario.deadline;
        let fetch = Fetch::new(extent, class, deadline, self.scenario.fetch.clone());
        let run = self.next();
        self.nodes[node].runs.insert(
            run,
            Run {
                extent,
                class,
                ticket,
                fetch,
                outstanding: 0,
            },
        );
        self.drive(node, run);
    }

    /// Does what the fetch says until it has to wait for something.
    fn drive(&mut self, number: usize, id: u64) {
        loop {
            let jitter = self.dice.throw();
            let node = &mut self.nodes[number];
            let Some(run) = node.runs.get_mut(&id) else {
                return;
            };
            let (health, now) = (&node.health, self.now);
            let absent = |name: &NodeName| health.is_absent(now, name);
            let view = View {
                forest: &node.view,
                me: &node.name,
                absent: &absent,
            };
            match run.fetch.next(now, jitter, &view) {
                Action::Ask { source, patience } => {
                    if self.send(number, id, source.clone(), patience) {
                        return;
                    }
                    self.report.refusals += 1;
                    self.tell(number, id, &source, Outcome::Busy);
                }
                Action::Wait(wait) => {
                    self.report.waits += 1;
                    return self.after(
                        wait,
                        Event::Retry {
                            node: number,
                            run: id,
                        },
                    );
                }
                Action::Done => return self.land(number, id, Landed::Landed),
                Action::Refuse => return self.land(number, id, Landed::Refused),
                Action::Fail(_) => return self.land(number, id, Landed::Failed),
            }
        }
    }

    fn tell(&mut self, node: usize, run: u64, source: &Source, outcome: Outcome) {
        if let Some(run) = self.nodes[node].runs.get_mut(&run) {
            run.fetch.handle(source, outcome);
        }
    }

    /// Sends a question, unless the queue towards the source is full.
    fn send(&mut self, number: usize, run: u64, source: Source, patience: Duration) -> bool {
        let (now, limit) = (self.now, self.scenario.ask_queue);
        let node = &mut self.nodes[number];
        let Some(running) = node.runs.get(&run) else {
            return false;
        };
        let (class, extent) = (running.class, running.extent);
        if !node.take_place(&source, class, limit) {
            return false;
        }
        node.health.asked(now, &source);
        node.hedges.asked();
        if let Some(running) = node.runs.get_mut(&run) {
            running.outstanding += 1;
        }
        if let Source::Peer(peer) = &source {
            // Of two nodes alone the one of lower rank is the root: whoever is asked must be it.
            let pair = Forest::new(&[node.name.clone(), peer.clone()]);
            self.report.uphill +=
                u64::from(pair.parent(peer, Tree::of(extent), &|_| false) != Parent::Origin);
        }
        self.report.asked += 1;
        let request = self.next();
        let question = Request {
            asker: number,
            run,
            class,
            extent,
            source,
            patience,
            asked: now,
            given_up: false,
        };
        self.requests.insert(request, question);
        self.after(self.scenario.latency, Event::Arrive { request });
        self.after(patience, Event::Patience { request });
        let wait = self.nodes[number]
            .health
            .stretch(self.scenario.fetch.hedge_after);
        self.after(wait, Event::Overdue { request });
        true
    }

    fn land(&mut self, number: usize, id: u64, outcome: Landed) {
        let node = &mut self.nodes[number];
        let Some(run) = node.runs.remove(&id) else {
            return;
        };
        if outcome == Landed::Landed {
            node.resident.insert(run.extent);
        }
        let landing = node.flights.land(run.extent, run.ticket, outcome);
        for waiter in landing.answered {
            self.answer(number, run.extent, waiter, outcome);
        }
        if let Some((class, ticket)) = landing.lead {
            self.begin(number, run.extent, class, ticket);
        }
    }

    fn answer(&mut self, node: usize, extent: Extent, waiter: Waiter, outcome: Landed) {
        match waiter {
            Waiter::Peer(request) => self.serve(node, request, outcome),
            Waiter::Prefetch => {}
            Waiter::Guest(_) if outcome == Landed::Landed => {
                let node_state = &mut self.nodes[node];
                node_state.arrived += 1;
                self.report.delivered += 1;
                self.report.wrong += u64::from(!node_state.resident.contains(&extent));
                if node_state.arrived == self.scenario.extents {
                    node_state.done = Some(self.now);
                }
                self.read_on(node);
            }
            Waiter::Guest(index) => {
                self.report.failed += u64::from(outcome == Landed::Failed);
                let jitter = self.dice.throw();
                let wait = self.nodes[node]
                    .refused
                    .entry(index)
                    .or_default()
                    .next(jitter);
                self.report.waits += 1;
                self.after(wait, Event::GuestRetry { node, index });
            }
        }
    }

    // The one who is asked.

    fn arrive(&mut self, id: u64) {
        let Some(request) = self.requests.get(&id).cloned() else {
            return;
        };
        let Source::Peer(name) = &request.source else {
            self.origin_sent += 1;
            let sent = self.origin.carry(self.now);
            return self.deliver(id, request.asker, sent, Outcome::Answered);
        };
        let Some(number) = self.by_name.get(name).copied() else {
            return;
        };
        let (limit, node) = (self.scenario.serve_queue, &mut self.nodes[number]);
        if !node.alive {
            return;
        }
        if node.serving >= limit {
            return self.after(
                self.scenario.latency,
                Event::Reply {
                    request: id,
                    outcome: Outcome::Busy,
                },
            );
        }
        node.serving += 1;
        if node.resident.contains(&request.extent) {
            return self.serve(number, id, Landed::Landed);
        }
        match node
            .flights
            .join(request.extent, Class::Peer, Waiter::Peer(id))
        {
            Join::Lead(ticket) => self.begin(number, request.extent, Class::Peer, ticket),
            Join::Wait => {}
            Join::Refuse(_) => self.serve(number, id, Landed::Refused),
        }
    }

    /// Answers a peer.
    fn serve(&mut self, number: usize, id: u64, outcome: Landed) {
        let (latency, node) = (self.scenario.latency, &mut self.nodes[number]);
        let Some(request) = self.requests.get(&id).filter(|_| node.alive) else {
            return;
        };
        if outcome != Landed::Landed {
            node.serving -= 1;
            return self.after(
                latency,
                Event::Reply {
                    request: id,
                    outcome: Outcome::Busy,
                },
            );
        }
        node.uploads += 1;
        let (asker, sent) = (request.asker, node.up.carry(self.now));
        let outcome = if node.lies {
            Outcome::Corrupt
        } else {
            Outcome::Answered
        };
        self.after(sent - self.now, Event::Sent { node: number });
        self.deliver(id, asker, sent, outcome);
    }

    fn deliver(&mut self, request: u64, asker: usize, sent: Duration, outcome: Outcome) {
        // The extent flows: it has left the sender's link when it has passed the receiver's, unless that is busier.
        let down = self.nodes[asker].down.carry(self.now);
        let there = sent.max(down) + self.scenario.latency;
        self.after(there - self.now, Event::Reply { request, outcome });
    }

    // The one who asked.

    fn reply(&mut self, id: u64, outcome: Outcome) {
        let Some(request) = self
            .requests
            .remove(&id)
            .filter(|request| !request.given_up)
        else {
            return;
        };
        let (now, node) = (self.now, &mut self.nodes[request.asker]);
        match outcome {
            Outcome::Answered => {
                node.health
                    .answered(now, request.asked, &request.source, EXTENT_BYTES);
            }
            Outcome::Corrupt => node.health.lied(now, &request.source),
            _ => node.health.refused(now, &request.source),
        }
        self.report.corrupt += u64::from(outcome == Outcome::Corrupt);
        self.report.refusals += u64::from(outcome == Outcome::Busy);
        self.settle(&request, outcome);
    }

    fn patience(&mut self, id: u64) {
        let Some(request) = self
            .requests
            .get_mut(&id)
            .filter(|request| !request.given_up)
        else {
            return;
        };
        let node = &mut self.nodes[request.asker];
        if let Some(left) = node
            .health
            .patience_left(self.now, &request.source, request.patience)
        {
            return self.after(left, Event::Patience { request: id });
        }
        request.given_up = true;
        node.health
            .gave_up(self.now, &request.source, request.patience);
        self.report.silences += 1;
        let request = request.clone();
        self.settle(&request, Outcome::Silent);
    }

    /// A question has come to its end; goes on with the fetch if no other question of it is open.
    fn settle(&mut self, request: &Request, outcome: Outcome) {
        let node = &mut self.nodes[request.asker];
        node.leave_place(&request.source, request.class);
        let Some(run) = node.runs.get_mut(&request.run).filter(|_| node.alive) else {
            return;
        };
        run.outstanding -= 1;
        let last = run.outstanding == 0 || outcome == Outcome::Answered;
        self.tell(request.asker, request.run, &request.source, outcome);
        if last {
            self.drive(request.asker, request.run);
        }
    }

    fn overdue(&mut self, id: u64) {
        let Some(request) = self
            .requests
            .get(&id)
            .filter(|request| !request.given_up)
            .cloned()
        else {
            return;
        };
        let (now, node) = (self.now, &mut self.nodes[request.asker]);
        node.health.overdue(now, &request.source);
        let Some(run) = node
            .runs
            .get(&request.run)
            .filter(|run| run.outstanding == 1)
        else {
            return;
        };
        let absent = |name: &NodeName| node.health.is_absent(now, name);
        let view = View {
            forest: &node.view,
            me: &node.name,
            absent: &absent,
        };
        let Some(second) = run.fetch.hedge(&request.source, &view) else {
            return;
        };
        if node.hedges.take() && self.send(request.asker, request.run, second, request.patience) {
            self.report.hedges += 1;
        }
    }

    // Time.

    fn within(&mut self, time: Duration) -> Duration {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(self.dice.below(nanos))
    }

    fn after(&mut self, wait: Duration, event: Event) {
        let sequence = self.next();
        self.events.insert(sequence, event);
        self.queue.push(Reverse((self.now + wait, sequence)));
    }

    fn next(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    fn log(&mut self, event: &Event) {
        let (kind, a, b) = match *event {
            Event::Boot { node } => (0, node as u64, 0),
            Event::Die { node } => (1, node as u64, 0),
            Event::Retry { node, run } => (2, node as u64, run),
            Event::GuestRetry { node, index } => (3, node as u64, index),
            Event::Arrive { request } => (4, request, 0),
            Event::Sent { node } => (5, node as u64, 0),
            Event::Reply { request, outcome } => (6, request, outcome as u64),
            Event::Patience { request } => (7, request, 0),
            Event::Overdue { request } => (8, request, 0),
        };
        let nanos = u64::try_from(self.now.as_nanos()).unwrap_or(u64::MAX);
        for word in [nanos, kind, a, b] {
            self.report.log_hash = mix(self.report.log_hash ^ word).wrapping_add(word);
        }
    }

    fn conclude(mut self) -> Report {
        let living: Vec<&Node> = self.nodes.iter().filter(|node| node.alive).collect();
        let mut ends: Vec<Duration> = living.iter().filter_map(|node| node.done).collect();
        ends.sort_unstable();
        let boot = self.scenario.extents.max(1) as f64;
        self.report.stuck = living.len() - ends.len();
        self.report.last = ends.last().copied().unwrap_or_default();
        self.report.median = ends.get(ends.len() / 2).copied().unwrap_or_default();
        self.report.origin_copies = self.origin_sent as f64 / boot;
        self.report.most_uploads = self
            .nodes
            .iter()
            .map(|node| node.uploads)
            .max()
            .unwrap_or_default() as f64
            / boot;
        self.report
    }
}

/// A boot jumps about on its disk: the extent that it reads as its `index`th. Multiplying by an odd number permutes.
fn place_of(index: u64) -> Extent {
    Extent(index.wrapping_mul(0x9e37_79b1) % (1 << 20))
}
