//! The hashes of an image's extents, a page at a time.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use vmthunder_volume::{Class, Error, Extent, Geometry, Result, Volume};

use super::{HASHES_PER_PAGE, Header};

/// What an extent must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtentHash {
    /// All zeros: never transferred.
    Zero,
    /// Content with this BLAKE3.
    Blake3([u8; 32]),
}

/// A future in a box.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Whoever knows the hashes of an image's extents.
pub trait ExtentHashes: Send + Sync + 'static {
    /// The image's geometry.
    fn geometry(&self) -> Geometry;

    /// What an extent must be.
    fn hash_of(&self, extent: Extent, class: Class) -> BoxFuture<'_, Result<ExtentHash>>;
}

/// The hashes of an image, read page by page from the manifest in `V`; a few pages stay in memory.
pub struct Hashes<V> {
    header: Arc<Header>,
    manifest: V,
    limit: usize,
    /// The page used last stands in front.
    pages: Mutex<VecDeque<(u64, Bytes)>>,
}

impl<V: Volume> Hashes<V> {
    /// Pages that stay in memory unless told otherwise: 4 MiB, for 8 GiB of the image.
    pub const DEFAULT_PAGES: usize = 64;

    /// The hashes under `header`, whose pages `manifest` holds; at most `pages` of them stay in memory.
    pub fn new(header: Arc<Header>, manifest: V, pages: usize) -> Self {
        Self {
            header,
            manifest,
            limit: pages.max(1),
            pages: Mutex::default(),
        }
    }

    /// The header.
    pub fn header(&self) -> &Arc<Header> {
        &self.header
    }

    /// The volume with the pages.
    pub fn manifest(&self) -> &V {
        &self.manifest
    }

    async fn hash(&self, extent: Extent, class: Class) -> Result<ExtentHash> {
        if extent.0 >= self.header.image_geometry().extents() {
            return Err(Error::OutOfRange);
        }
        let page = self.page(extent.0 / HASHES_PER_PAGE, class).await?;
        let index = usize::try_from(extent.0 % HASHES_PER_PAGE).unwrap_or(usize::MAX);
        match page.as_chunks::<32>().0.get(index) {
            None => Err(Error::Corrupt),
            Some(hash) if *hash == [0; 32] => Ok(ExtentHash::Zero),
            Some(hash) => Ok(ExtentHash::Blake3(*hash)),
        }
    }

    async fn page(&self, page: u64, class: Class) -> Result<Bytes> {
        if let Some(bytes) = self.remembered(page) {
            return Ok(bytes);
        }
        let span = self
            .header
            .manifest_geometry()
            .extent_span(self.header.page_extent(page));
        let bytes = self.manifest.read(span, class).await?;
        if self
            .header
            .page_hash(page)
            .is_none_or(|hash| blake3::hash(&bytes).as_bytes() != hash)
        {
            return Err(Error::Corrupt);
        }
        let mut pages = self.lock();
        if pages.iter().all(|(number, _)| *number != page) {
            pages.push_front((page, bytes.clone()));
            pages.truncate(self.limit);
        }
        Ok(bytes)
    }

    fn remembered(&self, page: u64) -> Option<Bytes> {
        let mut pages = self.lock();
        let at = pages.iter().position(|(number, _)| *number == page)?;
        let entry = pages.remove(at)?;
        let bytes = entry.1.clone();
        pages.push_front(entry);
        Some(bytes)
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(u64, Bytes)>> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<V: Volume> ExtentHashes for Hashes<V> {
    fn geometry(&self) -> Geometry {
        self.header.image_geometry()
    }

    fn hash_of(&self, extent: Extent, class: Class) -> BoxFuture<'_, Result<ExtentHash>> {
        Box::pin(self.hash(extent, class))
    }
}

impl<V> fmt::Debug for Hashes<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hashes")
            .field("root", &self.header.root())
            .finish_non_exhaustive()
    }
}
