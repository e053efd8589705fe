//! What was measured: how many, how long each took, and what was wrong.

use std::time::Duration;

use anyhow::{Context, Result};
use hdrhistogram::Histogram;

/// Nanoseconds that are told apart: three digits of up to an hour.
const LONGEST_NS: u64 = 3_600_000_000_000;
const DIGITS: u8 = 3;

/// The most wrong places that are remembered.
const MOST_PLACES: usize = 10;

/// What was measured.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) reads: Times,
    pub(super) writes: Times,
    /// Reads and writes that failed.
    pub(super) errors: u64,
    /// Those that did not end.
    pub(super) unfinished: u64,
    /// How many reads brought something else than was written.
    pub(super) wrong: u64,
    /// Where, for the first of them.
    pub(super) wrong_at: Vec<u64>,
}

/// How long reads or writes took, those included that ended too late or not at all.
#[derive(Debug)]
pub(super) struct Times {
    pub(super) histogram: Histogram<u64>,
    /// How many of them ended while it was measured.
    pub(super) in_time: u64,
}

impl Times {
    fn new() -> Result<Self> {
        let histogram = Histogram::new_with_bounds(1, LONGEST_NS, DIGITS);
        Ok(Self {
            histogram: histogram.context("cannot make a histogram")?,
            in_time: 0,
        })
    }

    fn add(&mut self, other: &Self) -> Result<()> {
        let added = self.histogram.add(&other.histogram);
        added.context("cannot add histograms")?;
        self.in_time += other.in_time;
        Ok(())
    }
}

impl Tally {
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            reads: Times::new()?,
            writes: Times::new()?,
            errors: 0,
            unfinished: 0,
            wrong: 0,
            wrong_at: Vec::new(),
        })
    }

    /// Counts a read or write that ended, while it was measured or soon after.
    pub(super) fn count(&mut self, is_read: bool, took: Duration, in_time: bool) {
        let times = self.record(is_read, took);
        times.in_time += u64::from(in_time);
    }

    /// Counts a read or write that does not end, and how long it has not.
    pub(super) fn unfinished(&mut self, is_read: bool, age: Duration) {
        self.record(is_read, age);
        self.unfinished += 1;
    }

    fn record(&mut self, is_read: bool, took: Duration) -> &mut Times {
        let times = match is_read {
            true => &mut self.reads,
            false => &mut self.writes,
        };
        let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        times.histogram.saturating_record(ns);
        times
    }

    /// Counts a read of something wrong.
    pub(super) fn wrong(&mut self, at: u64) {
        self.wrong += 1;
        if self.wrong_at.len() < MOST_PLACES {
            self.wrong_at.push(at);
        }
    }

    /// Adds what another thread measured.
    pub(super) fn add(&mut self, other: &Self) -> Result<()> {
        self.reads.add(&other.reads)?;
        self.writes.add(&other.writes)?;
        self.errors += other.errors;
        self.unfinished += other.unfinished;
        self.wrong += other.wrong;
        self.wrong_at.extend(&other.wrong_at);
        self.wrong_at.truncate(MOST_PLACES);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Tally;

    #[test]
    fn what_two_threads_measured_is_added() {
        let (mut one, mut other) = (Tally::new().unwrap(), Tally::new().unwrap());
        for _ in 0..99 {
            one.count(true, Duration::from_micros(100), true);
        }
        other.count(true, Duration::from_millis(7), false);
        other.unfinished(false, Duration::MAX);
        other.wrong(512);
        one.add(&other).unwrap();
        let (reads, writes) = (&one.reads.histogram, &one.writes.histogram);
        assert_eq!((reads.len(), writes.len()), (100, 1));
        assert_eq!((one.reads.in_time, one.writes.in_time), (99, 0));
        assert_eq!((one.errors, one.unfinished), (0, 1));
        let near = |is: u64, should: u64| is.abs_diff(should) <= should / 100;
        assert!(near(reads.value_at_quantile(0.5), 100_000));
        assert!(near(reads.max(), 7_000_000));
        assert_eq!((one.wrong, &one.wrong_at[..]), (1, &[512][..]));
    }
}
