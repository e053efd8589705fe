//! An image as one reader sees it: through the cache and the swarm, or from this node's own disk, and from one moment
//! on the other way.

use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use vmthunder_volume::{Allocation, Class, EXTENT_BYTES, Error, Geometry, Result, Span, Volume};

use crate::export::Fetched;
use crate::local::{Local, LocalCopy};

/// A read-only volume whose source changes under whoever reads it. Every source has the same content, so that nobody
/// notices.
pub(crate) struct Switch {
    geometry: Geometry,
    sources: RwLock<Sources>,
}

/// Where an image is read from.
#[derive(Clone, Default)]
pub(crate) struct Sources {
    /// The copy on this node's disk, used as soon as it is complete.
    pub(crate) local: Option<Arc<Local>>,
    /// The cache over the swarm, if the image is there: used before, and for what of the copy has rotted.
    pub(crate) fetched: Option<Fetched>,
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
        fetched: Option<Fetched>,
        span: Span,
        class: Class,
    ) -> Result<Bytes> {
        // As in any outage: it may come back.
        let fetched = fetched.ok_or(Error::Unavailable)?;
        let whole = span.align_out(EXTENT_BYTES);
        let end = whole.end().min(self.geometry.bytes());
        let whole = Span::new(whole.offset(), end - whole.offset());
        let bytes = fetched.read(whole, class).await?;
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
        let Sources { local, fetched } = self.sources();
        let Some(copy) = local.and_then(|local| local.copy()) else {
            return fetched.ok_or(Error::Unavailable)?.read(span, class).await;
        };
        match copy.read(span).await {
            Ok(bytes) => Ok(bytes),
            Err(_) => self.mend(&copy, fetched, span, class).await,
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
        match self.sources().fetched {
            Some(fetched) => fetched.allocation(span).await,
            None => Ok((Allocation::Mapped, span)),
        }
    }
}
