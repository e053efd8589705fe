//! The guest, and what is read ahead of it.

use vmthunder_cache::flight::{Join, Outcome};
use vmthunder_swarm::Backoff;
use vmthunder_volume::Class;

use crate::node::{By, Guest, Node, State, Waiter, Want};
use crate::world::{Event, World};

impl World {
    /// Lets the guest and the read-ahead ask for as much as they may.
    pub(crate) fn read_on(&mut self, number: u32) {
        if self.node(number).state != State::Up {
            return;
        }
        while self.guest_reads(number) {}
        while let Some(extent) = self.next_ahead(number) {
            self.node(number).guest.prefetching += 1;
            self.want(number, extent, By::Prefetch);
        }
    }

    /// Begins the guest's next read, or the thought before it; false if it has to wait.
    fn guest_reads(&mut self, number: u32) -> bool {
        let boot = self.at.boot.clone();
        let guest = &mut self.node(number).guest;
        let next = guest.next;
        let Some(read) = boot.reads.get(next as usize) else {
            return false;
        };
        if guest.open.len() >= boot.depth || guest.thinks {
            return false;
        }
        if !read.think.is_zero() {
            guest.thinks = true;
            let life = self.node(number).life;
            self.after(read.think, Event::Thought(number, life));
            return false;
        }
        self.begin_read(number);
        true
    }

    pub(crate) fn thought(&mut self, number: u32, life: u32) {
        let node = self.node(number);
        if node.state == State::Up && node.life == life {
            node.guest.thinks = false;
            self.begin_read(number);
            self.read_on(number);
        }
    }

    fn begin_read(&mut self, number: u32) {
        let boot = self.at.boot.clone();
        let node = self.node(number);
        let next = node.guest.next;
        node.guest.next += 1;
        let Some(read) = boot.reads.get(next as usize) else {
            return;
        };
        let missing = read
            .extents
            .iter()
            .filter(|extent| !node.is_resident(**extent));
        let missing: Vec<u32> = missing.copied().collect();
        if missing.is_empty() {
            return self.read_is_done(number);
        }
        let count = u32::try_from(missing.len()).unwrap_or(u32::MAX);
        node.guest.open.push((next, count));
        for extent in missing {
            self.want(number, extent, By::Guest(next));
        }
    }

    fn read_is_done(&mut self, number: u32) {
        let (now, reads) = (self.now, self.at.boot.reads.len());
        let guest = &mut self.node(number).guest;
        guest.done += 1;
        if guest.done as usize == reads {
            guest.end = Some(now);
            self.unfinished -= 1;
        }
    }

    /// The next extent to be read ahead, if one more may be.
    fn next_ahead(&mut self, number: u32) -> Option<u32> {
        let (most, all) = (self.at.prefetch, self.at.boot.extents.len());
        let node = self.node(number);
        let most = node.health.ahead(most);
        while node.guest.prefetching < most && (node.guest.ahead as usize) < all {
            let extent = node.guest.ahead;
            node.guest.ahead += 1;
            if !node.is_resident(extent) {
                return Some(extent);
            }
        }
        None
    }

    fn want(&mut self, number: u32, extent: u32, by: By) {
        let want = Want {
            extent,
            by,
            since: self.now,
            backoff: Backoff::default(),
        };
        self.join(number, extent, want.class(), Waiter::Local(want));
    }

    pub(crate) fn come_back(&mut self, number: u32, life: u32, want: Want) {
        let node = self.node(number);
        if node.state != State::Up || node.life != life {
            return;
        }
        if node.is_resident(want.extent) {
            return self.has_come(number, want);
        }
        self.join(number, want.extent, want.class(), Waiter::Local(want));
    }

    /// Somebody wants an extent that is not here.
    pub(crate) fn join(&mut self, number: u32, extent: u32, class: Class, waiter: Waiter) {
        let of_image = self.extent(extent);
        match self.node(number).flights.join(of_image, class, waiter) {
            Join::Lead(ticket) => self.begin(number, extent, class, ticket),
            Join::Wait => {}
            Join::Refuse(waiter) => self.answer(number, waiter, Outcome::Refused),
        }
    }

    /// Tells somebody who waited for a flight how it ended.
    pub(crate) fn answer(&mut self, number: u32, waiter: Waiter, outcome: Outcome) {
        match waiter {
            Waiter::Peer(request) => self.serve(number, request, outcome),
            Waiter::Local(want) if outcome == Outcome::Landed => self.has_come(number, want),
            Waiter::Local(mut want) => {
                let wait = want.backoff.next(self.dice.throw());
                let life = self.node(number).life;
                self.after(wait, Event::Return(number, life, want));
            }
        }
    }

    fn has_come(&mut self, number: u32, want: Want) {
        match want.by {
            By::Prefetch => self.node(number).guest.prefetching -= 1,
            By::Guest(read) => {
                let waited = self.now.saturating_sub(want.since);
                self.report.longest_read = self.report.longest_read.max(waited);
                let Node { guest, .. } = self.node(number);
                if has_all(guest, read) {
                    self.read_is_done(number);
                }
            }
        }
        self.read_on(number);
    }
}

/// Counts an extent of a read under way; true if it was the last one.
fn has_all(guest: &mut Guest, read: u32) -> bool {
    let Some(at) = guest.open.iter().position(|(open, _)| *open == read) else {
        return false;
    };
    let (_, missing) = &mut guest.open[at];
    *missing -= 1;
    let all = *missing == 0;
    if all {
        guest.open.swap_remove(at);
    }
    all
}
