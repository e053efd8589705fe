//! Extents of which the origin has other content than the manifest says.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use vmthunder_volume::Extent;

/// What the origin answered wrongly of late. Each extent is left alone for a moment, so that it is not sent again and
/// again to those who wait for it; whoever asks then finds out whether it was mended.
#[derive(Debug, Default)]
pub(crate) struct Wrong {
    found: Mutex<BTreeMap<Extent, Duration>>,
}

/// What a verified answer, or a wrong one, changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// The first extent that is wrong.
    Begins,
    /// The last one is right again.
    Ends,
    /// There are others, or it was known.
    None,
}

impl Wrong {
    /// True while an extent is not asked for.
    pub(crate) fn is_left_alone(&self, now: Duration, extent: Extent) -> bool {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found
            .get(&extent)
            .is_some_and(|at| now.saturating_sub(*at) < PAUSE)
    }

    /// The origin's answer was wrong, or right.
    pub(crate) fn judge(&self, now: Duration, extent: Extent, is_right: bool) -> Change {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let before = found.is_empty();
        found.retain(|_, at| now.saturating_sub(*at) < MEMORY);
        if is_right {
            found.remove(&extent);
        } else if found.len() < MOST || found.contains_key(&extent) {
            found.insert(extent, now);
        }
        match (before, found.is_empty()) {
            (true, false) => Change::Begins,
            (false, true) => Change::Ends,
            _ => Change::None,
        }
    }

    /// How many extents are wrong, as far as was noticed of late.
    pub(crate) fn count(&self, now: Duration) -> usize {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let late = |at: &&Duration| now.saturating_sub(**at) < MEMORY;
        found.values().filter(late).count()
    }
}

/// How long an extent is left alone.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a wrong answer counts that nobody asks for again.
const MEMORY: Duration = Duration::from_secs(60);
/// Extents that are remembered; more are asked for again at once.
const MOST: usize = 4096;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use vmthunder_volume::Extent;

    use super::{Change, MEMORY, MOST, PAUSE, Wrong};

    #[test]
    fn each_extent_is_left_alone_for_a_moment_and_forgotten_when_nobody_asks() {
        let (wrong, now) = (Wrong::default(), Duration::from_secs(100));
        assert_eq!(wrong.judge(now, Extent(1), true), Change::None);
        assert_eq!(wrong.judge(now, Extent(2), false), Change::Begins);
        assert_eq!(wrong.judge(now, Extent(3), false), Change::None);
        assert!(wrong.is_left_alone(now, Extent(2)));
        assert!(!wrong.is_left_alone(now, Extent(1)));
        assert!(!wrong.is_left_alone(now + PAUSE, Extent(2)));
        assert_eq!(wrong.count(now), 2);
        assert_eq!(wrong.judge(now + PAUSE, Extent(2), true), Change::None);
        assert_eq!(wrong.count(now + PAUSE), 1);
        assert_eq!(wrong.count(now + MEMORY), 0);
        assert_eq!(wrong.judge(now + MEMORY, Extent(9), true), Change::Ends);
    }

    #[test]
    fn an_origin_that_is_all_wrong_does_not_fill_the_memory() {
        let (wrong, now) = (Wrong::default(), Duration::ZERO);
        for extent in 0..2 * MOST as u64 {
            wrong.judge(now, Extent(extent), false);
        }
        assert_eq!(wrong.count(now), MOST);
        assert!(!wrong.is_left_alone(now, Extent(2 * MOST as u64 - 1)));
    }
}
