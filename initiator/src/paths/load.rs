//! What is under way on a path, and how long commands take there. Pure: time is an argument.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// What is under way on a path, and how long commands take there.
#[derive(Debug, Default)]
pub(crate) struct Load {
    /// When each command began; their numbers grow.
    flights: BTreeMap<u64, Instant>,
    next: u64,
    /// An average in which the latest commands count most, and when it was taken.
    service_time: Option<(Duration, Instant)>,
}

impl Load {
    /// A command begins; its number ends it.
    pub(crate) fn begin(&mut self, now: Instant) -> u64 {
        let flight = self.next;
        self.next += 1;
        self.flights.insert(flight, now);
        flight
    }

    /// A command ended; whether it was answered, so that its time tells something.
    pub(crate) fn end(&mut self, flight: u64, answered: bool, now: Instant) {
        let Some(begun) = self.flights.remove(&flight) else {
            return;
        };
        if answered {
            let took = now.saturating_duration_since(begun);
            let average = match self.service_time(now) {
                Some(average) => (average * (SMOOTHING - 1) + took) / SMOOTHING,
                None => took,
            };
            self.service_time = Some((average, now));
        }
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.flights.len()
    }

    /// For how long the oldest command has been under way.
    pub(crate) fn oldest(&self, now: Instant) -> Option<Duration> {
        let (_, begun) = self.flights.first_key_value()?;
        Some(now.saturating_duration_since(*begun))
    }

    /// How long commands took lately. It halves with each second in which none ended, or a path that was slow once would
    /// never be tried again.
    pub(crate) fn service_time(&self, now: Instant) -> Option<Duration> {
        let (average, taken) = self.service_time?;
        let idle = now.saturating_duration_since(taken).as_secs();
        let halvings = u32::try_from(idle).unwrap_or(u32::MAX).min(MOST_HALVINGS);
        Some(average / 2u32.saturating_pow(halvings))
    }
}

/// The latest command counts one in so many.
const SMOOTHING: u32 = 8;

/// Nothing is left after so many halvings.
const MOST_HALVINGS: u32 = 31;

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::Load;

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn commands_are_counted_and_timed() {
        let (mut load, start) = (Load::default(), Instant::now());
        assert_eq!((load.in_flight(), load.oldest(start)), (0, None));
        let first = load.begin(start);
        let second = load.begin(start + ms(4));
        assert_eq!(load.in_flight(), 2);
        assert_eq!(load.oldest(start + ms(10)), Some(ms(10)));
        load.end(first, true, start + ms(16));
        assert_eq!(load.oldest(start + ms(16)), Some(ms(12)));
        assert_eq!(load.service_time(start + ms(16)), Some(ms(16)));
        load.end(second, true, start + ms(12));
        assert_eq!(load.service_time(start + ms(16)), Some(ms(15)));
        load.end(second, true, start + ms(99));
        assert_eq!(load.in_flight(), 0);
    }

    #[test]
    fn what_was_not_answered_tells_no_time() {
        let (mut load, start) = (Load::default(), Instant::now());
        let lost = load.begin(start);
        load.end(lost, false, start + ms(900));
        assert_eq!(load.service_time(start + ms(900)), None);
    }

    #[test]
    fn a_slow_past_is_forgotten() {
        let (mut load, start) = (Load::default(), Instant::now());
        let slow = load.begin(start);
        load.end(slow, true, start + ms(800));
        let at = |later: u64| load.service_time(start + ms(800 + later));
        assert_eq!(at(999), Some(ms(800)));
        assert_eq!(at(1000), Some(ms(400)));
        assert_eq!(at(3500), Some(ms(100)));
        assert_eq!(at(1_000_000_000), Some(Duration::ZERO));
    }
}
