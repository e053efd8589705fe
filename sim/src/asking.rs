//! The one who asks: fetches, their questions, and what comes of them.

use vmthunder_cache::flight::{Outcome as Landed, Ticket};
use vmthunder_swarm::LONGEST_LINE;
use vmthunder_swarm::fetch::{Action, Ask, End, Fetch, Outcome, Source};
use vmthunder_swarm::forest::{NodeName, Tree};
use vmthunder_swarm::gate::{Entry, Gate, Place};
use vmthunder_volume::{Class, EXTENT_BYTES};

use crate::node::{Run, State};
use crate::slab::Id;
use crate::world::{Event, Request, World};

impl World {
    pub(crate) fn begin(&mut self, node: u32, extent: u32, class: Class, ticket: Ticket) {
        let fetch = Fetch::new(self.extent(extent), class, self.at.swarm.fetch.clone());
        let run = self.runs.insert(Run {
            node,
            extent,
            class,
            ticket,
            fetch,
            outstanding: 0,
            came: false,
            in_line: None,
        });
        self.drive(run);
    }

    /// Does what the fetch says until it has to wait for an answer.
    fn drive(&mut self, id: Id) {
        let landed = loop {
            let Some(run) = self.runs.get(id) else {
                return;
            };
            let node = &self.nodes[run.node as usize];
            match node.look(self.now, |view| run.fetch.next(view)) {
                Action::Ask(ask) => {
                    if self.ask(id, ask) {
                        return;
                    }
                }
                Action::End(End::Done) => break Landed::Landed,
                Action::End(End::Refused) => break Landed::Refused,
                Action::End(End::OriginCorrupt) => break Landed::Failed,
            }
        };
        self.land(id, landed);
    }

    /// Takes a place and asks, or stands in the line for one; false if there is none for this request.
    fn ask(&mut self, id: Id, ask: Ask) -> bool {
        let now = self.now;
        let Some(run) = self.runs.get_mut(id) else {
            return false;
        };
        let node = &mut self.nodes[run.node as usize];
        let entry = match &ask.source {
            Source::Origin => node.origin_gate.enter(now, run.class, EXTENT_BYTES, id),
            Source::Peer(name) => {
                let gate = node
                    .gates
                    .entry(name.clone())
                    .or_insert_with(|| Gate::new(self.at.swarm.peer_queue, None));
                let place = gate.try_enter(now, run.class, EXTENT_BYTES);
                place.map_or(Entry::Refused(id), Entry::Through)
            }
        };
        match entry {
            Entry::Through(place) => self.put(id, ask, place),
            Entry::InLine(number) => {
                run.in_line = Some((number, now + LONGEST_LINE));
                let opens = node.origin_gate.opens_for_line();
                let wait = opens.map_or(LONGEST_LINE, |at| at.saturating_sub(now));
                self.after(wait.min(LONGEST_LINE), Event::Line(id));
                if wait < LONGEST_LINE {
                    self.after(LONGEST_LINE, Event::Line(id));
                }
            }
            Entry::Refused(_) => {
                run.fetch.handle(&ask.source, Outcome::Busy);
                return false;
            }
        }
        true
    }

    /// The rate may let the line on, or somebody has stood there too long.
    pub(crate) fn line(&mut self, id: Id) {
        let Some(run) = self.runs.get(id) else {
            return;
        };
        let (node, Some((number, until))) = (run.node, run.in_line) else {
            return;
        };
        self.admit(node);
        let now = self.now;
        let gate = &mut self.node(node).origin_gate;
        if now >= until && gate.give_up(number).is_some() {
            if let Some(run) = self.runs.get_mut(id) {
                run.in_line = None;
                run.fetch.handle(&Source::Origin, Outcome::Busy);
            }
            return self.drive(id);
        }
        if let Some(opens) = gate.opens_for_line() {
            self.after(opens.saturating_sub(now), Event::Line(id));
        }
    }

    /// Lets those in line ask the origin for whom there is a place now.
    pub(crate) fn admit(&mut self, node: u32) {
        let now = self.now;
        while let Some((run, place)) = self.node(node).origin_gate.admit(now) {
            let Some(waiting) = self.runs.get_mut(run) else {
                self.node(node).origin_gate.leave(place);
                continue;
            };
            waiting.in_line = None;
            let silence = self.at.swarm.fetch.silence;
            let ask = Ask {
                source: Source::Origin,
                patience: silence,
                late: silence,
            };
            self.put(run, ask, place);
        }
    }

    /// Sends a question.
    fn put(&mut self, id: Id, ask: Ask, place: Place) {
        let (now, origin) = (self.now, self.origin_number());
        let Some(run) = self.runs.get_mut(id) else {
            return;
        };
        run.outstanding += 1;
        let (asker, class, extent) = (run.node, run.class, run.extent);
        let host = match &ask.source {
            Source::Origin => origin,
            Source::Peer(name) => self.by_name.get(name).copied().unwrap_or(origin),
        };
        let tree = Tree::of(self.extent(extent));
        let asked_life = self.nodes.get(host as usize).map_or(0, |node| node.life);
        let node = &mut self.nodes[asker as usize];
        if let Source::Peer(name) = &ask.source {
            self.report.uphill += u64::from(rank(name, tree) >= rank(&node.name, tree));
        }
        node.health.asked(now, &ask.source);
        node.hedges.asked();
        node.link.asked();
        let watch = node.health.hedges_in(now, now, &ask);
        let lives = (node.life, asked_life);
        self.report.asked += 1;
        let request = self.requests.insert(Request {
            asker,
            lives,
            run: id,
            class,
            extent,
            ask,
            host,
            asked: now,
            may_hedge: true,
            place: Some(place),
        });
        self.after(self.way(), Event::Arrive(request));
        self.after(watch, Event::Watch(request));
    }

    pub(crate) fn land(&mut self, id: Id, outcome: Landed) {
        let Some(run) = self.runs.remove(id) else {
            return;
        };
        let (number, now, of_image) = (run.node, self.now, self.extent(run.extent));
        let node = self.node(number);
        if outcome == Landed::Landed {
            node.keep(run.extent);
            node.disk.turn(now);
        }
        let landing = node.flights.land(of_image, run.ticket, outcome);
        self.report.wrong += u64::from(outcome == Landed::Landed && !run.came);
        for waiter in landing.answered {
            self.answer(number, waiter, outcome);
        }
        if let Some((class, ticket)) = landing.lead {
            self.begin(number, run.extent, class, ticket);
        }
    }

    pub(crate) fn reply(&mut self, id: Id, outcome: Outcome) {
        let Some(mut request) = self.requests.remove(id) else {
            return;
        };
        let now = self.now;
        let node = &mut self.nodes[request.asker as usize];
        let Some(place) = request.place.take() else {
            return;
        };
        if node.state != State::Up || node.life != request.lives.0 {
            return;
        }
        let (source, health) = (&request.ask.source, &mut node.health);
        match outcome {
            Outcome::Answered => health.answered(now, request.asked, source),
            Outcome::Corrupt => health.lied(now, source),
            Outcome::Dead | Outcome::NotAttached => health.failed(now, source),
            Outcome::Busy | Outcome::Silent => health.refused(now, source),
        }
        self.report.delivered += u64::from(outcome == Outcome::Answered);
        self.report.corrupt += u64::from(outcome == Outcome::Corrupt);
        self.report.refused += u64::from(outcome == Outcome::Busy);
        let Request {
            asker, run, ask, ..
        } = request;
        self.settle(asker, run, &ask.source, place, outcome);
    }

    /// Asks a second source, goes on to wait, or gives a question up.
    pub(crate) fn watch(&mut self, id: Id) {
        let now = self.now;
        let Some(request) = self.requests.get_mut(id) else {
            return;
        };
        let node = &mut self.nodes[request.asker as usize];
        if node.state != State::Up || node.life != request.lives.0 || request.place.is_none() {
            return;
        }
        let Some(left) = node.health.wait(now, request.asked, &request.ask) else {
            return self.give_up(id);
        };
        let hedges_in = node.health.hedges_in(now, request.asked, &request.ask);
        if !hedges_in.is_zero() {
            return self.after(left.min(hedges_in), Event::Watch(id));
        }
        let (run, ask) = (request.run, request.ask.clone());
        let first_time = std::mem::take(&mut request.may_hedge);
        self.after(left, Event::Watch(id));
        if first_time {
            self.hedge(run, ask);
        }
    }

    fn hedge(&mut self, id: Id, ask: Ask) {
        let Some(run) = self.runs.get(id).filter(|run| run.outstanding == 1) else {
            return;
        };
        let node = &mut self.nodes[run.node as usize];
        let second = node.look(self.now, |view| run.fetch.hedge(&ask.source, view));
        if let Some(source) = second
            && node.hedges.take()
        {
            self.report.hedges += u64::from(self.ask(id, Ask { source, ..ask }));
        }
    }

    fn give_up(&mut self, id: Id) {
        let Some(request) = self.requests.get_mut(id) else {
            return;
        };
        let Some(place) = request.place.take() else {
            return;
        };
        let (asker, run, source) = (request.asker, request.run, request.ask.source.clone());
        self.report.silent += 1;
        self.node(asker).health.dropped(&source);
        self.settle(asker, run, &source, place, Outcome::Silent);
    }

    /// A question has come to its end; goes on with the fetch if no other question of it is open.
    fn settle(&mut self, asker: u32, run: Id, source: &Source, place: Place, outcome: Outcome) {
        self.node(asker).leave(source, place);
        if *source == Source::Origin {
            self.admit(asker);
        }
        let id = run;
        let Some(run) = self.runs.get_mut(id) else {
            return;
        };
        run.outstanding -= 1;
        run.came |= outcome == Outcome::Answered;
        run.fetch.handle(source, outcome);
        if run.came || run.outstanding == 0 {
            self.drive(id);
        }
    }
}

/// The rank as the design's text has it, computed by itself: whoever is asked must stand before whoever asks.
fn rank(node: &NodeName, tree: Tree) -> u64 {
    let behind = node.hash().wrapping_sub(u64::from(tree.number() / 2) << 59);
    if tree.number() % 2 == 1 {
        !behind
    } else {
        behind
    }
}
