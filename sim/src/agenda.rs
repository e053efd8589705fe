//! What will happen, in order of time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

/// Events in order of time, and of the order in which they were put down where times are equal.
///
/// A wheel of short spans of time: what lies ahead is only thrown into its span, and sorted when that span begins.
#[derive(Debug)]
pub(crate) struct Agenda<E> {
    next_number: u64,
    /// The span whose events are in `now`.
    span: u64,
    now: BinaryHeap<Reverse<Entry<E>>>,
    wheel: Vec<Vec<Entry<E>>>,
    /// Events on the wheel.
    on_wheel: usize,
    /// What lies further ahead than the wheel reaches, by span.
    far: BTreeMap<u64, Vec<Entry<E>>>,
}

#[derive(Debug)]
struct Entry<E> {
    at: u64,
    number: u64,
    event: E,
}

impl<E> Agenda<E> {
    pub(crate) fn new() -> Self {
        Self {
            next_number: 0,
            span: 0,
            now: BinaryHeap::new(),
            wheel: (0..SPANS).map(|_| Vec::new()).collect(),
            on_wheel: 0,
            far: BTreeMap::new(),
        }
    }

    pub(crate) fn put(&mut self, at: Duration, event: E) {
        let at = u64::try_from(at.as_nanos()).unwrap_or(u64::MAX);
        let number = self.next_number;
        self.next_number += 1;
        let (entry, span) = (Entry { at, number, event }, at >> SPAN_BITS);
        if span <= self.span {
            self.now.push(Reverse(entry));
        } else if span < self.span + SPANS {
            self.wheel[place(span)].push(entry);
            self.on_wheel += 1;
        } else {
            self.far.entry(span).or_default().push(entry);
        }
    }

    pub(crate) fn next(&mut self) -> Option<(Duration, E)> {
        while self.now.is_empty() {
            self.turn()?;
        }
        let Reverse(entry) = self.now.pop()?;
        Some((Duration::from_nanos(entry.at), entry.event))
    }

    /// Goes on to the next span in which something happens, or may.
    fn turn(&mut self) -> Option<()> {
        let first_far = self.far.first_key_value().map(|(span, _)| *span);
        self.span = match (self.on_wheel, first_far) {
            (0, span) => span?,
            (_, _) => self.span + 1,
        };
        let due = std::mem::take(&mut self.wheel[place(self.span)]);
        self.on_wheel -= due.len();
        self.now.extend(due.into_iter().map(Reverse));
        if let Some(due) = self.far.remove(&self.span) {
            self.now.extend(due.into_iter().map(Reverse));
        }
        Some(())
    }
}

fn place(span: u64) -> usize {
    usize::try_from(span % SPANS).unwrap_or_default()
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl<E> Eq for Entry<E> {}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Entry<E> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// A span has 2^16 nanoseconds, and the wheel a bit more than half a second.
const SPAN_BITS: u32 = 16;
const SPANS: u64 = 8192;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Agenda;
    use crate::dice::Dice;

    #[test]
    fn whatever_is_put_down_comes_back_in_order() {
        let (mut agenda, mut dice) = (Agenda::new(), Dice(1));
        let (mut now, mut expected, mut came) = (Duration::ZERO, Vec::new(), Vec::new());
        for number in 0..20_000_u64 {
            // Mostly soon, at times at once, rarely in hours.
            let wait = Duration::from_nanos(dice.throw() >> (20 + dice.throw() % 44));
            agenda.put(now + wait, number);
            expected.push((now + wait, number));
            if number % 3 == 0 {
                let (at, event) = agenda.next().unwrap();
                came.push((at, event));
                now = at;
            }
        }
        came.extend(std::iter::from_fn(|| agenda.next()));
        expected.sort_unstable();
        assert_eq!(came, expected);
    }
}
