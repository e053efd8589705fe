//! Runs of a unit's medium that are being changed, and who may change them beside whom.
//!
//! Plain writes share; COMPARE AND WRITE and its kin read and write as one step, so they need their run alone: nobody
//! else writes to any part of it meanwhile (SBC-4 §5.3). Reads never wait. Who comes first is let in first, also
//! past runs that wait elsewhere, so that nobody starves.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use vmthunder_volume::Span;

use crate::failure::Failure;

/// Commands of one unit that may wait for others to leave their run, beside fences.
const MAX_WAITING: usize = 1024;

/// How a run is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    /// Beside others that share.
    Shared,
    /// Beside nobody.
    Alone,
}

/// The runs of one unit.
#[derive(Debug, Default)]
pub(super) struct Ranges {
    table: Mutex<Table<Option<Waker>>>,
}

/// A place in the table, from the moment of asking on; given up when dropped.
#[derive(Debug)]
pub(super) struct Holding<'a> {
    ranges: &'a Ranges,
    place: usize,
}

impl Ranges {
    /// Holds a run; waits until those who asked before, and stand in the way, have left.
    pub(super) async fn hold(&self, span: Span, hold: Hold) -> Result<Holding<'_>, Failure> {
        let entered = self.lock().enter(span, hold, MAX_WAITING);
        let (place, granted) = entered.ok_or(Failure::Busy)?;
        Ok(self.granted(place, granted).await)
    }

    /// Stands in line behind all who hold a part of a run, and in front of all who come later. It is never refused:
    /// there are no more fences than writes under way, and one that is missing would let a write land too late.
    pub(super) async fn fence(&self, span: Span) {
        let entered = self.lock().enter(span, Hold::Alone, usize::MAX);
        if let Some((place, granted)) = entered {
            self.granted(place, granted).await;
        }
    }

    async fn granted(&self, place: usize, granted: bool) -> Holding<'_> {
        // From here on the place is given up even if nobody polls again.
        let holding = Holding {
            ranges: self,
            place,
        };
        if !granted {
            poll_fn(|context| {
                let mut table = self.lock();
                match table.waker(place) {
                    Some(waker) => {
                        *waker = Some(context.waker().clone());
                        Poll::Pending
                    }
                    None => Poll::Ready(()),
                }
            })
            .await;
        }
        holding
    }

    fn lock(&self) -> MutexGuard<'_, Table<Option<Waker>>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Holding<'_> {
    fn drop(&mut self) {
        let woken = self.ranges.lock().leave(self.place);
        woken.into_iter().flatten().for_each(Waker::wake);
    }
}

/// Who holds what, and who waits: pure, `W` is whatever a waiting place leaves behind.
#[derive(Debug)]
struct Table<W> {
    places: Vec<Option<Place<W>>>,
    free: Vec<usize>,
    /// Places that want a run alone, held or waiting: while there are none nobody has to look for conflicts.
    alone: usize,
    /// Places that wait, in the order in which they asked.
    waiting: VecDeque<usize>,
}

#[derive(Debug)]
struct Place<W> {
    span: Span,
    hold: Hold,
    /// None once the run is held.
    waits: Option<W>,
}

impl<W> Default for Table<W> {
    fn default() -> Self {
        Self {
            places: Vec::new(),
            free: Vec::new(),
            alone: 0,
            waiting: VecDeque::new(),
        }
    }
}

impl<W: Default> Table<W> {
    /// A new place, and whether it holds its run at once; none if `most` wait already.
    fn enter(&mut self, span: Span, hold: Hold, most: usize) -> Option<(usize, bool)> {
        let nobody_alone = self.alone == 0 && hold == Hold::Shared;
        let free = nobody_alone || !self.occupied().any(|other| in_the_way(other, span, hold));
        if !free && self.waiting.len() >= most {
            return None;
        }
        let place = Place {
            span,
            hold,
            waits: (!free).then(W::default),
        };
        let at = match self.free.pop() {
            Some(at) => at,
            None => {
                self.places.push(None);
                self.places.len() - 1
            }
        };
        if let Some(slot) = self.places.get_mut(at) {
            *slot = Some(place);
        }
        if hold == Hold::Alone {
            self.alone += 1;
        }
        if !free {
            self.waiting.push_back(at);
        }
        Some((at, free))
    }

    /// What a place that waits will leave behind; none once it holds its run.
    fn waker(&mut self, at: usize) -> Option<&mut W> {
        self.places.get_mut(at)?.as_mut()?.waits.as_mut()
    }

    /// Gives a place up; what those who hold their run now have left behind.
    fn leave(&mut self, at: usize) -> Vec<W> {
        let Some(gone) = self.places.get_mut(at).and_then(Option::take) else {
            return Vec::new();
        };
        self.free.push(at);
        if gone.hold == Hold::Alone {
            self.alone -= 1;
        }
        if gone.waits.is_some() {
            self.waiting.retain(|other| *other != at);
        }
        if self.waiting.is_empty() {
            Vec::new()
        } else {
            self.admit(&gone)
        }
    }

    /// Lets in those in whose way `gone` was, and now nobody is, in the order of arrival.
    fn admit(&mut self, gone: &Place<W>) -> Vec<W> {
        let mut woken = Vec::new();
        let mut still = VecDeque::with_capacity(self.waiting.len());
        for at in std::mem::take(&mut self.waiting) {
            let Some(place) = self.place(at) else {
                continue;
            };
            let (span, hold) = (place.span, place.hold);
            let blocked = !in_the_way(gone, span, hold)
                || self
                    .occupied()
                    .filter(|other| other.waits.is_none())
                    .chain(still.iter().filter_map(|at| self.place(*at)))
                    .any(|other| in_the_way(other, span, hold));
            if blocked {
                still.push_back(at);
            } else if let Some(Some(place)) = self.places.get_mut(at) {
                woken.extend(place.waits.take());
            }
        }
        self.waiting = still;
        woken
    }

    fn place(&self, at: usize) -> Option<&Place<W>> {
        self.places.get(at)?.as_ref()
    }

    fn occupied(&self) -> impl Iterator<Item = &Place<W>> {
        self.places.iter().flatten()
    }
}

fn in_the_way<W>(other: &Place<W>, span: Span, hold: Hold) -> bool {
    (hold == Hold::Alone || other.hold == Hold::Alone)
        && other.span.offset() < span.end()
        && span.offset() < other.span.end()
}

#[cfg(test)]
#[path = "ranges_tests.rs"]
mod tests;
