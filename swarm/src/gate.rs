//! Places for requests at one source, and the rate at which it may be asked. Pure: for the daemon and for the simulator.
//!
//! A quarter of the places is a reserve for what is forwarded for peers, so that local work can never lock peers out. A
//! peer's request gets a place at once or none. Others may stand in line, a guest's before what is read ahead; whoever
//! stands there too long is taken out by the driver. Time is an argument. Nothing here panics.

use std::collections::VecDeque;
use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use vmthunder_volume::Class;

/// Places at a source, and who waits for one. `W` is what the driver needs to let somebody in.
#[derive(Debug)]
pub struct Gate<W> {
    shared: u32,
    reserve: u32,
    bytes_per_second: Option<NonZeroU64>,
    /// When all that was let in has passed at that rate.
    passed: Duration,
    next_number: u64,
    /// Guests, and what is read ahead for them.
    lines: [VecDeque<Stander<W>>; 2],
}

#[derive(Debug)]
struct Stander<W> {
    number: u64,
    bytes: u64,
    waiter: W,
}

/// A place, to be given back to [`Gate::leave`] exactly once.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a place that is dropped is lost"]
pub struct Place {
    reserved: bool,
}

/// What somebody who comes gets.
#[derive(Debug, PartialEq, Eq)]
pub enum Entry<W> {
    /// A place.
    Through(Place),
    /// A number in the line.
    InLine(u64),
    /// Nothing.
    Refused(W),
}

impl<W> Gate<W> {
    /// So many places, and so many bytes in a second if there is a limit.
    pub fn new(places: NonZeroU32, bytes_per_second: Option<NonZeroU64>) -> Self {
        let places = places.get();
        let reserve = places.div_ceil(4);
        Self {
            // With a single place there would be none left to share.
            shared: (places - reserve).max(1),
            reserve,
            bytes_per_second,
            passed: Duration::ZERO,
            next_number: 0,
            lines: [VecDeque::new(), VecDeque::new()],
        }
    }

    /// A place for so many bytes at once, or none.
    pub fn try_enter(&mut self, now: Duration, class: Class, bytes: u64) -> Option<Place> {
        if now < self.opens() {
            return None;
        }
        let reserved = class == Class::Peer && self.reserve > 0;
        let places = match reserved {
            true => &mut self.reserve,
            false => &mut self.shared,
        };
        *places = places.checked_sub(1)?;
        self.passed = self.passed.max(now) + self.takes(bytes);
        Some(Place { reserved })
    }

    /// A place, or a number in the line; a peer's request never stands there.
    pub fn enter(&mut self, now: Duration, class: Class, bytes: u64, waiter: W) -> Entry<W> {
        let first =
            class == Class::Peer || self.lines[..=line(class)].iter().all(VecDeque::is_empty);
        if let Some(place) = first.then(|| self.try_enter(now, class, bytes)).flatten() {
            return Entry::Through(place);
        }
        if class == Class::Peer {
            return Entry::Refused(waiter);
        }
        let number = self.next_number;
        self.next_number += 1;
        self.lines[line(class)].push_back(Stander {
            number,
            bytes,
            waiter,
        });
        Entry::InLine(number)
    }

    /// Gives a place back; [`admit`](Self::admit) says who gets it.
    pub fn leave(&mut self, place: Place) {
        match place.reserved {
            true => self.reserve += 1,
            false => self.shared += 1,
        }
    }

    /// The next one in line, if there is a place for it now. To be called until there is none, whenever a place was given
    /// back and when [`opens_for_line`](Self::opens_for_line) says so.
    pub fn admit(&mut self, now: Duration) -> Option<(W, Place)> {
        let line = self.lines.iter().position(|line| !line.is_empty())?;
        let bytes = self.lines[line].front()?.bytes;
        let place = self.try_enter(now, Class::Demand, bytes)?;
        let stander = self.lines[line].pop_front()?;
        Some((stander.waiter, place))
    }

    /// When the rate lets the next one in line through, if it is the rate that keeps it.
    pub fn opens_for_line(&self) -> Option<Duration> {
        let waits = self.shared > 0 && self.lines.iter().any(|line| !line.is_empty());
        waits.then(|| self.opens())
    }

    /// Takes somebody out of the line; nobody if it was let in.
    pub fn give_up(&mut self, number: u64) -> Option<W> {
        self.lines.iter_mut().find_map(|line| {
            let at = line.iter().position(|stander| stander.number == number)?;
            Some(line.remove(at)?.waiter)
        })
    }

    /// When the rate allows something again.
    fn opens(&self) -> Duration {
        self.passed.saturating_sub(BURST)
    }

    fn takes(&self, bytes: u64) -> Duration {
        self.bytes_per_second.map_or(Duration::ZERO, |rate| {
            let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(rate.get());
            Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
        })
    }
}

fn line(class: Class) -> usize {
    usize::from(class != Class::Demand)
}

/// How far the rate may be passed for a moment: without it each request would wait for a timer.
const BURST: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use std::num::{NonZeroU32, NonZeroU64};
    use std::time::Duration;

    use vmthunder_volume::Class;

    use super::{Entry, Gate, Place};

    const NOW: Duration = Duration::from_secs(9);
    const MS: Duration = Duration::from_millis(1);

    fn gate(places: u32, rate: Option<u64>) -> Gate<u32> {
        Gate::new(
            NonZeroU32::new(places).unwrap(),
            rate.and_then(NonZeroU64::new),
        )
    }

    fn through(entry: Entry<u32>) -> Place {
        let Entry::Through(place) = entry else {
            panic!("{entry:?}")
        };
        place
    }

    #[test]
    fn a_quarter_is_kept_for_peers_who_never_wait() {
        let mut gate = gate(4, None);
        let local: Vec<Place> = (0..3)
            .map(|n| through(gate.enter(NOW, Class::Demand, 1, n)))
            .collect();
        assert_eq!(gate.try_enter(NOW, Class::Demand, 1), None);
        let _peer = through(gate.enter(NOW, Class::Peer, 1, 3));
        assert_eq!(gate.enter(NOW, Class::Peer, 1, 4), Entry::Refused(4));
        for place in local {
            gate.leave(place);
        }
        let _other = through(gate.enter(NOW, Class::Peer, 1, 5));
    }

    #[test]
    fn guests_stand_before_what_is_read_ahead() {
        let mut gate = gate(1, None);
        let place = through(gate.enter(NOW, Class::Prefetch, 1, 0));
        let numbers = [Class::Prefetch, Class::Demand, Class::Fill, Class::Demand]
            .iter()
            .zip(1..)
            .map(|(class, waiter)| gate.enter(NOW, *class, 1, waiter));
        assert_eq!(
            numbers.collect::<Vec<_>>(),
            (0..4).map(Entry::InLine).collect::<Vec<_>>()
        );
        assert_eq!(gate.admit(NOW), None);
        assert_eq!(gate.give_up(3), Some(4));
        assert_eq!(gate.give_up(3), None);
        let mut place = Some(place);
        let order = std::iter::from_fn(|| {
            gate.leave(place.take()?);
            let (waiter, next) = gate.admit(NOW)?;
            place = Some(next);
            Some(waiter)
        });
        assert_eq!(order.collect::<Vec<_>>(), [2, 1, 3]);
    }

    #[test]
    fn a_rate_holds_over_time_and_says_when_it_opens() {
        // A thousand bytes are a second.
        let mut gate = gate(100, Some(1000));
        let _places = [(); 2].map(|()| gate.enter(NOW, Class::Demand, 20, 0));
        assert_eq!(
            gate.try_enter(NOW, Class::Peer, 20),
            None,
            "40 ms are gone, 20 may be"
        );
        assert!(matches!(
            gate.enter(NOW, Class::Demand, 20, 1),
            Entry::InLine(_)
        ));
        assert_eq!(gate.opens_for_line(), Some(NOW + 20 * MS));
        assert!(gate.admit(NOW + 19 * MS).is_none());
        assert!(gate.admit(NOW + 20 * MS).is_some());
        assert_eq!(gate.opens_for_line(), None);
    }
}
