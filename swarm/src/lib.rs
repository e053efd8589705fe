//! Peers and the origin as one volume: who is asked for an extent, what is done when nobody answers, and how an answer is verified.
#![forbid(unsafe_code)]

pub mod fetch;
pub mod forest;
pub mod health;
pub mod manifest;
pub mod peer;
mod stats;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use vmthunder_volume::{Class, Error, Geometry, Result, Span, Volume};

use crate::forest::NodeName;
use crate::manifest::{ExtentHashes, Header};

pub use stats::{SourceStats, SwarmStats};

/// How answers are verified.
#[derive(Clone)]
pub enum Verify {
    /// Not at all: a foreign origin without a manifest. Peers are never asked then.
    Nothing,
    /// The volume is an image, and these are its hashes.
    Extents(Arc<dyn ExtentHashes>),
    /// The volume is the manifest of an image with this header.
    Pages(Arc<Header>),
}

/// The limits of a [`Swarm`].
#[derive(Clone, Debug)]
pub struct SwarmOptions {
    /// Requests under way at one peer; more are refused.
    pub peer_queue: NonZeroU32,
    /// Requests under way at the origin: the origin budget. A local demand waits in line, a peer's request is refused.
    pub origin_queue: NonZeroU32,
    /// How long a local request is tried.
    pub deadline: Duration,
}

impl Default for SwarmOptions {
    fn default() -> Self {
        Self {
            peer_queue: NonZeroU32::MIN.saturating_add(63),
            origin_queue: NonZeroU32::MIN.saturating_add(63),
            deadline: Duration::from_secs(20),
        }
    }
}

/// Peers `P` and the origin `O` of one image, or of one manifest, as one read-only volume.
#[derive(Debug)]
pub struct Swarm<O, P> {
    origin: O,
    geometry: Geometry,
    peers: std::marker::PhantomData<fn() -> P>,
}

impl<O: Volume, P: Volume> Swarm<O, P> {
    /// The swarm as node `me` sees it, with nobody but the origin in it yet.
    pub fn new(me: NodeName, origin: O, verify: Verify, options: SwarmOptions) -> Self {
        let _ = (me, options);
        let geometry = match verify {
            Verify::Nothing => origin.geometry(),
            Verify::Extents(hashes) => hashes.geometry(),
            Verify::Pages(header) => header.manifest_geometry(),
        };
        Self {
            origin,
            geometry,
            peers: std::marker::PhantomData,
        }
    }

    /// Replaces the view of the other nodes that are attached to the image.
    pub fn set_members(&self, members: Vec<(NodeName, P)>) {
        let _ = members;
    }

    /// What was counted so far.
    pub fn stats(&self) -> SwarmStats {
        SwarmStats::default()
    }
}

impl<O: Volume, P: Volume> Volume for Swarm<O, P> {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    async fn read(&self, span: Span, class: Class) -> Result<Bytes> {
        self.origin.read(span, class).await
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
