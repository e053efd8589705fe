//! The one who is asked, and the way of the answer.

use std::time::Duration;

use vmthunder_cache::flight::Outcome as Landed;
use vmthunder_swarm::fetch::Outcome;
use vmthunder_volume::Class;

use crate::node::{State, Waiter};
use crate::slab::Id;
use crate::world::{Event, World};

impl World {
    pub(crate) fn arrive(&mut self, id: Id) {
        let (now, way, most) = (self.now, self.way(), self.at.serve_queue);
        let Some(request) = self.requests.get(id) else {
            return;
        };
        let (host, extent, life) = (request.host, request.extent, request.lives.1);
        if host == self.origin_number() {
            return self.send(id);
        }
        let node = self.node(host);
        match node.state {
            State::Dead => {}
            State::Up if node.life == life => {
                node.link.was_asked();
                if node.serving >= most {
                    return self.after(way, Event::Reply(id, Outcome::Busy));
                }
                node.serving += 1;
                if node.is_resident(extent) {
                    let read = node.disk.turn(now);
                    return self.after(read - now, Event::FromDisk(id));
                }
                self.join(host, extent, Class::Peer, Waiter::Peer(id));
            }
            // Nobody listens at that address.
            State::Up | State::Left => self.after(way, Event::Reply(id, Outcome::Dead)),
        }
    }

    /// Answers a peer that waited for a flight.
    pub(crate) fn serve(&mut self, number: u32, id: Id, outcome: Landed) {
        if outcome == Landed::Landed {
            return self.send(id);
        }
        self.node(number).serving -= 1;
        self.after(self.way(), Event::Reply(id, Outcome::Busy));
    }

    /// Puts an answer on the link of whoever was asked.
    pub(crate) fn send(&mut self, id: Id) {
        let Some(request) = self.requests.get(id) else {
            return;
        };
        let (host, life) = (request.host, request.lives.1);
        let bulk = matches!(request.class, Class::Prefetch | Class::Fill);
        let connection = u64::from(request.asker) << 1 | u64::from(bulk);
        let takes = match self.nodes.get_mut(host as usize) {
            Some(node) if node.state != State::Up || node.life != life => return,
            Some(node) => node.link.send(connection, id),
            None => self.origin.send(connection, id),
        };
        if let Some(takes) = takes {
            self.after(takes, Event::Sent(host));
        }
    }

    /// A link is free for the next answer.
    pub(crate) fn sent(&mut self, host: u32) {
        let (out, next, rate) = match self.nodes.get_mut(host as usize) {
            // What a dead machine had to send is lost.
            Some(node) if node.state == State::Dead => return,
            Some(node) => {
                let (out, next) = node.link.sent();
                (out, next, node.link.takes())
            }
            None => {
                let (out, next) = self.origin.sent();
                (out, next, self.origin.takes())
            }
        };
        if let Some(takes) = next {
            self.after(takes, Event::Sent(host));
        }
        if let Some(id) = out {
            self.delivered(host, id, rate);
        }
    }

    fn delivered(&mut self, host: u32, id: Id, sender: Duration) {
        let Some(request) = self.requests.get(id) else {
            return;
        };
        let (asker, life) = (request.asker, request.lives.1);
        let mut outcome = Outcome::Answered;
        if let Some(node) = self.nodes.get_mut(host as usize) {
            if node.life != life {
                return;
            }
            node.serving -= 1;
            node.uploads += 1;
            if node.lies {
                outcome = Outcome::Corrupt;
            }
        } else {
            self.report.count_origin(self.now);
        }
        let (now, way) = (self.now, self.way());
        let there = self.node(asker).link.receive(now + way, sender);
        self.after(there - now + VERIFYING, Event::Reply(id, outcome));
    }
}

/// Hashing an extent and handing it up.
const VERIFYING: Duration = Duration::from_micros(50);
