//! What this program serves over iSCSI: files, images through the cache, and instances over either.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use vmthunder_cache::Cache;
use vmthunder_cache::overlay::Overlay;
use vmthunder_swarm::peer::PeerVolume;
use vmthunder_swarm::{Patient, Swarm};
use vmthunder_volume::{Allocation, Class, Geometry, RawFile, Result, Span, Volume};

use crate::local::Local;
use crate::origin::LateVolume;
use crate::switch::{Course, Sources, Switch};

/// An image past the cache: from its origin and, if they are shown to it, peers.
pub(crate) type Direct = Swarm<LateVolume, PeerVolume>;

/// An image, or the manifest of one, fetched from peers and the origin and kept in the cache.
pub(crate) type Fetched = Cache<Direct>;

/// An image, or a copy of it here, for whoever may have to wait: a guest waits above the flights, so that it holds up no
/// peer, and above the switch, so that it need not wait any more once the copy is there.
pub(crate) type Cached = Patient<Switch>;

/// What an instance is laid over: read, never written.
#[derive(Clone)]
pub(crate) enum Base {
    /// A file here.
    File(Arc<RawFile>),
    /// An image of an origin.
    Cached(Arc<Cached>),
}

impl Base {
    /// An image, or from its copy if there is one, for whoever may wait so long for it.
    pub(crate) fn of(
        course: Arc<Course>,
        local: Option<Arc<Local>>,
        patience: Option<Duration>,
    ) -> Self {
        let geometry = course.fetched.geometry();
        let image = Some(course);
        let sources = Sources { local, image };
        Self::switched(Switch::new(geometry, sources), patience)
    }

    /// What comes from here or there, for whoever may wait so long for it.
    pub(crate) fn switched(switch: Switch, patience: Option<Duration>) -> Self {
        Self::Cached(Arc::new(Cached::new(switch, patience)))
    }

    /// How it is read, unless it is a file.
    pub(crate) fn course(&self) -> Option<Arc<Course>> {
        match self {
            Self::Cached(cached) => cached.below().sources().image,
            Self::File(_) => None,
        }
    }
}

/// A volume that a target of this program serves.
#[derive(Clone)]
pub(crate) enum Export {
    /// A file here, or an image, as it is.
    Base(Base),
    /// An instance.
    Instance(Arc<Overlay<Base>>),
}

/// Passes a call on to whichever volume it is.
macro_rules! each {
    ($self:ident, $type:ident { $($variant:ident),* }, $volume:ident => $call:expr) => {
        match $self { $($type::$variant($volume) => $call,)* }
    };
}

macro_rules! volume {
    ($type:ident { $($variant:ident),* }) => {
        impl Volume for $type {
            fn geometry(&self) -> Geometry {
                each!(self, $type { $($variant),* }, volume => volume.geometry())
            }

            async fn read(&self, span: Span, class: Class) -> Result<Bytes> {
                each!(self, $type { $($variant),* }, volume => volume.read(span, class).await)
            }

            async fn write(&self, offset: u64, bytes: Bytes) -> Result<()> {
                each!(self, $type { $($variant),* }, volume => volume.write(offset, bytes).await)
            }

            async fn flush(&self) -> Result<()> {
                each!(self, $type { $($variant),* }, volume => volume.flush().await)
            }

            async fn trim(&self, span: Span) -> Result<()> {
                each!(self, $type { $($variant),* }, volume => volume.trim(span).await)
            }

            async fn allocation(&self, span: Span) -> Result<(Allocation, Span)> {
                each!(self, $type { $($variant),* }, volume => volume.allocation(span).await)
            }
        }
    };
}

volume!(Base { File, Cached });
volume!(Export { Base, Instance });
