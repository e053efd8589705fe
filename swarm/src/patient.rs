//! Waits for a guest, above the flights of a cache.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep};
use vmthunder_volume::{Allocation, Class, Error, Geometry, Result, Span, Volume};

use crate::fetch::Backoff;

/// A volume whose guests wait when the one below is busy, up to a deadline; everybody else is told so at once.
///
/// It stands between an instance and a cache over a [`Swarm`](crate::Swarm) with
/// [`Waiting::Outside`](crate::fetch::Waiting::Outside): what waits here holds no flight, and so no peer's request.
#[derive(Debug)]
pub struct Patient<V> {
    below: V,
    deadline: Duration,
    jitter: AtomicU64,
}

impl<V> Patient<V> {
    /// Lets guests wait so long for `below`.
    pub fn new(below: V, deadline: Duration) -> Self {
        let jitter = AtomicU64::new(getrandom::u64().unwrap_or_default());
        Self {
            below,
            deadline,
            jitter,
        }
    }

    /// The volume below.
    pub fn below(&self) -> &V {
        &self.below
    }

    /// A step of Weyl's sequence, which fills any range evenly.
    fn throw(&self) -> u64 {
        self.jitter
            .fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed)
    }
}

impl<V: Volume> Volume for Patient<V> {
    fn geometry(&self) -> Geometry {
        self.below.geometry()
    }

    async fn read(&self, span: Span, class: Class) -> Result<Bytes> {
        let begin = Instant::now();
        let mut backoff = Backoff::default();
        loop {
            match self.below.read(span, class).await {
                Err(Error::Busy) if class == Class::Demand => {}
                result => return result,
            }
            if begin.elapsed() >= self.deadline {
                return Err(Error::Unavailable);
            }
            sleep(backoff.next(self.throw())).await;
        }
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
