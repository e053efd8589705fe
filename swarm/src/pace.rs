//! How quickly answers can come: what a node learns of its own link before it calls anybody late.
//!
//! Whoever asks for a hundred extents at once over a narrow link waits long for the last of them, and nobody is to
//! blame. What the answers to all that is under way take at the quickest pace of late is what an answer may take here.
//! The quickest, since a node that waits for the dead has few answers, and no link gives more than it can. Pure; nothing
//! here panics.

use std::time::Duration;

/// Rounds of a few answers, and what is under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    outstanding: u32,
    /// When the last answer came, or when the first question after a pause was put.
    last: Duration,
    /// Answers of this round, and how long they were waited for together.
    answers: u32,
    waited: Duration,
    /// What an answer took in the quickest of the last rounds.
    quickest: Duration,
}

impl Pace {
    /// Nothing is known: it may be a slow link.
    pub(crate) fn new() -> Self {
        Self {
            outstanding: 0,
            last: Duration::ZERO,
            answers: 0,
            waited: Duration::ZERO,
            quickest: AT_FIRST,
        }
    }

    /// A question goes out.
    pub(crate) fn asked(&mut self, now: Duration) {
        if self.outstanding == 0 {
            self.last = now;
        }
        self.outstanding = self.outstanding.saturating_add(1);
    }

    /// A question came to its end without the bytes.
    pub(crate) fn settled(&mut self) {
        self.outstanding = self.outstanding.saturating_sub(1);
    }

    /// A question was answered.
    pub(crate) fn answered(&mut self, now: Duration) {
        self.settled();
        self.waited += now.saturating_sub(self.last);
        self.last = now;
        self.answers += 1;
        if self.answers == ROUND {
            let round = self.waited.max(SHORTEST_ROUND) / ROUND;
            self.quickest = round.min(self.quickest + self.quickest / FADING);
            (self.answers, self.waited) = (0, Duration::ZERO);
        }
    }

    /// What the answers to all that is under way take at that pace.
    pub(crate) fn all(&self) -> Duration {
        self.quickest * self.outstanding.min(MOST_QUEUED)
    }

    /// How many answers come in a time at that pace.
    pub(crate) fn answers_in(&self, time: Duration) -> u32 {
        let answers = time.as_nanos() / self.quickest.as_nanos().max(1);
        u32::try_from(answers).unwrap_or(u32::MAX)
    }
}

/// What an answer takes before any came: an extent's time on ten megabits a second.
const AT_FIRST: Duration = Duration::from_millis(52);
/// Answers in a round, and how long one lasts at least: what was kept up comes at once and says nothing of the link.
const ROUND: u32 = 8;
const SHORTEST_ROUND: Duration = Duration::from_millis(2);
/// With every round the quickest one counts for so much less: a link may become slower.
const FADING: u32 = 16;
/// Where more is under way most of it waits for something else than this link.
const MOST_QUEUED: u32 = 128;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Pace;

    const MS: Duration = Duration::from_millis(1);

    /// So many answers come, one every so many milliseconds, while always ten are awaited.
    fn answers(pace: &mut Pace, from: Duration, count: u32, apart: u32) -> Duration {
        let mut now = from;
        for _ in 0..count {
            now += MS * apart;
            pace.answered(now);
            pace.asked(now);
        }
        now
    }

    fn ten_asked() -> Pace {
        let mut pace = Pace::new();
        (0..10).for_each(|_| pace.asked(Duration::ZERO));
        pace
    }

    #[test]
    fn a_link_is_thought_slow_until_it_shows_what_it_can() {
        let mut pace = ten_asked();
        assert_eq!(pace.all(), 520 * MS);
        let now = answers(&mut pace, Duration::ZERO, 8, 7);
        assert_eq!(pace.all(), 70 * MS);
        assert_eq!(pace.answers_in(200 * MS), 28);
        // Ten of twenty are taken back.
        (0..10).for_each(|_| pace.asked(now));
        (0..10).for_each(|_| pace.settled());
        assert_eq!(pace.all(), 70 * MS);
    }

    #[test]
    fn few_answers_among_the_dead_do_not_make_it_slow_at_once_but_a_slower_link_does() {
        let mut pace = ten_asked();
        let now = answers(&mut pace, Duration::ZERO, 16, 1);
        let now = answers(&mut pace, now, 16, 50);
        assert!(pace.all() < 12 * MS, "{pace:?}");
        answers(&mut pace, now, 1000, 50);
        assert_eq!(pace.all(), 500 * MS);
    }

    #[test]
    fn time_without_a_question_is_not_counted_and_what_comes_at_once_is_no_pace() {
        let mut pace = Pace::new();
        for second in 0..8 {
            let asked = Duration::from_secs(second);
            pace.asked(asked);
            pace.answered(asked + 3 * MS);
        }
        assert_eq!(pace.answers_in(30 * MS), 10);
        let mut pace = ten_asked();
        answers(&mut pace, Duration::ZERO, 8, 0);
        assert_eq!(pace.answers_in(2 * MS), 8);
    }
}
