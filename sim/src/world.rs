//! The storm: who is there, and what happens next.

use std::collections::HashMap;
use std::time::Duration;

use vmthunder_swarm::fetch::{Ask, Outcome};
use vmthunder_swarm::forest::{Forest, NodeName};
use vmthunder_swarm::gate::Place;
use vmthunder_volume::{Class, Extent};

use crate::agenda::Agenda;
use crate::dice::Dice;
use crate::link::Link;
use crate::node::{Node, Run, State, Want};
use crate::slab::{Id, Slab};
use crate::{Report, Scenario, Shape};

/// What happens to nodes, by their number, and to requests.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    Boot(u32),
    Die(u32),
    Stop(u32),
    Start(u32),
    /// A node learns of a version of the membership.
    Learn(u32, u32),
    /// A guest has thought, in this life of its node.
    Thought(u32, u32),
    /// Somebody who was refused comes back.
    Return(u32, u32, Want),
    /// Somebody in the line for the origin is let in, or leaves.
    Line(Id),
    Arrive(Id),
    /// The disk of the one who is asked has read it.
    FromDisk(Id),
    /// A link has sent what it was sending; the origin's comes after the nodes'.
    Sent(u32),
    Reply(Id, Outcome),
    /// It is time to look after a question.
    Watch(Id),
}

/// A question on its way, or being answered.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) asker: u32,
    /// Of the asker, and of the one who is asked.
    pub(crate) lives: (u32, u32),
    pub(crate) run: Id,
    pub(crate) class: Class,
    pub(crate) extent: u32,
    pub(crate) ask: Ask,
    /// The source's number; the origin's comes after the nodes'.
    pub(crate) host: u32,
    pub(crate) asked: Duration,
    /// The time for a second source has not come yet.
    pub(crate) may_hedge: bool,
    /// The asker's place at the source, until it does not wait any more.
    pub(crate) place: Option<Place>,
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) at: Scenario,
    pub(crate) now: Duration,
    pub(crate) agenda: Agenda<Event>,
    pub(crate) dice: Dice,
    pub(crate) nodes: Vec<Node>,
    pub(crate) by_name: HashMap<NodeName, u32>,
    /// Versions of the membership, the first one first.
    pub(crate) versions: Vec<Forest>,
    pub(crate) origin: Link<Id>,
    pub(crate) requests: Slab<Request>,
    pub(crate) runs: Slab<Run>,
    /// Nodes that live and have not booted yet.
    pub(crate) unfinished: u32,
    pub(crate) report: Report,
}

impl World {
    pub(crate) fn new(at: Scenario) -> Self {
        let mut dice = Dice(at.seed);
        let names: Vec<NodeName> = (0..at.nodes)
            .filter_map(|number| NodeName::new(&format!("node-{number}")).ok())
            .collect();
        let everybody = Forest::new(&names);
        let mut nodes = Vec::new();
        for (number, name) in (0..).zip(&names) {
            let view = match at.shape {
                Shape::Star => Forest::new(&[]),
                _ if at.view_percent >= 100 => everybody.clone(),
                _ => {
                    let mut known = names.clone();
                    known.retain(|other| other == name || dice.throw() % 100 < at.view_percent);
                    Forest::new(&known)
                }
            };
            // The slow ones come first, the liars last.
            let lies = number >= at.nodes - at.liars.min(at.nodes);
            nodes.push(Node::new(name.clone(), view, number < at.slow, lies, &at));
        }
        let tick = at.bound() / 100;
        let mut world = Self {
            now: Duration::ZERO,
            agenda: Agenda::new(),
            dice,
            nodes,
            by_name: names.into_iter().zip(0..).collect(),
            versions: vec![everybody],
            origin: Link::new(at.origin_rate),
            requests: Slab::new(),
            runs: Slab::new(),
            unfinished: at.nodes,
            report: Report {
                tick: tick.max(Duration::from_micros(1)),
                ..Report::default()
            },
            at,
        };
        world.plan();
        world
    }

    fn plan(&mut self) {
        for node in 0..self.at.nodes {
            let wait = self.dice.within(self.at.stagger);
            self.after(wait, Event::Boot(node));
        }
        let (bound, nodes) = (self.at.bound(), self.at.nodes);
        // Neither the slow ones nor the liars.
        let first = self.at.slow.min(nodes);
        let leaving = first.saturating_add(self.at.deaths).min(nodes);
        let staying = leaving.saturating_add(self.at.churn).min(nodes);
        for node in first..leaving {
            let wait = self.dice.within(bound / 2);
            self.after(wait, Event::Die(node));
        }
        for node in leaving..staying {
            let stop = self.dice.within(bound);
            let start = stop + self.dice.within(bound);
            self.after(stop, Event::Stop(node));
            self.after(start, Event::Start(node));
        }
    }

    pub(crate) fn play(mut self) -> Report {
        let limit = self.at.bound() * 50 + TIME_LIMIT;
        while self.unfinished > 0
            && let Some((at, event)) = self.agenda.next()
            && at <= limit
        {
            self.now = at;
            self.log(event);
            match event {
                Event::Boot(node) => self.read_on(node),
                Event::Die(node) => self.die(node),
                Event::Stop(node) => self.stop(node),
                Event::Start(node) => self.start(node),
                Event::Learn(node, version) => self.learn(node, version),
                Event::Thought(node, life) => self.thought(node, life),
                Event::Return(node, life, want) => self.come_back(node, life, want),
                Event::Line(run) => self.line(run),
                Event::Arrive(request) => self.arrive(request),
                Event::FromDisk(request) => self.send(request),
                Event::Sent(host) => self.sent(host),
                Event::Reply(request, outcome) => self.reply(request, outcome),
                Event::Watch(request) => self.watch(request),
            }
        }
        self.conclude()
    }

    /// The extent of the image that is the boot's extent with this number.
    pub(crate) fn extent(&self, number: u32) -> Extent {
        let extent = self.at.boot.extents.get(number as usize);
        let extent = extent.copied().unwrap_or(Extent(0));
        match self.at.shape {
            // All in the first tree.
            Shape::Tree => Extent(extent.0 * 64),
            _ => extent,
        }
    }

    /// The number of the origin among the hosts.
    pub(crate) fn origin_number(&self) -> u32 {
        self.at.nodes
    }

    pub(crate) fn node(&mut self, number: u32) -> &mut Node {
        &mut self.nodes[number as usize]
    }

    pub(crate) fn after(&mut self, wait: Duration, event: Event) {
        self.agenda.put(self.now + wait, event);
    }

    /// Half of the round trip.
    pub(crate) fn way(&self) -> Duration {
        self.at.round_trip / 2
    }

    fn log(&mut self, event: Event) {
        let at = u64::try_from(self.now.as_nanos()).unwrap_or(u64::MAX);
        let (kind, subject) = match event {
            Event::Boot(node) => (1, u64::from(node)),
            Event::Die(node) => (2, u64::from(node)),
            Event::Stop(node) => (3, u64::from(node)),
            Event::Start(node) => (4, u64::from(node)),
            Event::Learn(node, version) => (5, u64::from(version) << 32 | u64::from(node)),
            Event::Thought(node, _) => (6, u64::from(node)),
            Event::Return(node, _, want) => (7, u64::from(want.extent) << 32 | u64::from(node)),
            Event::Line(run) => (8, run.word()),
            Event::Arrive(request) => (9, request.word()),
            Event::FromDisk(request) => (10, request.word()),
            Event::Sent(host) => (11, u64::from(host)),
            Event::Reply(request, outcome) => (12 + 16 * (outcome as u64), request.word()),
            Event::Watch(request) => (13, request.word()),
        };
        let log = &mut self.report.log_hash;
        for word in [at, kind, subject] {
            *log = (log.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
        self.report.events += 1;
    }

    fn conclude(mut self) -> Report {
        let ends = |with_slow: bool| {
            let living = self.nodes.iter().filter(|node| node.state != State::Dead);
            let ended = living.filter(|node| with_slow || !node.slow);
            let mut ends: Vec<Duration> = ended.filter_map(|node| node.guest.end).collect();
            ends.sort_unstable();
            ends
        };
        let (all, fast) = (ends(true), ends(false));
        let uploads = self.nodes.iter().map(|node| node.uploads).max();
        self.report.stuck = self.unfinished;
        let extents = self.at.boot.extents();
        self.report
            .finish(all, &fast, uploads.unwrap_or_default(), extents);
        self.report
    }
}

/// When a simulation is cut off, beside fifty times the bound; whoever is not done then is stuck.
const TIME_LIMIT: Duration = Duration::from_secs(60);
