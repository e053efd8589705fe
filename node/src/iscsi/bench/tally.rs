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
    pub(super) reads: Histogram<u64>,
    pub(super) writes: Histogram<u64>,
    /// How many reads brought something else than was written.
    pub(super) wrong: u64,
    /// Where, for the first of them.
    pub(super) wrong_at: Vec<u64>,
}

impl Tally {
    pub(super) fn new() -> Result<Self> {
        let histogram =
            || Histogram::new_with_bounds(1, LONGEST_NS, DIGITS).context("cannot make a histogram");
        Ok(Self {
            reads: histogram()?,
            writes: histogram()?,
            wrong: 0,
            wrong_at: Vec::new(),
        })
    }

    /// Counts a read or write.
    pub(super) fn count(&mut self, is_read: bool, took: Duration) {
        let histogram = match is_read {
            true => &mut self.reads,
            false => &mut self.writes,
        };
        histogram.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
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
        let mix = "cannot add histograms";
        self.reads.add(&other.reads).context(mix)?;
        self.writes.add(&other.writes).context(mix)?;
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
            one.count(true, Duration::from_micros(100));
        }
        other.count(true, Duration::from_millis(7));
        other.count(false, Duration::MAX);
        other.wrong(512);
        one.add(&other).unwrap();
        assert_eq!((one.reads.len(), one.writes.len()), (100, 1));
        let near = |is: u64, should: u64| is.abs_diff(should) <= should / 100;
        assert!(near(one.reads.value_at_quantile(0.5), 100_000));
        assert!(near(one.reads.max(), 7_000_000));
        assert_eq!((one.wrong, &one.wrong_at[..]), (1, &[512][..]));
    }
}
