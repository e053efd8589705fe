//! Places for requests at one source.

use std::num::NonZeroU32;
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;
use vmthunder_volume::Class;

/// Places for requests at one source: shared ones, and a reserve for what is forwarded for peers, so that local work
/// can never lock peers out.
#[derive(Debug)]
pub(crate) struct Queue {
    shared: Semaphore,
    reserve: Semaphore,
}

impl Queue {
    pub(crate) fn new(places: NonZeroU32) -> Self {
        let places = usize::try_from(places.get()).unwrap_or(Semaphore::MAX_PERMITS);
        let reserve = places.div_ceil(4);
        // With a single place there would be none left to share.
        Self {
            shared: Semaphore::new((places - reserve).max(1)),
            reserve: Semaphore::new(reserve),
        }
    }

    /// A place at once, or none.
    pub(crate) fn try_take(&self, class: Class) -> Option<SemaphorePermit<'_>> {
        let reserved = if class == Class::Peer {
            self.reserve.try_acquire().ok()
        } else {
            None
        };
        reserved.or_else(|| self.shared.try_acquire().ok())
    }

    /// A place, waited for in line for a moment unless the request is forwarded for a peer: those never wait.
    pub(crate) async fn take(&self, class: Class) -> Option<SemaphorePermit<'_>> {
        if class == Class::Peer {
            return self.try_take(class);
        }
        timeout(LONGEST_LINE, self.shared.acquire())
            .await
            .ok()?
            .ok()
    }
}

/// How long a request stands in line. Peers that joined its flight stand there too, so it must not be long.
const LONGEST_LINE: Duration = Duration::from_secs(1);
