//! Who fetches an extent and who waits for it: one table, pure, for the cache and for the simulator.
//!
//! A *flight* is everything under way for one extent: waiters, and one *attempt* at a time, an ask of the volume below
//! with a class. The driver calls [`Flights::join`] for everyone who wants the extent and, when told to [`Join::Lead`],
//! asks below with that class; when that ask ends it calls [`Flights::land`], answers those whom it is told to answer,
//! and asks again if told to. Every attempt must land: the driver keeps its [`Ticket`].
//!
//! Rules:
//! * Whoever comes rides on the attempt that is under way, demand and peers on a prefetch too: it was asked earlier, so
//!   it ends earlier, and a second ask would only carry the same bytes twice. Who prefetches slowly on purpose asks
//!   late, and never begins what it means to delay.
//! * Bytes answer everybody, and so does a failure ([`Outcome::Failed`]): it is the last word on the extent.
//! * A refusal ([`Outcome::Refused`]) speaks for those who have no more right than the one who asked: a guest waits where
//!   a peer is refused, and a peer has places that a prefetch may not take. If somebody with more right waits, an attempt
//!   begins with the most of it, for all who are left.

#[cfg(test)]
#[path = "flight_tests.rs"]
mod tests;

use std::collections::HashMap;

use vmthunder_volume::{Class, Extent};

/// How much may be under way.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Flights, for peers.
    pub flights: usize,
    /// Of those, how many only peers may use.
    pub peer_reserve: usize,
    /// Flights that only bulk reads wait for.
    pub bulk_flights: usize,
    /// Waiters of one flight.
    pub waiters: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            flights: 4096,
            peer_reserve: 1024,
            bulk_flights: 1024,
            waiters: 4096,
        }
    }
}

/// Names an attempt; handed out by [`Flights::join`] and [`Flights::land`], given back to `land` exactly once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket(u64);

/// What somebody who wants an extent does.
#[derive(Debug, PartialEq, Eq)]
pub enum Join<W> {
    /// Wait, and ask below with one's own class: an attempt begins.
    Lead(Ticket),
    /// Wait.
    Wait,
    /// Go away with Busy: a limit is reached.
    Refuse(W),
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With bytes.
    Landed,
    /// Nobody would serve this class now: busy, or out of reach.
    Refused,
    /// With the last word on this extent.
    Failed,
}

/// What follows from an outcome.
#[derive(Debug, PartialEq, Eq)]
pub struct Landing<W> {
    /// These are answered with the outcome, in the order in which they came.
    pub answered: Vec<W>,
    /// This attempt begins.
    pub lead: Option<(Class, Ticket)>,
}

/// The flights under way. `W` is what the driver needs to answer a waiter.
#[derive(Debug)]
pub struct Flights<W> {
    limits: Limits,
    next_ticket: u64,
    bulk_flights: usize,
    flights: HashMap<Extent, Flight<W>>,
}

#[derive(Debug)]
struct Flight<W> {
    begun_by_bulk: bool,
    ticket: Ticket,
    class: Class,
    waiters: Vec<(Class, W)>,
}

impl<W> Flights<W> {
    /// No flights, and these limits.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            next_ticket: 0,
            bulk_flights: 0,
            flights: HashMap::new(),
        }
    }

    /// The number of extents under way.
    pub fn len(&self) -> usize {
        self.flights.len()
    }

    /// True if nothing is under way.
    pub fn is_empty(&self) -> bool {
        self.flights.is_empty()
    }

    /// Somebody wants an extent.
    pub fn join(&mut self, extent: Extent, class: Class, waiter: W) -> Join<W> {
        let Some(flight) = self.flights.get_mut(&extent) else {
            return self.begin(extent, class, waiter);
        };
        if flight.waiters.len() >= self.limits.waiters {
            return Join::Refuse(waiter);
        }
        flight.waiters.push((class, waiter));
        Join::Wait
    }

    /// An attempt ended. A ticket that is not under way changes nothing.
    pub fn land(&mut self, extent: Extent, ticket: Ticket, outcome: Outcome) -> Landing<W> {
        let flight = self.flights.get_mut(&extent);
        let Some(flight) = flight.filter(|flight| flight.ticket == ticket) else {
            return Landing {
                answered: Vec::new(),
                lead: None,
            };
        };
        let said = match outcome {
            Outcome::Refused => right(flight.class),
            Outcome::Landed | Outcome::Failed => Right::Waits,
        };
        let answered = flight.answer(|class| right(class) <= said);
        let next_class = flight.waiters.iter().map(|(class, _)| *class);
        let lead = next_class
            .max_by_key(|class| right(*class))
            .map(|class| (class, next(&mut self.next_ticket)));
        if let Some((class, ticket)) = lead {
            (flight.class, flight.ticket) = (class, ticket);
        } else {
            self.bulk_flights -= usize::from(flight.begun_by_bulk);
            self.flights.remove(&extent);
        }
        Landing { answered, lead }
    }

    fn begin(&mut self, extent: Extent, class: Class, waiter: W) -> Join<W> {
        let bulk = is_bulk(class);
        let room = match class {
            Class::Peer => self.limits.flights,
            _ => self.limits.flights.saturating_sub(self.limits.peer_reserve),
        };
        if self.flights.len() >= room || (bulk && self.bulk_flights >= self.limits.bulk_flights) {
            return Join::Refuse(waiter);
        }
        let ticket = next(&mut self.next_ticket);
        let flight = Flight {
            begun_by_bulk: bulk,
            ticket,
            class,
            waiters: vec![(class, waiter)],
        };
        self.flights.insert(extent, flight);
        self.bulk_flights += usize::from(bulk);
        Join::Lead(ticket)
    }
}

impl<W> Flight<W> {
    fn answer(&mut self, whom: impl Fn(Class) -> bool) -> Vec<W> {
        self.waiters
            .extract_if(.., |(class, _)| whom(*class))
            .map(|(_, waiter)| waiter)
            .collect()
    }
}

/// What the classes are allowed below, the least first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Right {
    /// The shared places only.
    Shared,
    /// A reserve of places as well.
    Reserve,
    /// To wait for them.
    Waits,
}

fn right(class: Class) -> Right {
    match class {
        Class::Prefetch | Class::Fill => Right::Shared,
        Class::Peer => Right::Reserve,
        Class::Demand => Right::Waits,
    }
}

fn is_bulk(class: Class) -> bool {
    matches!(class, Class::Prefetch | Class::Fill)
}

fn next(counter: &mut u64) -> Ticket {
    let ticket = Ticket(*counter);
    *counter += 1;
    ticket
}
