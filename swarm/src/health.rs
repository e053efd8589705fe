//! What a node knows by its own experience about those it asks: who is dead, who is slow, who lied.
//!
//! Whoever is [absent](Health::is_absent) is left out when positions in the forest are counted. Hearsay never counts,
//! and nothing is for ever: an absent source is tried again with one request at a time, after waits that grow.
//! Time is an argument, counted from any fixed moment. Nothing here panics.

use std::collections::HashMap;
use std::time::Duration;

use crate::fetch::Source;
use crate::forest::NodeName;

/// The limits of [`Health`].
#[derive(Clone, Debug)]
pub struct HealthOptions {
    /// How long a source that failed is left alone for the first time; doubled each time it fails again.
    pub first_absence: Duration,
    /// How long it is left alone at most.
    pub longest_absence: Duration,
    /// How long a source that lied is left alone.
    pub quarantine: Duration,
    /// A source is slow when its rate is smaller than the sources' median divided by this.
    pub slow_divisor: u64,
}

impl Default for HealthOptions {
    fn default() -> Self {
        Self {
            first_absence: Duration::from_secs(1),
            longest_absence: Duration::from_secs(60),
            quarantine: Duration::from_secs(600),
            slow_divisor: 4,
        }
    }
}

/// What is known about all sources.
#[derive(Clone, Debug)]
pub struct Health {
    options: HealthOptions,
    records: HashMap<Source, Record>,
    /// How long answers take, from everybody, lately.
    typical: Duration,
    /// Kept apart from the records: mostly empty, and looked into for every node on the way to the origin.
    absences: HashMap<NodeName, Absence>,
}

/// What one source did so far.
#[derive(Clone, Debug, Default)]
struct Record {
    outstanding: u32,
    /// When something last came from it, or when it was asked after a pause.
    progress: Duration,
    /// Bytes that came, and how long they were waited for; both forgotten by halves.
    bytes: u64,
    waited: Duration,
    /// Answers since it was last absent.
    answers: u32,
    /// Requests that were overdue, less those that were not.
    overdue: u32,
    /// How often in a row it was made absent.
    strikes: u32,
    /// Refusals since the last answer, and when the first of them came.
    refusals: u32,
    refused_since: Duration,
}

/// A source that is left out.
#[derive(Clone, Copy, Debug)]
struct Absence {
    until: Duration,
    /// One request was let through since, to try it; answers to older ones prove nothing.
    tried: bool,
}

impl Health {
    /// Nothing is known yet.
    pub fn new(options: HealthOptions) -> Self {
        Self {
            options,
            typical: Duration::ZERO,
            records: HashMap::new(),
            absences: HashMap::new(),
        }
    }

    /// Forgets everybody who is not a member any more.
    pub fn retain(&mut self, is_member: impl Fn(&NodeName) -> bool) {
        self.records.retain(|source, _| match source {
            Source::Peer(node) => is_member(node),
            Source::Origin => true,
        });
        self.absences.retain(|node, _| is_member(node));
    }

    /// True if a source is to be left out now.
    pub fn is_absent(&self, now: Duration, node: &NodeName) -> bool {
        self.absences
            .get(node)
            .is_some_and(|absence| now < absence.until)
    }

    /// A request goes to a source. One that was absent is tried with this one request; others still leave it out.
    pub fn asked(&mut self, now: Duration, source: &Source) {
        let record = self.records.entry(source.clone()).or_default();
        if record.outstanding == 0 {
            record.progress = now;
        }
        record.outstanding += 1;
        if let Source::Peer(node) = source
            && let Some(absence) = self.absences.get_mut(node)
        {
            absence.until = absence.until.max(now + self.options.first_absence);
            absence.tried = true;
        }
    }

    /// A source answered a request of the moment `asked`, with so many bytes.
    pub fn answered(&mut self, now: Duration, asked: Duration, source: &Source, bytes: u64) {
        let took = now.saturating_sub(asked);
        let was_quick = took <= self.stretch(NEVER_SLOW);
        self.typical = (self.typical * 7 + took) / 8;
        let Some(record) = self.records.get_mut(source) else {
            return;
        };
        record.count(now, asked, bytes);
        record.overdue = record.overdue.saturating_sub(u32::from(was_quick));
        if record.answers >= FORGIVEN_ANSWERS {
            record.strikes = 0;
        }
        if was_quick {
            self.let_in(source);
        }
        if self.is_slow(source) {
            self.leave_out(now, source);
        }
    }

    /// A request takes four times longer than requests do lately; a source of which this is said again and again is slow.
    pub fn overdue(&mut self, now: Duration, source: &Source) {
        let Some(record) = self.records.get_mut(source) else {
            return;
        };
        record.overdue = record.overdue.saturating_add(1);
        if record.overdue >= MANY_OVERDUE {
            self.leave_out(now, source);
        }
    }

    /// A source refused: it is alive. One that does nothing but refuse is of no more use than a dead one.
    pub fn refused(&mut self, now: Duration, source: &Source) {
        let only_refuses = self.records.get_mut(source).is_some_and(|record| {
            record.settle();
            record.progress = now;
            record.only_refuses(now)
        });
        if only_refuses {
            self.leave_out(now, source);
        } else {
            self.let_in(source);
        }
    }

    /// The request was taken back, which says nothing about the source.
    pub fn dropped(&mut self, source: &Source) {
        if let Some(record) = self.records.get_mut(source) {
            record.settle();
        }
    }

    /// A source cannot be reached, fails, or does not serve the image.
    pub fn failed(&mut self, now: Duration, source: &Source) {
        self.dropped(source);
        self.leave_out(now, source);
    }

    /// A source answered with other content than it should.
    pub fn lied(&mut self, now: Duration, source: &Source) {
        self.dropped(source);
        if let Source::Peer(node) = source {
            let until = now + self.options.quarantine;
            self.absences.insert(
                node.clone(),
                Absence {
                    until,
                    tried: false,
                },
            );
        }
    }

    /// Stretches a time that is meant for a free network: to four times what answers take lately. Where this node's own
    /// link is the narrow place, everybody seems slow, and asking others would make it narrower.
    pub fn stretch(&self, time: Duration) -> Duration {
        time.max((self.typical * 4).min(LONGEST_STRETCH))
    }

    /// How much longer to wait for a source that a request was put to: silence is counted from the source's last
    /// progress with any request. `None` if it was silent for all of `patience`, [stretched](Self::stretch).
    pub fn patience_left(
        &self,
        now: Duration,
        source: &Source,
        patience: Duration,
    ) -> Option<Duration> {
        let record = self.records.get(source)?;
        let left = (record.progress + self.stretch(patience)).checked_sub(now);
        left.filter(|left| !left.is_zero())
    }

    /// A request to a source was given up. If the source was silent for all of `patience`, it is left out.
    pub fn gave_up(&mut self, now: Duration, source: &Source, patience: Duration) {
        let silent = self.patience_left(now, source, patience).is_none();
        self.dropped(source);
        if silent {
            self.leave_out(now, source);
        }
    }

    fn let_in(&mut self, source: &Source) {
        if let Source::Peer(node) = source
            && self.absences.get(node).is_some_and(|absence| absence.tried)
        {
            self.absences.remove(node);
        }
    }

    /// The origin is never left out: behind it there is nobody.
    fn leave_out(&mut self, now: Duration, source: &Source) {
        let Source::Peer(node) = source else { return };
        let record = self.records.entry(source.clone()).or_default();
        let doubled = self
            .options
            .first_absence
            .saturating_mul(1 << record.strikes.min(MAX_DOUBLINGS));
        record.strikes = record.strikes.saturating_add(1);
        (record.answers, record.overdue) = (0, 0);
        (record.bytes, record.waited) = (0, Duration::ZERO);
        let until = now + doubled.min(self.options.longest_absence);
        let absence = self.absences.entry(node.clone()).or_insert(Absence {
            until,
            tried: false,
        });
        absence.until = absence.until.max(until);
        absence.tried = false;
    }

    /// Compares a source with the median of all sources that are known well enough.
    fn is_slow(&self, source: &Source) -> bool {
        let Some(rate) = self.records.get(source).and_then(Record::rate) else {
            return false;
        };
        let mut rates: Vec<u64> = self.records.values().filter_map(Record::rate).collect();
        if rates.len() < KNOWN_SOURCES {
            return false;
        }
        let middle = rates.len() / 2;
        let (_, median, _) = rates.select_nth_unstable(middle);
        rate < *median / self.options.slow_divisor.max(1)
    }
}

impl Record {
    fn settle(&mut self) {
        self.outstanding = self.outstanding.saturating_sub(1);
    }

    /// Counts a refusal; true if there were many, for long, and no answer among them.
    fn only_refuses(&mut self, now: Duration) -> bool {
        if self.refusals == 0 {
            self.refused_since = now;
        }
        self.refusals = self.refusals.saturating_add(1);
        let long = now.saturating_sub(self.refused_since) >= LONG_REFUSED;
        long && self.refusals >= MANY_REFUSALS
    }

    fn count(&mut self, now: Duration, asked: Duration, bytes: u64) {
        self.settle();
        self.refusals = 0;
        self.waited += now.saturating_sub(asked);
        self.bytes += bytes;
        self.progress = now;
        self.answers = self.answers.saturating_add(1);
        if self.answers.is_multiple_of(RATE_MEMORY) {
            self.waited /= 2;
            self.bytes /= 2;
        }
    }

    /// Bytes per second of waiting, once enough is known. Requests that wait at the same time count each for itself:
    /// what comes from a source in a second depends on how much it is asked for, not on how quick it is.
    fn rate(&self) -> Option<u64> {
        let micros = u64::try_from(self.waited.as_micros()).unwrap_or(u64::MAX);
        (self.answers >= KNOWN_ANSWERS)
            .then(|| self.bytes.saturating_mul(1_000_000) / micros.max(1))
    }
}

/// Answers after which a source's rate is known.
const KNOWN_ANSWERS: u32 = 8;
/// Answers after which earlier failures are forgiven.
const FORGIVEN_ANSWERS: u32 = 64;
/// Sources without which there is no median.
const KNOWN_SOURCES: usize = 4;
/// Answers after which half of what was measured is forgotten.
const RATE_MEMORY: u32 = 32;
/// An answer that takes no longer is never slow.
const NEVER_SLOW: Duration = Duration::from_millis(50);
/// Refusals in a row, and for how long, that make a source useless. A full queue empties sooner.
const MANY_REFUSALS: u32 = 8;
const LONG_REFUSED: Duration = Duration::from_secs(2);
/// Overdue requests that make a source slow.
const MANY_OVERDUE: u32 = 3;
/// Patience is not stretched further than this.
const LONGEST_STRETCH: Duration = Duration::from_secs(4);
/// Doublings of an absence.
const MAX_DOUBLINGS: u32 = 16;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Health, HealthOptions};
    use crate::fetch::Source;
    use crate::forest::NodeName;

    const MS: Duration = Duration::from_millis(1);
    const EXTENT: u64 = 65_536;

    fn node(number: u32) -> Source {
        Source::Peer(NodeName::new(&format!("n{number}")).unwrap())
    }

    fn is_absent(health: &Health, now: Duration, source: &Source) -> bool {
        matches!(source, Source::Peer(node) if health.is_absent(now, node))
    }

    fn serve(health: &mut Health, at: Duration, node: &Source, took: Duration) {
        health.asked(at, node);
        health.answered(at + took, at, node, EXTENT);
    }

    #[test]
    fn a_dead_source_is_tried_again_by_one_request_after_growing_waits() {
        let (mut health, dead) = (Health::new(HealthOptions::default()), node(1));
        health.asked(Duration::ZERO, &dead);
        health.failed(10 * MS, &dead);
        assert!(is_absent(&health, 1009 * MS, &dead));
        assert!(!is_absent(&health, 1010 * MS, &dead));
        health.asked(1010 * MS, &dead);
        assert!(
            is_absent(&health, 1011 * MS, &dead),
            "one request tries it, the others do not"
        );
        health.failed(1020 * MS, &dead);
        assert!(
            is_absent(&health, 3019 * MS, &dead),
            "the second wait is longer"
        );
        serve(&mut health, 3020 * MS, &dead, MS);
        assert!(!is_absent(&health, 3022 * MS, &dead));
    }

    #[test]
    fn silence_is_no_progress_from_the_source_not_the_age_of_a_request() {
        let (mut health, source) = (Health::new(HealthOptions::default()), node(1));
        health.asked(Duration::ZERO, &source);
        serve(&mut health, 60 * MS, &source, 10 * MS);
        assert_eq!(
            health.patience_left(100 * MS, &source, 100 * MS),
            Some(70 * MS)
        );
        assert_eq!(health.patience_left(170 * MS, &source, 100 * MS), None);
        health.gave_up(170 * MS, &source, 100 * MS);
        assert!(is_absent(&health, 171 * MS, &source));
    }

    #[test]
    fn a_source_that_does_nothing_but_refuse_is_left_out() {
        let (mut health, source) = (Health::new(HealthOptions::default()), node(1));
        for moment in 0..20 {
            health.asked(100 * moment * MS, &source);
            health.refused((100 * moment + 1) * MS, &source);
            assert!(!is_absent(&health, (100 * moment + 1) * MS, &source));
        }
        health.asked(2001 * MS, &source);
        health.refused(2001 * MS, &source);
        assert!(
            is_absent(&health, 2002 * MS, &source),
            "two seconds of refusals"
        );

        health.asked(3100 * MS, &source);
        health.refused(3101 * MS, &source);
        assert!(
            is_absent(&health, 5000 * MS, &source),
            "tried again, it refuses again"
        );
        serve(&mut health, 5200 * MS, &source, MS);
        health.asked(5300 * MS, &source);
        health.refused(5301 * MS, &source);
        assert!(
            !is_absent(&health, 5302 * MS, &source),
            "it answers between refusals"
        );
    }

    #[test]
    fn a_liar_stays_away_although_an_older_request_is_answered() {
        let (mut health, liar) = (Health::new(HealthOptions::default()), node(1));
        health.asked(Duration::ZERO, &liar);
        health.asked(Duration::ZERO, &liar);
        health.lied(MS, &liar);
        health.answered(2 * MS, Duration::ZERO, &liar, EXTENT);
        assert!(is_absent(&health, 599 * 1000 * MS, &liar));
        assert!(!is_absent(&health, 601 * 1000 * MS, &liar));
    }

    #[test]
    fn a_source_slower_than_a_quarter_of_the_median_is_left_out() {
        let mut health = Health::new(HealthOptions::default());
        for round in 0..8 {
            let at = round * 100 * MS;
            for fast in 0..4 {
                serve(&mut health, at, &node(fast), 2 * MS);
            }
            serve(&mut health, at, &node(8), 7 * MS);
            serve(&mut health, at, &node(9), 9 * MS);
        }
        assert!(
            !is_absent(&health, 800 * MS, &node(8)),
            "less than four times slower"
        );
        assert!(is_absent(&health, 800 * MS, &node(9)));
        assert!(!is_absent(&health, 800 * MS, &node(0)));
    }
}
