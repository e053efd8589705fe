//! Nodes that die, leave and come back, and how the others learn of it.

use std::time::Duration;

use vmthunder_swarm::fetch::Outcome;
use vmthunder_swarm::forest::{Forest, NodeName};

use crate::Shape;
use crate::node::State;
use crate::slab::Id;
use crate::world::{Event, World};

impl World {
    pub(crate) fn die(&mut self, number: u32) {
        let node = self.node(number);
        let unfinished = node.guest.end.is_none();
        node.state = State::Dead;
        self.unfinished -= u32::from(unfinished);
    }

    /// The daemon of a node is stopped: its sessions end, and those who asked see it.
    pub(crate) fn stop(&mut self, number: u32) {
        let at = self.at.clone();
        self.node(number).stop(&at);
        let asked = self
            .requests
            .iter()
            .filter(|(_, request)| request.host == number);
        let asked: Vec<Id> = asked.map(|(id, _)| id).collect();
        for request in asked {
            self.after(self.way(), Event::Reply(request, Outcome::Dead));
        }
        let own = self.runs.iter().filter(|(_, run)| run.node == number);
        let own: Vec<Id> = own.map(|(id, _)| id).collect();
        for run in own {
            self.runs.remove(run);
        }
        self.tell(number);
    }

    /// It comes back, at another address: what was sent to the old one is answered by nobody.
    pub(crate) fn start(&mut self, number: u32) {
        self.node(number).state = State::Up;
        self.tell(number);
        self.read_on(number);
    }

    /// There is another membership. Everybody learns of it by itself; whoever changed knows at once.
    fn tell(&mut self, number: u32) {
        let up = self.nodes.iter().filter(|node| node.state != State::Left);
        let names: Vec<NodeName> = up.map(|node| node.name.clone()).collect();
        self.versions.push(Forest::new(&names));
        let version = u32::try_from(self.versions.len() - 1).unwrap_or(u32::MAX);
        self.learn(number, version);
        for node in (0..self.at.nodes).filter(|node| *node != number) {
            let wait = self.dice.within(LEARNING);
            self.after(wait, Event::Learn(node, version));
        }
    }

    pub(crate) fn learn(&mut self, number: u32, version: u32) {
        let Some(forest) = self.versions.get(version as usize).cloned() else {
            return;
        };
        if self.at.shape == Shape::Star {
            return;
        }
        let node = self.node(number);
        if version > node.version {
            node.version = version;
            let is_member = |name: &NodeName| {
                forest
                    .members()
                    .binary_search_by(|member| {
                        member
                            .hash()
                            .cmp(&name.hash())
                            .then_with(|| member.cmp(name))
                    })
                    .is_ok()
            };
            node.health.retain(is_member);
            node.view = forest;
        }
    }
}

/// How long news of the membership is on its way.
const LEARNING: Duration = Duration::from_millis(500);
