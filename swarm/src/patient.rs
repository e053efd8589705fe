//! Waits for a guest, above the flights of a cache.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{sleep, timeout};
use vmthunder_volume::{Allocation, Class, Error, Geometry, Result, Span, Volume};

/// A volume whose guests wait when the one below is busy, up to a deadline; everybody else is told so at once.
///
/// It stands between an instance and a cache over a [`Swarm`](crate::Swarm): what waits here holds no flight, and so no
/// peer's request.
#[derive(Debug)]
pub struct Patient<V> {
    below: V,
    deadline: Duration,
}

impl<V> Patient<V> {
    /// Lets guests wait so long for `below`.
    pub fn new(below: V, deadline: Duration) -> Self {
        Self { below, deadline }
    }

    /// The volume below.
    pub fn below(&self) -> &V {
        &self.below
    }
}

impl<V: Volume> Volume for Patient<V> {
    fn geometry(&self) -> Geometry {
        self.below.geometry()
    }

    async fn read(&self, span: Span, class: Class) -> Result<Bytes> {
        if class != Class::Demand {
            return self.below.read(span, class).await;
        }
        let insist = async {
            let mut backoff = Backoff::default();
            loop {
                match self.below.read(span, class).await {
                    Err(Error::Busy) => {
                        sleep(backoff.next(getrandom::u64().unwrap_or_default())).await;
                    }
                    result => return result,
                }
            }
        };
        timeout(self.deadline, insist)
            .await
            .unwrap_or(Err(Error::Unavailable))
    }

    async fn write(&self, offset: u64, bytes: Bytes) -> Result<()> {
        self.below.write(offset, bytes).await
    }

    async fn flush(&self) -> Result<()> {
        self.below.flush().await
    }

    async fn trim(&self, span: Span) -> Result<()> {
        self.below.trim(span).await
    }

    async fn allocation(&self, span: Span) -> Result<(Allocation, Span)> {
        self.below.allocation(span).await
    }
}

/// How long somebody waits who was refused: twice as long each time, up to a limit.
#[derive(Clone, Copy, Debug, Default, Hash)]
pub struct Backoff {
    refusals: u32,
}

impl Backoff {
    /// The next wait. `jitter` is any number, best a random one: between a half and one and a half of the time that is
    /// meant, so that those refused together do not come back together.
    pub fn next(&mut self, jitter: u64) -> Duration {
        let doubled = FIRST_WAIT.saturating_mul(1 << self.refusals.min(MAX_DOUBLINGS));
        self.refusals = self.refusals.saturating_add(1);
        let wait = doubled.min(LONGEST_WAIT);
        let nanos = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX).max(1);
        wait / 2 + Duration::from_nanos(jitter % nanos)
    }
}

/// The first wait of somebody who was refused.
const FIRST_WAIT: Duration = Duration::from_millis(2);
/// The longest one: a fraction of what a guest notices, and some hundred times what a question costs.
const LONGEST_WAIT: Duration = Duration::from_millis(50);
/// Doublings of a wait.
const MAX_DOUBLINGS: u32 = 16;

#[cfg(test)]
mod tests {
    use super::Backoff;

    #[test]
    fn who_is_refused_comes_back_later_and_later_with_jitter() {
        let mut backoff = Backoff::default();
        let waits = [0, 1_999_999, 0, 0, 0, 0, 0].map(|jitter| backoff.next(jitter).as_micros());
        assert_eq!(waits, [1000, 3999, 4000, 8000, 16000, 25000, 25000]);
    }
}
