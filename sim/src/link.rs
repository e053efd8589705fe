//! A link that carries one extent after the other.

use std::time::Duration;

use vmthunder_volume::EXTENT_BYTES;

/// One direction of a link.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    per_extent: Duration,
    free_at: Duration,
}

impl Link {
    pub(crate) fn new(rate: u64) -> Self {
        let per_extent = Duration::from_nanos(EXTENT_BYTES * 1_000_000_000 / rate.max(1));
        Self {
            per_extent,
            free_at: Duration::ZERO,
        }
    }

    /// Carries an extent that is there `from` on; answers when it has passed.
    pub(crate) fn carry(&mut self, from: Duration) -> Duration {
        self.free_at = self.free_at.max(from) + self.per_extent;
        self.free_at
    }
}
