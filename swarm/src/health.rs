//! What a node knows by its own experience about those it asks: who is dead, who is slow, who lied.
//!
//! Whoever is [absent](Health::is_absent) is left out when positions in the forest are counted. Hearsay never counts,
//! and nothing is for ever: an absent source is tried again with one request at a time, after waits that grow.
//! Time is an argument, counted from any fixed moment. Nothing here panics.

use std::collections::HashMap;
use std::time::Duration;

use crate::fetch::{Ask, Source};
use crate::forest::NodeName;
use crate::pace::Pace;

/// The limits of [`Health`].
#[derive(Clone, Debug)]
pub struct HealthOptions {
    /// How long a source that failed, or does nothing but refuse, is left alone for the first time; doubled each time it
    /// fails again.
    pub first_absence: Duration,
    /// The same for one that was silent or late: to try it again costs not a round trip but all patience.
    pub after_silence: Duration,
    /// How long it is left alone at most.
    pub longest_absence: Duration,
    /// How long a source that lied is left alone.
    pub quarantine: Duration,
}

impl Default for HealthOptions {
    fn default() -> Self {
        Self {
            first_absence: Duration::from_secs(1),
            after_silence: Duration::from_secs(4),
            longest_absence: Duration::from_secs(60),
            quarantine: Duration::from_secs(600),
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
    pace: Pace,
    /// Kept apart from the records: mostly empty, and looked into for every node on the way to the origin.
    absences: HashMap<NodeName, Absence>,
}

/// What one source did so far.
#[derive(Clone, Debug, Default)]
struct Record {
    outstanding: u32,
    /// When something last came from it, or when it was asked after a pause.
    progress: Duration,
    /// Answers since it was last absent.
    answers: u32,
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
            pace: Pace::new(),
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

    /// Everybody who is to be left out now.
    pub fn absent(&self, now: Duration) -> Vec<NodeName> {
        let out = self
            .absences
            .iter()
            .filter(|(_, absence)| now < absence.until);
        out.map(|(node, _)| node.clone()).collect()
    }

    /// A request goes to a source. One that was absent is tried with this one request; others still leave it out.
    pub fn asked(&mut self, now: Duration, source: &Source) {
        self.pace.asked(now);
        let record = self.records.entry(source.clone()).or_default();
        if record.outstanding == 0 {
            record.progress = now;
        }
        record.outstanding += 1;
        if let Source::Peer(node) = source
            && let Some(absence) = self.absences.get_mut(node)
        {
            absence.until = absence.until.max(now + self.options.after_silence);
            absence.tried = true;
        }
    }

    /// A source answered a request of the moment `asked`.
    pub fn answered(&mut self, now: Duration, asked: Duration, source: &Source) {
        self.pace.answered(now);
        let took = now.saturating_sub(asked);
        let was_quick = took <= NEVER_SLOW.max(self.typical * 2);
        // A few that take very long are no reason to be patient with them.
        self.typical = (self.typical * 7 + took.min(self.typical * 2 + HARDLY_ANYTHING)) / 8;
        let Some(record) = self.records.get_mut(source) else {
            return;
        };
        record.count(now);
        if record.answers >= FORGIVEN_ANSWERS {
            record.strikes = 0;
        }
        if was_quick {
            self.let_in(source);
        }
    }

    /// A source refused: it is alive. One that does nothing but refuse is of no more use than a dead one.
    pub fn refused(&mut self, now: Duration, source: &Source) {
        self.pace.settled();
        let only_refuses = self.records.get_mut(source).is_some_and(|record| {
            record.settle();
            record.progress = now;
            record.only_refuses(now)
        });
        if only_refuses {
            self.leave_out(now, source, self.options.first_absence);
        } else {
            self.let_in(source);
        }
    }

    /// The request was taken back, which says nothing about the source.
    pub fn dropped(&mut self, source: &Source) {
        self.pace.settled();
        if let Some(record) = self.records.get_mut(source) {
            record.settle();
        }
    }

    /// A source cannot be reached, fails, or does not serve the image.
    pub fn failed(&mut self, now: Duration, source: &Source) {
        self.dropped(source);
        self.leave_out(now, source, self.options.first_absence);
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

    /// How many extents are best under way for what is read ahead, of so many at most: what keeps the link busy without
    /// a long queue in it, in which a guest's reads would wait too.
    pub fn ahead(&self, most: u32) -> u32 {
        let queue = self.pace.answers_in(BEST_QUEUE);
        queue.max(LEAST_AHEAD).min(most)
    }

    /// How much longer to wait before a second source may be asked; nothing is left when half of what makes an answer
    /// late is over.
    pub fn hedges_in(&self, now: Duration, asked: Duration, ask: &Ask) -> Duration {
        let half = asked + self.stretch(ask.late) / 2;
        half.saturating_sub(now).min(ask.late / 2)
    }

    /// Stretches a time that is meant for a free network: to twice what answers take lately, and by as much as three
    /// times what all that is under way takes is more than usual. Where this node's own link is the narrow place,
    /// everybody seems slow, and asking others would make it narrower.
    fn stretch(&self, time: Duration) -> Duration {
        let usual = USUAL.as_secs_f64();
        let queued = (self.pace.all() * 3).as_secs_f64() / usual;
        time.mul_f64(queued.clamp(1.0, MOST_STRETCH))
            .max((self.typical * 2).min(LONGEST_TYPICAL))
    }

    /// How much longer to wait for the answer to a request. `None`: no longer, and its source is left out. Either nothing
    /// came from it for all of the patience with anything, or this request takes far longer than others do.
    pub fn wait(&mut self, now: Duration, asked: Duration, ask: &Ask) -> Option<Duration> {
        let record = self.records.get(&ask.source)?;
        let silent = record.progress + self.stretch(ask.patience);
        let late = asked + self.stretch(ask.late);
        let until = match &ask.source {
            Source::Peer(node) if now < late || self.may_be_slow(now, node) => silent.min(late),
            // Behind the origin there is nobody who could be quicker.
            Source::Peer(_) | Source::Origin => silent,
        };
        let left = until.checked_sub(now).filter(|left| !left.is_zero());
        if left.is_none() {
            self.leave_out(now, &ask.source, self.options.after_silence);
        }
        // Patience may be shorter when more is known.
        left.map(|left| left.min(ask.late / 2))
    }

    /// True unless so many are left out already that the trouble is not theirs: it is here, or everywhere.
    fn may_be_slow(&self, now: Duration, node: &NodeName) -> bool {
        let out = |absence: &Absence| now < absence.until && !absence.tried;
        let is_out = self.absences.get(node).is_some_and(out);
        let others = self
            .absences
            .values()
            .filter(|absence| out(absence))
            .count();
        is_out || others < (self.records.len() / MOST_OUT).max(1)
    }

    fn let_in(&mut self, source: &Source) {
        if let Source::Peer(node) = source
            && self.absences.get(node).is_some_and(|absence| absence.tried)
        {
            self.absences.remove(node);
        }
    }

    /// The origin is never left out: behind it there is nobody.
    fn leave_out(&mut self, now: Duration, source: &Source, first: Duration) {
        let Source::Peer(node) = source else { return };
        let out = self.absences.get(node);
        if out.is_some_and(|absence| now < absence.until && !absence.tried) {
            // Several requests were under way: they fail together, and count once.
            return;
        }
        let record = self.records.entry(source.clone()).or_default();
        let doubled = first.saturating_mul(1 << record.strikes.min(MAX_DOUBLINGS));
        record.strikes = record.strikes.saturating_add(1);
        record.answers = 0;
        let until = now + doubled.min(self.options.longest_absence);
        self.absences.insert(
            node.clone(),
            Absence {
                until,
                tried: false,
            },
        );
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

    fn count(&mut self, now: Duration) {
        self.settle();
        self.refusals = 0;
        self.progress = now;
        self.answers = self.answers.saturating_add(1);
    }
}

/// Answers after which earlier failures are forgiven.
const FORGIVEN_ANSWERS: u32 = 64;
/// An answer that takes no longer is never slow.
const NEVER_SLOW: Duration = Duration::from_millis(50);
/// One in so many sources is left out for being late.
const MOST_OUT: usize = 4;
/// The time that answers take may double with every few of them, from here on.
const HARDLY_ANYTHING: Duration = Duration::from_millis(5);
/// Refusals in a row, and for how long, that make a source useless. A full queue empties sooner.
const MANY_REFUSALS: u32 = 8;
const LONG_REFUSED: Duration = Duration::from_secs(2);
/// What answers take does not stretch patience further than this.
const LONGEST_TYPICAL: Duration = Duration::from_secs(4);
/// What is under way stretches it from where three times that takes longer than this,
const USUAL: Duration = Duration::from_millis(250);
/// and not more than so many times.
const MOST_STRETCH: f64 = 40.0;
/// How long answers may queue for what is read ahead, and how many may at least: some for each node on the way.
const BEST_QUEUE: Duration = Duration::from_millis(200);
const LEAST_AHEAD: u32 = 16;
/// Doublings of an absence.
const MAX_DOUBLINGS: u32 = 16;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Health, HealthOptions};
    use crate::fetch::{Ask, Source};
    use crate::forest::NodeName;

    const MS: Duration = Duration::from_millis(1);

    fn node(number: u32) -> Source {
        Source::Peer(NodeName::new(&format!("n{number}")).unwrap())
    }

    fn is_absent(health: &Health, now: Duration, source: &Source) -> bool {
        matches!(source, Source::Peer(node) if health.is_absent(now, node))
    }

    fn serve(health: &mut Health, at: Duration, node: &Source, took: Duration) {
        health.asked(at, node);
        health.answered(at + took, at, node);
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

    fn ask(source: &Source) -> Ask {
        Ask {
            source: source.clone(),
            patience: 100 * MS,
            late: 200 * MS,
        }
    }

    #[test]
    fn silence_is_no_progress_from_the_source_not_the_age_of_a_request() {
        let (mut health, source) = (Health::new(HealthOptions::default()), node(1));
        health.asked(Duration::ZERO, &source);
        serve(&mut health, 60 * MS, &source, 10 * MS);
        let left = health.wait(100 * MS, Duration::ZERO, &ask(&source));
        assert_eq!(left, Some(70 * MS));
        assert!(!is_absent(&health, 100 * MS, &source));
        assert_eq!(health.wait(170 * MS, Duration::ZERO, &ask(&source)), None);
        assert!(
            is_absent(&health, 4169 * MS, &source),
            "to try it costs patience"
        );
        assert!(!is_absent(&health, 4170 * MS, &source));
    }

    #[test]
    fn a_request_that_takes_far_longer_than_others_is_given_up_but_not_at_the_origin() {
        for source in [node(1), Source::Origin] {
            let mut health = Health::new(HealthOptions::default());
            health.asked(Duration::ZERO, &source);
            for round in 0..20 {
                serve(&mut health, round * 10 * MS, &source, MS);
            }
            let left = health.wait(199 * MS, Duration::ZERO, &ask(&source));
            assert!(left.is_some_and(|left| left >= MS), "{left:?}");
            let left = health.wait(200 * MS, Duration::ZERO, &ask(&source));
            assert_eq!(left.is_none(), source != Source::Origin);
        }
    }

    #[test]
    fn when_a_quarter_is_out_already_lateness_is_nobodys_fault_but_silence_is() {
        let mut health = Health::new(HealthOptions::default());
        // The link is quick.
        (0..8).for_each(|_| serve(&mut health, Duration::ZERO, &node(8), MS));
        let late = |health: &mut Health, source: &Source| {
            health.asked(Duration::ZERO, source);
            serve(health, 150 * MS, source, 10 * MS);
            health
                .wait(220 * MS, Duration::ZERO, &ask(source))
                .is_none()
        };
        let judged: Vec<bool> = (0..8).map(|n| late(&mut health, &node(n))).collect();
        assert_eq!(judged.iter().filter(|out| **out).count(), 2, "{judged:?}");
        assert_eq!(health.wait(300 * MS, Duration::ZERO, &ask(&node(7))), None);
    }

    #[test]
    fn where_answers_take_long_patience_grows_but_not_by_single_ones() {
        let mut health = Health::new(HealthOptions::default());
        for round in 0..100 {
            serve(&mut health, round * MS, &node(1), 60 * MS);
        }
        assert!(health.stretch(MS) > 115 * MS);
        serve(&mut health, 200 * MS, &node(1), 60_000 * MS);
        assert!(health.stretch(MS) < 150 * MS);
    }

    #[test]
    fn what_is_under_way_on_a_slow_link_is_not_late_and_less_is_read_ahead() {
        let mut health = Health::new(HealthOptions::default());
        let (source, others) = (node(1), node(2));
        health.asked(Duration::ZERO, &source);
        let asked = |health: &mut Health| health.asked(Duration::ZERO, &others);
        (0..100).for_each(|_| asked(&mut health));
        assert_eq!(health.ahead(128), 16, "nothing is known yet");
        // An extent takes 20 ms: a hundred take two seconds, and what is asked last is the last to come.
        let mut now = Duration::ZERO;
        for _ in 0..100 {
            now += 20 * MS;
            health.answered(now, Duration::ZERO, &others);
            health.asked(now, &others);
            let left = health.wait(now, Duration::ZERO, &ask(&source));
            assert!(left.is_some(), "{now:?}");
        }
        assert_eq!(health.ahead(128), 16);
        for _ in 0..100 {
            now += MS;
            health.answered(now, now - 100 * MS, &others);
        }
        assert_eq!(health.ahead(128), 128);
        assert_eq!(health.wait(now, Duration::ZERO, &ask(&source)), None);
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
        health.answered(2 * MS, Duration::ZERO, &liar);
        assert!(is_absent(&health, 599 * 1000 * MS, &liar));
        assert!(!is_absent(&health, 601 * 1000 * MS, &liar));
    }
}
