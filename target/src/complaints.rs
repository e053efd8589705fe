//! What is worth a line in the log, but not a line for each time that a hostile initiator makes it happen.

use std::num::NonZeroU64;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lines in one [`PERIOD`].
const MOST_LINES: u32 = 10;

/// How long lines are counted together.
const PERIOD: Duration = Duration::from_secs(10);

/// Lines that were left out since the last one. A line without any says nothing about it.
pub(crate) type Unsaid = Option<NonZeroU64>;

/// Counts lines of a kind.
#[derive(Debug, Default)]
pub(crate) struct Complaints {
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    since: Option<Instant>,
    lines: u32,
    unsaid: u64,
}

impl Complaints {
    /// Whether to write a line now; if so, how many were left out since the last one.
    pub(crate) fn may_say(&self, now: Instant) -> Option<Unsaid> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = counts
            .since
            .is_none_or(|since| now.saturating_duration_since(since) >= PERIOD);
        if fresh {
            (counts.since, counts.lines) = (Some(now), 0);
        }
        if counts.lines >= MOST_LINES {
            counts.unsaid += 1;
            return None;
        }
        counts.lines += 1;
        Some(NonZeroU64::new(std::mem::take(&mut counts.unsaid)))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Complaints, NonZeroU64};

    #[test]
    fn a_flood_is_ten_lines_and_a_number() {
        let complaints = Complaints::default();
        let begin = Instant::now();
        let said: Vec<_> = (0..1000)
            .filter_map(|_| complaints.may_say(begin))
            .collect();
        assert_eq!(said, [None; 10]);
        let later = begin + Duration::from_secs(9);
        assert_eq!(complaints.may_say(later), None);
        let later = begin + Duration::from_secs(10);
        assert_eq!(complaints.may_say(later), Some(NonZeroU64::new(991)));
        assert_eq!(complaints.may_say(later), Some(None));
    }
}
