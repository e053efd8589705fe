//! An image as it is read: through the cache and the swarm, straight from its origin, or from this node's own disk, and
//! from one moment on another way.

use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use vmthunder_volume::{Allocation, Class, EXTENT_BYTES, Error, Geometry, Result, Span, Volume};

use crate::export::{Direct, Fetched};
use crate::local::{Ask, Local, LocalCopy};

/// A read-only volume whose source changes under whoever reads it. Every source has the same content, so that nobody
/// notices.
pub(crate) struct Switch {
    geometry: Geometry,
    sources: RwLock<Sources>,
}

/// Where one reader reads an image.
#[derive(Clone, Default)]
pub(crate) struct Sources {
    /// The copy on this node's disk, used as soon as it is complete.
    pub(crate) local: Option<Arc<Local>>,
    /// The image, if it is there: read before, and for what of the copy has rotted.
    pub(crate) image: Option<Arc<Course>>,
}

/// How a node reads an image, or the manifest of one, for all its readers.
pub(crate) struct Course {
    is_manifest: bool,
    /// The cache over peers and origin.
    pub(crate) fetched: Fetched,
    /// The origin by itself, verified.
    pub(crate) direct: Option<Direct>,
    now: RwLock<Now>,
}

/// How it is read at the moment.
#[derive(Clone, Default)]
pub(crate) struct Now {
    /// From this copy, as soon as it is complete.
    pub(crate) local: Option<Arc<Local>>,
    /// Past the cache and the peers.
    pub(crate) is_direct: bool,
}

impl Course {
    /// An image.
    pub(crate) fn image(fetched: Fetched, direct: Direct) -> Arc<Self> {
        Arc::new(Self {
            is_manifest: false,
            fetched,
            direct: Some(direct),
            now: RwLock::default(),
        })
    }

    /// The manifest of one.
    pub(crate) fn manifest(fetched: Fetched) -> Arc<Self> {
        Arc::new(Self {
            is_manifest: true,
            fetched,
            direct: None,
            now: RwLock::default(),
        })
    }

    /// Reads that begin from now on go there.
    pub(crate) fn set(&self, now: Now) {
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = now;
    }

    fn now(&self) -> Now {
        self.now
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Reads a span, but not from a copy.
    pub(crate) async fn fetch(&self, span: Span, class: Class) -> Result<Bytes> {
        match &self.direct {
            Some(direct) if self.now().is_direct => direct.read(span, class).await,
            _ => self.fetched.read(span, class).await,
        }
    }

    /// Reads a span for somebody who needs it once: what is cached from the cache, everything else past it, so that it
    /// pushes nothing out that guests read.
    pub(crate) async fn fetch_once(&self, span: Span, class: Class, ask: Ask) -> Result<Bytes> {
        if let Some(direct) = self.direct.as_ref().filter(|_| self.now().is_direct) {
            return direct.read(span, class).await;
        }
        let mut extents = span.by_extent();
        let is_here =
            ask == Ask::First && extents.all(|(extent, _)| self.fetched.is_resident(extent));
        match is_here {
            true => self.fetched.read(span, class).await,
            false => self.fetched.below().read(span, class).await,
        }
    }

    /// What is read of a copy.
    async fn read_copy(&self, copy: &LocalCopy, span: Span) -> Result<Bytes> {
        match self.is_manifest {
            true => copy.read_manifest(span).await,
            false => copy.read(span).await,
        }
    }
}

impl Switch {
    /// An image of this geometry.
    pub(crate) fn new(geometry: Geometry, sources: Sources) -> Self {
        Self {
            geometry,
            sources: RwLock::new(sources),
        }
    }

    /// Reads that begin from now on come from there.
    pub(crate) fn set(&self, sources: Sources) {
        *self.sources.write().unwrap_or_else(PoisonError::into_inner) = sources;
    }

    /// Where reads come from.
    pub(crate) fn sources(&self) -> Sources {
        self.sources
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// What of the copy is not what it should be comes from elsewhere once more, and is put right.
    async fn mend(
        &self,
        copy: &LocalCopy,
        image: Option<Arc<Course>>,
        span: Span,
        class: Class,
    ) -> Result<Bytes> {
        // As in any outage: it may come back.
        let image = image.ok_or(Error::Unavailable)?;
        if image.is_manifest {
            return image.fetch(span, class).await;
        }
        let whole = span.align_out(EXTENT_BYTES);
        let end = whole.end().min(self.geometry.bytes());
        let whole = Span::new(whole.offset(), end - whole.offset());
        let bytes = image.fetch(whole, class).await?;
        copy.mend(whole, &bytes).await;
        let narrow = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        let from = narrow(span.offset() - whole.offset());
        let to = from.saturating_add(narrow(span.length()));
        if to > bytes.len() {
            return Err(Error::Corrupt);
        }
        Ok(bytes.slice(from..to))
    }
}

impl Volume for Switch {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    async fn read(&self, span: Span, class: Class) -> Result<Bytes> {
        self.geometry.check(span)?;
        let Sources { local, image } = self.sources();
        let shared = || image.as_ref()?.now().local;
        let copy = local.and_then(|local| local.copy());
        let Some(copy) = copy.or_else(|| shared()?.copy()) else {
            let image = image.ok_or(Error::Unavailable)?;
            return image.fetch(span, class).await;
        };
        let read = match &image {
            Some(image) => image.read_copy(&copy, span).await,
            None => copy.read(span).await,
        };
        match read {
            Ok(bytes) => Ok(bytes),
            Err(_) => self.mend(&copy, image, span, class).await,
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

    async fn allocation(&self, span: Span) -> Result<(Allocation, Span)> {
        match self.sources().image {
            Some(image) => image.fetched.allocation(span).await,
            None => Ok((Allocation::Mapped, span)),
        }
    }
}
