//! What the protocol wants sent, done and told.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use foca::{Notification, Runtime, Timer};

use crate::membership::Event;
use crate::membership::codec::Identity;
use crate::membership::gossip::PROTOCOL;

/// What is to be sent, done and told.
#[derive(Default)]
pub(super) struct Out {
    pub(super) now: Duration,
    pub(super) count: u64,
    pub(super) datagrams: VecDeque<(SocketAddr, Vec<u8>)>,
    pub(super) payloads: VecDeque<(SocketAddr, Vec<u8>)>,
    pub(super) timers: BinaryHeap<Reverse<Due>>,
    pub(super) events: VecDeque<Event>,
    pub(super) renamed: Vec<(Identity, Identity)>,
    pub(super) renewed: Option<Identity>,
}

/// A timer, and when it is due.
pub(super) struct Due {
    pub(super) at: Duration,
    number: u64,
    pub(super) timer: Timer<Identity>,
}

impl Runtime<Identity> for Out {
    fn notify(&mut self, notification: Notification<'_, Identity>) {
        match notification {
            Notification::MemberUp(identity) => self.events.push_back(Event::Is(identity.member())),
            Notification::MemberDown(identity) => {
                self.events.push_back(Event::Left(identity.name.clone()));
            }
            Notification::Rename(before, after) => {
                self.renamed.push((before.clone(), after.clone()));
            }
            Notification::Rejoin(identity) => self.renewed = Some(identity.clone()),
            _ => {}
        }
    }

    fn send_to(&mut self, to: Identity, message: &[u8]) {
        let mut payload = Vec::with_capacity(message.len().saturating_add(1));
        payload.push(PROTOCOL);
        payload.extend_from_slice(message);
        self.payloads.push_back((to.address, payload));
    }

    fn submit_after(&mut self, timer: Timer<Identity>, after: Duration) {
        self.count = self.count.wrapping_add(1);
        self.timers.push(Reverse(Due {
            at: self.now.saturating_add(after),
            number: self.count,
            timer,
        }));
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Due {}
