//! One image, seen through the store.

use std::sync::Arc;

use bytes::Bytes;
use vmthunder_volume::{Allocation, Class, Error, Extent, Geometry, Result, Span, Volume};

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
    below: V,
}

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
        Self {
            shared: Arc::new(Shared { store, key, below }),
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

    /// True if the store holds the extent.
    pub fn is_resident(&self, extent: Extent) -> bool {
        let _ = extent;
        false
    }

    /// Fetches the extent unless it is resident. For prefetch and fill: no bytes are read back from the store.
    pub async fn warm(&self, extent: Extent, class: Class) -> Result<()> {
        let span = self.geometry().extent_span(extent);
        self.read(span, class).await.map(drop)
    }

    /// Counters.
    pub fn stats(&self) -> CacheStats {
        CacheStats::default()
    }
}

impl<V: Volume> Volume for Cache<V> {
    fn geometry(&self) -> Geometry {
        self.shared.below.geometry()
    }

    async fn read(&self, span: Span, class: Class) -> Result<Bytes> {
        self.shared.below.read(span, class).await
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
        self.shared.below.allocation(span).await
    }
}
