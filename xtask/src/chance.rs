//! Numbers that a seed repeats.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// SplitMix64 (Steele, Lea and Flood, 2014).
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    /// The seed that was asked for, or one of the clock's.
    pub(crate) fn seed(asked: Option<u64>) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        asked.unwrap_or_else(|| now.map_or(1, |now| now.as_secs() ^ u64::from(now.subsec_nanos())))
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (word ^ (word >> 31)) % end.max(1)
    }

    pub(crate) fn millis(&mut self, from: u64, end: u64) -> Duration {
        Duration::from_millis(from + self.below(end - from))
    }
}
