//! One image, seen through the store.
//!
//! A read that the page cache can answer is answered at once, in place if it is short. Otherwise every extent of the span is begun, up to
//! [`SPAN_EXTENTS`] at a time: read from the store on the pool, or joined to its flight. Fetches are tasks of their
//! own, so a reader who leaves takes nobody's bytes along.

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use blocking::unblock;
use bytes::{Bytes, BytesMut};
use tokio::sync::{Notify, oneshot};
use vmthunder_volume::{
    Allocation, Class, Error, Extent, Geometry, IN_PLACE_BYTES, Result, Span, Volume, join,
};

use crate::body::Found;
use crate::flight::{Flights, Join, Landing, Limits, Outcome, Ticket};
use crate::format::narrow;
use crate::map::Key;
use crate::plan::{Step, plan, within_extent};
use crate::stats::CacheCounters;
use crate::tend::Reading;
use crate::{CacheStats, ImageKey, Store};

/// A read-only volume over a slower one: what was read once comes from the store.
///
/// Cloning is cheap and clones share everything. Make one per image and node: fetches are joined within one.
#[derive(Debug)]
pub struct Cache<V> {
    shared: Arc<Shared<V>>,
}

#[derive(Debug)]
struct Shared<V> {
    store: Arc<Store>,
    key: ImageKey,
    /// The image's number in the store; without one the store is passed by.
    image: Option<u32>,
    below: V,
    flights: Mutex<Flights<Waiter>>,
    /// Told at each landing, for guests who found every flight taken.
    landed: Notify,
    counters: CacheCounters,
}

type Waiter = oneshot::Sender<Result<Bytes>>;

impl<V> Clone for Cache<V> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<V: Volume> Cache<V> {
    /// The image `key`, read from `below` where the store does not hold it.
    pub fn new(store: Arc<Store>, key: ImageKey, below: V) -> Self {
        Self::with_limits(store, key, below, Limits::default())
    }

    /// The same with other limits on what is under way.
    pub fn with_limits(store: Arc<Store>, key: ImageKey, below: V, limits: Limits) -> Self {
        let image = store.image(key);
        let flights = Mutex::new(Flights::new(limits));
        let landed = Notify::new();
        let counters = CacheCounters::default();
        Self {
            shared: Arc::new(Shared {
                store,
                key,
                image,
                below,
                flights,
                landed,
                counters,
            }),
        }
    }

    /// The image.
    pub fn key(&self) -> ImageKey {
        self.shared.key
    }

    /// The volume below.
    pub fn below(&self) -> &V {
        &self.shared.below
    }

    /// The store that holds the extents.
    pub fn store(&self) -> &Arc<Store> {
        &self.shared.store
    }

    /// True if the extent is held, or fetched and about to be.
    pub fn is_resident(&self, extent: Extent) -> bool {
        self.shared
            .slot_key(extent)
            .is_some_and(|key| self.shared.store.holds(key))
    }

    /// Fetches the extent unless it is resident. For prefetch and fill: no bytes are read back from the store.
    pub async fn warm(&self, extent: Extent, class: Class) -> Result<()> {
        if self.geometry().extent_span(extent).is_empty() {
            return Err(Error::OutOfRange);
        }
        if self.is_resident(extent) {
            return Ok(());
        }
        self.shared.fetch(extent, class).await.map(drop)
    }

    /// Counters.
    pub fn stats(&self) -> CacheStats {
        self.shared.counters.read()
    }
}

impl<V: Volume> Volume for Cache<V> {
    fn geometry(&self) -> Geometry {
        self.shared.below.geometry()
    }

    async fn read(&self, span: Span, class: Class) -> Result<Bytes> {
        let shared = &self.shared;
        self.geometry().check(span)?;
        // What a disk that hangs keeps waiting may fill the pool.
        let is_here = span.length() <= IN_PLACE_BYTES as u64 || shared.store.late.is_late();
        let found = match is_here {
            true => shared.read_in_place(span),
            false => {
                let shared = Arc::clone(shared);
                unblock(move || shared.read_in_place(span)).await
            }
        };
        if let Some(bytes) = found {
            return Ok(bytes);
        }
        let steps = plan(span, |extent| shared.residence(extent));
        let mut waiting = VecDeque::new();
        let mut ready = Vec::with_capacity(steps.len());
        for step in steps {
            if waiting.len() >= SPAN_EXTENTS {
                ready.extend(shared.finish(&mut waiting, class).await?);
            }
            waiting.push_back(shared.begin(step, class));
        }
        while !waiting.is_empty() {
            ready.extend(shared.finish(&mut waiting, class).await?);
        }
        Ok(join(ready))
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

    /// The image's own allocation: what happens to be cached is nobody's business.
    async fn allocation(&self, span: Span) -> Result<(Allocation, Span)> {
        self.shared.below.allocation(span).await
    }
}

/// Where the bytes of an extent are now.
#[derive(Debug)]
enum Residence {
    Slot(Found),
    Staged(Bytes),
}

/// A part of a span under way.
#[derive(Debug)]
struct Part {
    extent: Extent,
    part: Range<usize>,
    wait: Wait,
}

#[derive(Debug)]
enum Wait {
    Staged(Bytes),
    Store(Reading),
    Flight(oneshot::Receiver<Result<Bytes>>),
    Refused,
}

impl<V: Volume> Shared<V> {
    /// The whole span, if the page cache has all of it. Waits for nothing, but copies as long as the span is.
    fn read_in_place(&self, span: Span) -> Option<Bytes> {
        let mut bytes = BytesMut::zeroed(usize::try_from(span.length()).ok()?);
        let mut rest = bytes.as_mut();
        for (extent, part) in span.by_extent() {
            let found = self.store.find(self.slot_key(extent)?)?;
            let part = within_extent(part);
            let (into, behind) = rest.split_at_mut_checked(part.len())?;
            if !found.read_now(self.extent_length(extent), part.start as u64, into) {
                return None;
            }
            rest = behind;
        }
        count(&self.counters.hit_bytes, bytes.len());
        self.store.count_in_place();
        Some(bytes.freeze())
    }

    fn residence(&self, extent: Extent) -> Option<Residence> {
        let key = self.slot_key(extent)?;
        let slot = self.find_to_wait(key).map(Residence::Slot);
        slot.or_else(|| self.store.staged(key).map(Residence::Staged))
    }

    /// An extent that is held by a disk that answers.
    fn find_to_wait(&self, key: Key) -> Option<Found> {
        if self.store.late.is_late() {
            return None;
        }
        self.store.find(key)
    }

    fn begin(self: &Arc<Self>, step: Step<Residence>, class: Class) -> Part {
        let Step { extent, part, held } = step;
        let wait = match held {
            Some(Residence::Staged(bytes)) => Wait::Staged(bytes),
            Some(Residence::Slot(found)) => {
                let length = self.extent_length(extent);
                Wait::Store(Reading::begin(&self.store, found, length, part.clone()))
            }
            None => self.join(extent, class).map_or(Wait::Refused, Wait::Flight),
        };
        Part { extent, part, wait }
    }

    async fn finish(
        self: &Arc<Self>,
        waiting: &mut VecDeque<Part>,
        class: Class,
    ) -> Result<Option<Bytes>> {
        let Some(Part { extent, part, wait }) = waiting.pop_front() else {
            return Ok(None);
        };
        let hit = match wait {
            Wait::Staged(whole) => cut(&whole, &part),
            Wait::Store(reading) => reading.end().await,
            Wait::Flight(receiver) => return self.land_at(receiver, &part).await,
            Wait::Refused => None,
        };
        if hit.is_some() {
            count(&self.counters.hit_bytes, part.len());
            return Ok(hit);
        }
        let whole = self.fetch(extent, class).await?;
        count(&self.counters.miss_bytes, part.len());
        cut(&whole, &part).ok_or(Error::Corrupt).map(Some)
    }

    async fn land_at(
        &self,
        receiver: oneshot::Receiver<Result<Bytes>>,
        part: &Range<usize>,
    ) -> Result<Option<Bytes>> {
        let whole = receiver.await.map_err(|_| Error::Unavailable)??;
        count(&self.counters.miss_bytes, part.len());
        cut(&whole, part).ok_or(Error::Corrupt).map(Some)
    }

    /// The whole extent by its flight. A guest waits in line for a flight; everybody else is refused at the limit.
    async fn fetch(self: &Arc<Self>, extent: Extent, class: Class) -> Result<Bytes> {
        loop {
            let mut landed = std::pin::pin!(self.landed.notified());
            landed.as_mut().enable();
            if let Some(receiver) = self.join(extent, class) {
                return receiver.await.map_err(|_| Error::Unavailable)?;
            }
            if class != Class::Demand {
                return Err(Error::Busy);
            }
            landed.await;
        }
    }

    fn join(
        self: &Arc<Self>,
        extent: Extent,
        class: Class,
    ) -> Option<oneshot::Receiver<Result<Bytes>>> {
        let (sender, receiver) = oneshot::channel();
        let joined = self.lock().join(extent, class, sender);
        match joined {
            Join::Lead(ticket) => self.ask(extent, class, ticket),
            Join::Wait => count(&self.counters.joined, 1),
            Join::Refuse(_) => {
                count(&self.counters.refused, 1);
                return None;
            }
        }
        Some(receiver)
    }

    fn ask(self: &Arc<Self>, extent: Extent, class: Class, ticket: Ticket) {
        let mut attempt = Attempt {
            shared: Arc::clone(self),
            extent,
            ticket: Some(ticket),
        };
        tokio::spawn(async move {
            let result = attempt.shared.bring(extent, class).await;
            attempt.land(result);
        });
    }

    /// The whole extent, from the store if somebody was quicker, else from below.
    async fn bring(&self, extent: Extent, class: Class) -> Result<Bytes> {
        let length = self.extent_length(extent);
        let key = self.slot_key(extent);
        // In this order: an extent is in the store before it leaves the queue.
        if let Some(bytes) = key.and_then(|key| self.store.staged(key)) {
            return Ok(bytes);
        }
        if let Some(found) = key.and_then(|key| self.find_to_wait(key)) {
            let whole = Reading::begin(&self.store, found, length, 0..length as usize);
            if let Some(bytes) = whole.end().await {
                return Ok(bytes);
            }
        }
        count(&self.counters.flights, 1);
        let bytes = self
            .below
            .read(self.below.geometry().extent_span(extent), class)
            .await?;
        if bytes.len() != length as usize {
            return Err(Error::Corrupt);
        }
        if let Some(key) = key
            && !self.is_known_zeros(extent, &bytes).await
        {
            self.store.offer(key, bytes.clone());
        }
        Ok(bytes)
    }

    /// True for zeros that the volume below knows without asking anybody: a slot would be wasted on them.
    async fn is_known_zeros(&self, extent: Extent, bytes: &Bytes) -> bool {
        if bytes.iter().any(|byte| *byte != 0) {
            return false;
        }
        let span = self.below.geometry().extent_span(extent);
        matches!(
            self.below.allocation(span).await,
            Ok((Allocation::Hole, hole)) if hole == span
        )
    }

    fn land(self: &Arc<Self>, extent: Extent, ticket: Ticket, result: &Result<Bytes>) {
        let outcome = match result {
            Ok(_) => Outcome::Landed,
            Err(Error::Busy | Error::Unavailable) => Outcome::Refused,
            Err(_) => Outcome::Failed,
        };
        if outcome != Outcome::Landed {
            count(&self.counters.failed, 1);
        }
        let Landing { answered, lead } = self.lock().land(extent, ticket, outcome);
        for waiter in answered {
            // A waiter may have left; that is his right.
            waiter.send(result.clone()).ok();
        }
        self.landed.notify_waiters();
        if let Some((class, ticket)) = lead {
            self.ask(extent, class, ticket);
        }
    }

    fn slot_key(&self, extent: Extent) -> Option<Key> {
        Some(Key {
            image: self.image?,
            extent: narrow(extent)?,
        })
    }

    fn extent_length(&self, extent: Extent) -> u32 {
        u32::try_from(self.below.geometry().extent_span(extent).length()).unwrap_or(0)
    }

    fn lock(&self) -> MutexGuard<'_, Flights<Waiter>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An ask under way. It lands even if the volume below panics or the runtime ends: nobody waits for nothing.
struct Attempt<V: Volume> {
    shared: Arc<Shared<V>>,
    extent: Extent,
    ticket: Option<Ticket>,
}

impl<V: Volume> Attempt<V> {
    fn land(&mut self, result: Result<Bytes>) {
        if let Some(ticket) = self.ticket.take() {
            self.shared.land(self.extent, ticket, &result);
        }
    }
}

impl<V: Volume> Drop for Attempt<V> {
    fn drop(&mut self) {
        self.land(Err(Error::Unavailable));
    }
}

fn cut(whole: &Bytes, part: &Range<usize>) -> Option<Bytes> {
    (part.end <= whole.len()).then(|| whole.slice(part.clone()))
}

fn count(counter: &AtomicU64, by: usize) {
    counter.fetch_add(by as u64, Ordering::Relaxed);
}

/// How many extents of one span are under way at a time: 2 MiB.
const SPAN_EXTENTS: usize = 32;
