//! Who fetches an extent and who waits for it: one table, pure, for the cache and for the simulator.
//!
//! A *flight* is everything under way for one extent. It has waiters and one or two *attempts*, each an ask of the
//! volume below with a class. The driver calls [`Flights::join`] for everyone who wants the extent and, when told to
//! [`Join::Lead`], asks below with that class; when that ask ends it calls [`Flights::land`], answers those whom it
//! is told to answer, and asks again if told to. Every attempt must land: the driver keeps its [`Ticket`].
//!
//! Rules:
//! * Bytes answer everybody.
//! * Demand and peers do not ride on a bulk attempt (prefetch, fill), which may be slow on purpose: the first of them
//!   leads a second attempt with its own class. There is at most one bulk and one urgent attempt.
//! * A refusal ([`Outcome::Refused`]) speaks for those who have no more right than the one who asked. A peer's ask is
//!   refused where a guest's waits, so refused peer waiters are answered while a guest that joined starts over.
//! * A failure ([`Outcome::Failed`]) answers all whom no other attempt still serves.

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
    urgent: Option<Attempt>,
    bulk: Option<Attempt>,
    waiters: Vec<(Class, W)>,
}

#[derive(Clone, Copy, Debug)]
struct Attempt {
    ticket: Ticket,
    class: Class,
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
        if is_bulk(class) || flight.urgent.is_some() {
            return Join::Wait;
        }
        let ticket = next(&mut self.next_ticket);
        flight.urgent = Some(Attempt { ticket, class });
        Join::Lead(ticket)
    }

    /// An attempt ended. A ticket that is not under way (another attempt answered everybody) changes nothing.
    pub fn land(&mut self, extent: Extent, ticket: Ticket, outcome: Outcome) -> Landing<W> {
        let Some(flight) = self.flights.get_mut(&extent) else {
            return Landing {
                answered: Vec::new(),
                lead: None,
            };
        };
        let Some(ended) = flight.take(ticket) else {
            return Landing {
                answered: Vec::new(),
                lead: None,
            };
        };
        let mut lead = None;
        let answered = if outcome == Outcome::Landed {
            flight.answer(|_| true)
        } else if is_bulk(ended.class) {
            // Whoever is urgent has an attempt of his own, and that one serves the bulk readers too.
            let alone = flight.urgent.is_none();
            flight.answer(|_| alone)
        } else if outcome == Outcome::Refused
            && ended.class == Class::Peer
            && flight.has(Class::Demand)
        {
            let ticket = next(&mut self.next_ticket);
            let attempt = Attempt {
                ticket,
                class: Class::Demand,
            };
            flight.urgent = Some(attempt);
            lead = Some((attempt.class, ticket));
            flight.answer(|class| class == Class::Peer)
        } else {
            let alone = flight.bulk.is_none();
            flight.answer(|class| alone || !is_bulk(class))
        };
        if flight.waiters.is_empty() {
            if flight.begun_by_bulk {
                self.bulk_flights -= 1;
            }
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
        let attempt = Some(Attempt { ticket, class });
        let (urgent, bulk_attempt) = if bulk {
            (None, attempt)
        } else {
            (attempt, None)
        };
        let waiters = vec![(class, waiter)];
        let flight = Flight {
            begun_by_bulk: bulk,
            urgent,
            bulk: bulk_attempt,
            waiters,
        };
        self.flights.insert(extent, flight);
        self.bulk_flights += usize::from(bulk);
        Join::Lead(ticket)
    }
}

impl<W> Flight<W> {
    fn take(&mut self, ticket: Ticket) -> Option<Attempt> {
        self.urgent
            .take_if(|attempt| attempt.ticket == ticket)
            .or_else(|| self.bulk.take_if(|attempt| attempt.ticket == ticket))
    }

    fn has(&self, class: Class) -> bool {
        self.waiters.iter().any(|(of, _)| *of == class)
    }

    fn answer(&mut self, whom: impl Fn(Class) -> bool) -> Vec<W> {
        self.waiters
            .extract_if(.., |(class, _)| whom(*class))
            .map(|(_, waiter)| waiter)
            .collect()
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
