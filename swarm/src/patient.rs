//! Waits for a guest, above the flights of a cache.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{sleep, timeout};
use vmthunder_volume::{Allocation, Class, Error, Geometry, Result, Span, Volume};

/// A volume whose guests wait while nobody below answers, for ever or up to a deadline; everybody else is told so at
/// once.
///
/// It stands between an instance and a cache over a [`Swarm`](crate::Swarm): what waits here holds no flight, and so no
/// peer's request. A guest that gives a read up costs nothing but that; when it asks again it joins the flight that is
/// under way. A read whose deadline passes fails with HARDWARE ERROR, LOGICAL UNIT COMMUNICATION FAILURE (4/08/00),
/// which initiators hand to whoever asked instead of asking again by themselves.
#[derive(Debug)]
pub struct Patient<V> {
    below: V,
    deadline: Mutex<Option<Duration>>,
}

impl<V> Patient<V> {
    /// Lets guests wait so long for `below`, for ever without a deadline.
    pub fn new(below: V, deadline: Option<Duration>) -> Self {
        let deadline = Mutex::new(deadline);
        Self { below, deadline }
    }

    /// Lets guests wait so long from the next read on.
    pub fn set_deadline(&self, deadline: Option<Duration>) {
        *self.deadline.lock().unwrap_or_else(PoisonError::into_inner) = deadline;
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
                    Err(Error::Busy | Error::Unavailable) => {
                        sleep(backoff.next(getrandom::u64().unwrap_or_default())).await;
                    }
                    result => return result,
                }
            }
        };
        let deadline = *self.deadline.lock().unwrap_or_else(PoisonError::into_inner);
        match deadline {
            Some(deadline) => timeout(deadline, insist)
                .await
                .unwrap_or_else(|_| Err(GAVE_UP)),
            None => insist.await,
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

/// What a guest is told when its deadline has passed.
const GAVE_UP: Error = Error::Device {
    key: 0x4,
    asc: 0x08,
    ascq: 0x00,
};
/// The first wait of somebody who was refused.
const FIRST_WAIT: Duration = Duration::from_millis(2);
/// The longest one: a fraction of what a guest notices, and some hundred times what a question costs.
const LONGEST_WAIT: Duration = Duration::from_millis(50);
/// Doublings of a wait.
const MAX_DOUBLINGS: u32 = 16;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use bytes::Bytes;
    use tokio::time::Instant;
    use vmthunder_volume::{BlockSize, Class, Error, Geometry, Result, Span, Volume};

    use super::{Backoff, Patient};

    fn span() -> Span {
        Span::new(0, 512)
    }

    /// Nobody answers until somebody says so.
    #[derive(Debug, Default)]
    struct Away(AtomicBool);

    impl Volume for Away {
        fn geometry(&self) -> Geometry {
            Geometry::of_bytes(BlockSize::B512, 512)
        }

        async fn read(&self, _span: Span, class: Class) -> Result<Bytes> {
            match self.0.load(Ordering::Relaxed) {
                true => Ok(Bytes::from(vec![7; 512])),
                false if class == Class::Peer => Err(Error::Unavailable),
                false => Err(Error::Busy),
            }
        }

        async fn write(&self, _offset: u64, _bytes: Bytes) -> Result<()> {
            Err(Error::ReadOnly)
        }

        async fn flush(&self) -> Result<()> {
            Ok(())
        }

        async fn trim(&self, _span: Span) -> Result<()> {
            Err(Error::ReadOnly)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_deadline_a_guest_waits_for_hours_and_then_reads() {
        let patient = Patient::new(Away::default(), None);
        let hours = Duration::from_secs(5 * 3600);
        let back = async {
            tokio::time::sleep(hours).await;
            patient.below().0.store(true, Ordering::Relaxed);
        };
        let (read, ()) = tokio::join!(patient.read(span(), Class::Demand), back);
        assert_eq!(read.unwrap(), vec![7; 512]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_ends_the_wait_with_a_failure_that_is_not_asked_again() {
        let patient = Patient::new(Away::default(), None);
        patient.set_deadline(Some(Duration::from_secs(30)));
        let began = Instant::now();
        let read = patient.read(span(), Class::Demand).await;
        assert_eq!(began.elapsed().as_secs(), 30);
        let told = matches!(
            read,
            Err(Error::Device {
                key: 4,
                asc: 8,
                ascq: 0
            })
        );
        assert!(told, "{read:?}");
        let peer = patient.read(span(), Class::Peer).await;
        assert!(matches!(peer, Err(Error::Unavailable)), "{peer:?}");
    }

    #[test]
    fn who_is_refused_comes_back_later_and_later_with_jitter() {
        let mut backoff = Backoff::default();
        let waits = [0, 1_999_999, 0, 0, 0, 0, 0].map(|jitter| backoff.next(jitter).as_micros());
        assert_eq!(waits, [1000, 3999, 4000, 8000, 16000, 25000, 25000]);
    }
}
