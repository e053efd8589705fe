//! Peers and the origin as one volume: who is asked for an extent, what is done when nobody answers, and how an answer
//! is verified.
//!
//! [`Swarm`] is a read-only [`Volume`] that knows its content by hash. Where to ask is decided by [`forest`], what to do
//! about answers and silence by [`fetch`], whom to leave out by [`health`]; all three are pure, and a simulator drives
//! them too. What an answer must be is said by a [`manifest`]. [`peer`] reaches peers over iSCSI.
//!
//! Whole extents travel, and nothing is kept: put a cache above. Nothing here panics on what peers, origin or manifest
//! contain.
#![forbid(unsafe_code)]

mod ask;
pub mod fetch;
pub mod forest;
pub mod gate;
pub mod health;
pub mod manifest;
pub mod membership;
mod pace;
mod patient;
pub mod peer;
mod queue;
mod stats;
mod verify;
mod wrong;

use std::collections::HashMap;
use std::num::{NonZeroU32, NonZeroU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::Instant;
use tracing::{error, warn};
use vmthunder_volume::{
    Allocation, Class, EXTENT_BYTES, Error, Extent, Geometry, Result, Span, Volume,
};

use crate::fetch::{Action, End, Fetch, FetchOptions, HedgeBudget, Source, View};
use crate::forest::{Forest, NodeName};
use crate::health::{Health, HealthOptions};
use crate::queue::Queue;
use crate::stats::{Counters, SourceCounters};
use crate::verify::Expected;
use crate::wrong::{Change, Wrong};

pub use patient::{Backoff, Patient};
pub use queue::LONGEST_LINE;
pub use stats::{SourceStats, SwarmStats};
pub use verify::Verify;

/// The limits of a [`Swarm`].
#[derive(Clone, Debug)]
pub struct SwarmOptions {
    /// What the log calls the image.
    pub name: String,
    /// Requests under way at one peer; more are refused, here and at once.
    pub peer_queue: NonZeroU32,
    /// Requests under way at the origin. Local requests wait in line for a moment, guests' before others; a peer's
    /// request is refused at once.
    pub origin_queue: NonZeroU32,
    /// Bytes that are asked of the origin in a second; as many as it gives without a limit.
    pub origin_bytes_per_second: Option<NonZeroU64>,
    /// The patience of a fetch.
    pub fetch: FetchOptions,
    /// When a source is left out.
    pub health: HealthOptions,
}

impl Default for SwarmOptions {
    fn default() -> Self {
        Self {
            name: String::new(),
            peer_queue: NonZeroU32::MIN.saturating_add(127),
            origin_queue: NonZeroU32::MIN.saturating_add(63),
            origin_bytes_per_second: None,
            fetch: FetchOptions::default(),
            health: HealthOptions::default(),
        }
    }
}

/// Peers `P` and the origin `O` of one image, or of one manifest, as one read-only volume.
#[derive(Debug)]
pub struct Swarm<O, P> {
    me: NodeName,
    options: SwarmOptions,
    verify: Verify,
    geometry: Geometry,
    origin: Arc<Place<O>>,
    peers: RwLock<Arc<Peers<P>>>,
    judgement: Mutex<Judgement>,
    counters: Counters,
    wrong: Wrong,
    start: Instant,
}

/// A source, its queue and its counters.
#[derive(Debug)]
struct Place<V> {
    volume: V,
    queue: Arc<Queue>,
    counters: Arc<SourceCounters>,
    /// Whether the last that was heard is a failure: what changes is worth a line in the log, what stays is not.
    failing: Mutex<Option<Failing>>,
}

/// When a source began to fail, and when it did last.
#[derive(Clone, Copy, Debug)]
struct Failing {
    since: Duration,
    last: Duration,
}

/// One view of the other nodes.
#[derive(Debug)]
struct Peers<P> {
    forest: Forest,
    places: HashMap<NodeName, Arc<Place<P>>>,
}

/// What all fetches learn together.
#[derive(Debug)]
struct Judgement {
    health: Health,
    hedges: HedgeBudget,
}

impl<O: Volume, P: Volume> Swarm<O, P> {
    /// The swarm as node `me` sees it, with nobody but the origin in it yet.
    pub fn new(me: NodeName, origin: O, verify: Verify, options: SwarmOptions) -> Self {
        let judgement = Judgement {
            health: Health::new(options.health.clone()),
            hedges: HedgeBudget::default(),
        };
        Self {
            me,
            geometry: verify.geometry().unwrap_or_else(|| origin.geometry()),
            verify,
            origin: Arc::new(Place::new(
                origin,
                Queue::new(options.origin_queue, options.origin_bytes_per_second),
            )),
            peers: RwLock::new(Arc::new(Peers {
                forest: Forest::default(),
                places: HashMap::new(),
            })),
            judgement: Mutex::new(judgement),
            counters: Counters::default(),
            wrong: Wrong::default(),
            start: Instant::now(),
            options,
        }
    }

    /// Replaces the view of the nodes that are attached to the image; `me` may be among them. Queues and counters of
    /// those who stay are kept.
    pub fn set_members(&self, members: Vec<(NodeName, P)>) {
        let mut slot = self.peers.write().unwrap_or_else(PoisonError::into_inner);
        let mut places = HashMap::new();
        for (name, volume) in members.into_iter().filter(|(name, _)| *name != self.me) {
            let place = match slot.places.get(&name) {
                Some(old) => Place {
                    volume,
                    queue: old.queue.clone(),
                    counters: old.counters.clone(),
                    failing: Mutex::new(*old.failing()),
                },
                None => Place::new(volume, Queue::new(self.options.peer_queue, None)),
            };
            places.insert(name, Arc::new(place));
        }
        let mut names: Vec<NodeName> = places.keys().cloned().collect();
        names.push(self.me.clone());
        self.judge().health.retain(|node| places.contains_key(node));
        *slot = Arc::new(Peers {
            forest: Forest::new(&names),
            places,
        });
    }

    /// What was counted so far.
    pub fn stats(&self) -> SwarmStats {
        let (peers, now) = (self.peers(), self.now());
        let judgement = self.judge();
        let mut sources = vec![self.origin.counters.snapshot(Source::Origin, false)];
        for name in peers.forest.members() {
            if let Some(place) = peers.places.get(name) {
                let absent = judgement.health.is_absent(now, name);
                sources.push(place.counters.snapshot(Source::Peer(name.clone()), absent));
            }
        }
        let failing = *self.origin.failing();
        let lately = failing.filter(|failing| now.saturating_sub(failing.last) < LATELY);
        SwarmStats {
            origin_silent: lately.map(|failing| now.saturating_sub(failing.since)),
            origin_wrong: self.wrong.count(now),
            ..self.counters.snapshot(sources)
        }
    }

    /// Gets one whole extent, verified.
    async fn extent(&self, extent: Extent, class: Class) -> Result<Bytes> {
        if self.wrong.is_left_alone(self.now(), extent) {
            return Err(Error::Busy);
        }
        let span = self.geometry.extent_span(extent);
        let expected = self.verify.expected(extent, class).await?;
        if let Some(bytes) = expected.answer(usize::try_from(span.length()).unwrap_or_default()) {
            self.counters.known_extents.add(1);
            return Ok(bytes);
        }
        let mut fetch = Fetch::new(extent, class, self.options.fetch.clone());
        loop {
            match self.look(|view, _| fetch.next(view)) {
                Action::Ask(ask) => {
                    let question = ask::Question {
                        span,
                        class,
                        expected: &expected,
                    };
                    if let Some(bytes) = self.ask(&mut fetch, ask, question).await {
                        return Ok(bytes);
                    }
                }
                // Nobody can say that another answer would be the right one: what the origin's medium lost is lost.
                Action::End(End::OriginCorrupt) if !self.is_verified() => {
                    return Err(Error::Corrupt);
                }
                // What is done was returned above. An origin that has other content is no better than one that is away:
                // those who can wait do, and it may be mended.
                Action::End(End::Refused | End::Done | End::OriginCorrupt) => {
                    self.counters.refused.add(1);
                    return Err(Error::Busy);
                }
            }
        }
    }

    /// Shows the present view to a decision. Without hashes nobody is in it: a peer's answer could not be verified.
    fn look<T>(&self, decide: impl FnOnce(&View<'_>, &mut HedgeBudget) -> T) -> T {
        let (peers, now) = (self.peers(), self.now());
        let alone = Forest::default();
        let forest = if !self.is_verified() {
            &alone
        } else {
            &peers.forest
        };
        let mut judgement = self.judge();
        let Judgement { health, hedges } = &mut *judgement;
        let absent = health.absent(now);
        decide(
            &View {
                forest,
                me: &self.me,
                absent: &absent,
            },
            hedges,
        )
    }

    fn is_verified(&self) -> bool {
        !matches!(self.verify, Verify::Nothing)
    }

    /// The origin's answer was what the manifest says, or not.
    fn judge_origin(&self, extent: Extent, is_right: bool) {
        if !self.is_verified() {
            return;
        }
        let image = &self.options.name;
        match self.wrong.judge(self.now(), extent, is_right) {
            Change::Begins => error!(
                image, %extent,
                "the origin has other content than the image's manifest says: such reads wait, and are asked again, until \
                 it has the old content; `vmthunder status` counts them"
            ),
            Change::Ends => warn!(image, "the origin has the image's content again"),
            Change::None => {}
        }
    }

    fn peers(&self) -> Arc<Peers<P>> {
        self.peers
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn judge(&self) -> MutexGuard<'_, Judgement> {
        self.judgement
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }
}

impl<V> Place<V> {
    fn new(volume: V, queue: Queue) -> Self {
        Self {
            volume,
            queue: Arc::new(queue),
            counters: Arc::default(),
            failing: Mutex::default(),
        }
    }

    fn failing(&self) -> MutexGuard<'_, Option<Failing>> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<O: Volume, P: Volume> Volume for Swarm<O, P> {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    async fn read(&self, span: Span, class: Class) -> Result<Bytes> {
        self.geometry.check(span)?;
        let mut parts = span.by_extent();
        let Some((extent, part)) = parts.next() else {
            return Ok(Bytes::new());
        };
        let first = cut(&self.extent(extent, class).await?, part)?;
        if first.len() as u64 == span.length() {
            return Ok(first);
        }
        let mut whole = BytesMut::from(first);
        for (extent, part) in parts {
            whole.extend_from_slice(&cut(&self.extent(extent, class).await?, part)?);
        }
        Ok(whole.freeze())
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

    /// What the manifest says to be zeros is a hole; where nobody can tell now, nothing is.
    async fn allocation(&self, span: Span) -> Result<(Allocation, Span)> {
        self.geometry.check(span)?;
        let mut kind = None;
        let mut end = span.offset();
        for (extent, part) in span.by_extent().take(ALLOCATION_EXTENTS) {
            let expected = self.verify.expected(extent, Class::Fill).await;
            let this = match expected {
                Ok(Expected::Zero) => Allocation::Hole,
                _ => Allocation::Mapped,
            };
            if *kind.get_or_insert(this) != this {
                break;
            }
            end = part.end();
        }
        let run = Span::new(span.offset(), end - span.offset());
        Ok((kind.unwrap_or(Allocation::Mapped), run))
    }
}

/// A source that failed longer ago, and was not asked since, may be well.
const LATELY: Duration = Duration::from_secs(60);

/// The bytes of `part`, which lies in one extent, out of that extent.
fn cut(extent: &Bytes, part: Span) -> Result<Bytes> {
    let from = usize::try_from(part.offset() % EXTENT_BYTES).unwrap_or(usize::MAX);
    let to = from.saturating_add(usize::try_from(part.length()).unwrap_or(usize::MAX));
    if to > extent.len() {
        return Err(Error::Corrupt);
    }
    Ok(extent.slice(from..to))
}

/// The longest run whose kind is told at once, 64 MiB: whoever asks for more asks again.
const ALLOCATION_EXTENTS: usize = 1024;
