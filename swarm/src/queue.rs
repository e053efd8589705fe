//! Places for requests at one source: a [`Gate`] and who waits at it.

use std::num::{NonZeroU32, NonZeroU64};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::select;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};
use vmthunder_volume::Class;

use crate::gate::{Entry, Gate, Place};

/// Places at one source.
#[derive(Debug)]
pub(crate) struct Queue {
    gate: Mutex<Gate<oneshot::Sender<Place>>>,
    start: Instant,
}

/// A place that is given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Permit<'a> {
    queue: &'a Queue,
    place: Option<Place>,
}

impl Queue {
    pub(crate) fn new(places: NonZeroU32, bytes_per_second: Option<NonZeroU64>) -> Self {
        Self {
            gate: Mutex::new(Gate::new(places, bytes_per_second)),
            start: Instant::now(),
        }
    }

    /// A place at once, or none.
    pub(crate) fn try_take(&self, class: Class, bytes: u64) -> Option<Permit<'_>> {
        let place = self.lock().try_enter(self.start.elapsed(), class, bytes)?;
        Some(self.permit(place))
    }

    /// A place, waited for in line for a moment unless the request is forwarded for a peer: those never wait.
    pub(crate) async fn take(&self, class: Class, bytes: u64) -> Option<Permit<'_>> {
        let (sender, receiver) = oneshot::channel();
        let entry = self
            .lock()
            .enter(self.start.elapsed(), class, bytes, sender);
        let number = match entry {
            Entry::Through(place) => return Some(self.permit(place)),
            Entry::InLine(number) => number,
            Entry::Refused(_) => return None,
        };
        let mut stander = Stander {
            queue: self,
            number,
            receiver,
        };
        let deadline = Instant::now() + LONGEST_LINE;
        loop {
            let opens = self.lock().opens_for_line();
            let wake = opens.map_or(deadline, |opens| deadline.min(self.start + opens));
            select! {
                biased;
                place = &mut stander.receiver => return place.ok().map(|place| self.permit(place)),
                () = sleep_until(wake) => {}
            }
            self.admit();
            // Whoever was let in just now has its place in the channel.
            if let Ok(place) = stander.receiver.try_recv() {
                return Some(self.permit(place));
            }
            if Instant::now() >= deadline {
                return None;
            }
        }
    }

    /// Lets in whom there is a place for.
    fn admit(&self) {
        let mut gate = self.lock();
        while let Some((waiter, place)) = gate.admit(self.start.elapsed()) {
            if let Err(place) = waiter.send(place) {
                gate.leave(place);
            }
        }
    }

    fn permit(&self, place: Place) -> Permit<'_> {
        Permit {
            queue: self,
            place: Some(place),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Gate<oneshot::Sender<Place>>> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            self.queue.lock().leave(place);
            self.queue.admit();
        }
    }
}

/// Somebody in line. When it goes it is taken out, or gives back the place that it was let in to meanwhile.
struct Stander<'a> {
    queue: &'a Queue,
    number: u64,
    receiver: oneshot::Receiver<Place>,
}

impl Drop for Stander<'_> {
    fn drop(&mut self) {
        if self.queue.lock().give_up(self.number).is_none()
            && let Ok(place) = self.receiver.try_recv()
        {
            drop(self.queue.permit(place));
        }
    }
}

/// How long a request stands in line. Peers that joined its flight stand there too, so it must not be long.
pub const LONGEST_LINE: Duration = Duration::from_secs(1);
