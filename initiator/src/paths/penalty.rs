//! How long a path that comes and goes is left alone. Pure: time is an argument.

use std::time::{Duration, Instant};

/// How long a path that comes and goes is left alone.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Penalty {
    /// Losses, none of which came long after the one before.
    losses: u32,
    last: Option<Instant>,
}

impl Penalty {
    /// The path was lost.
    pub(crate) fn lost(&mut self, now: Instant) {
        let lasted = self.last.map(|last| now.saturating_duration_since(last));
        self.losses = match lasted {
            Some(lasted) if lasted < FORGIVEN_AFTER => self.losses.saturating_add(1),
            _ => 1,
        };
        self.last = Some(now);
    }

    /// True if the path is to be used only when there is no other. The first loss is forgiven at once.
    pub(crate) fn is_shunned(&self, now: Instant) -> bool {
        let doublings = self.losses.saturating_sub(2).min(MOST_DOUBLINGS);
        let pause = match self.losses {
            0 | 1 => Duration::ZERO,
            _ => (FIRST_PAUSE * 2u32.saturating_pow(doublings)).min(LONGEST_PAUSE),
        };
        self.last
            .is_some_and(|last| now.saturating_duration_since(last) < pause)
    }
}

/// The pause after the second loss; it doubles from there.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
const MOST_DOUBLINGS: u32 = 6;

/// A path that held so long begins anew.
const FORGIVEN_AFTER: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::Penalty;

    #[test]
    fn pauses_double_up_to_their_limit_and_are_forgiven() {
        let mut penalty = Penalty::default();
        let mut now = Instant::now();
        assert!(!penalty.is_shunned(now));
        for pause in [0, 1, 2, 4, 8, 16, 32, 60, 60] {
            penalty.lost(now);
            let until = now + Duration::from_secs(pause);
            assert_eq!(penalty.is_shunned(now), pause > 0, "{pause}");
            assert!(!penalty.is_shunned(until), "{pause}");
            assert!(pause == 0 || penalty.is_shunned(until - Duration::from_millis(1)));
            now = until;
        }
        penalty.lost(now + Duration::from_secs(300));
        assert!(!penalty.is_shunned(now + Duration::from_secs(300)));
    }
}
