//! The private writes of an instance over a read-only volume.

use std::path::Path;

use bytes::Bytes;
use vmthunder_volume::{Allocation, Class, Geometry, Result, Span, Volume};

use crate::ImageKey;

/// What a new overlay is made over and how large it is.
#[derive(Clone, Copy, Debug)]
pub struct OverlayOptions {
    /// The image below; it can only be opened over that one again.
    pub base: ImageKey,
    /// Size in bytes, not smaller than the base: the base's own size if `None`. Beyond the base it reads zeros.
    pub bytes: Option<u64>,
}

/// Why an overlay could not be made or opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OverlayError {
    /// There is one already.
    #[error("there is an overlay already")]
    Exists,
    /// It would be smaller than its base, or not a multiple of its block size.
    #[error("the size is smaller than the base or not a multiple of the block size")]
    Size,
    /// It was made over another image, or over one with other blocks.
    #[error("the overlay was made over another image")]
    OtherBase,
    /// The files are not an overlay, or damaged.
    #[error("the files are not an overlay, or damaged")]
    Damaged,
    /// It was written by another version.
    #[error("the overlay has format version {found}, which this program does not know")]
    Version {
        /// The version found.
        found: u32,
    },
    /// Another program has it open.
    #[error("the overlay is in use by another program")]
    InUse,
    /// The disk.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// A writable volume over a read-only base.
#[derive(Debug)]
pub struct Overlay<V> {
    base: V,
}

impl<V: Volume> Overlay<V> {
    /// Makes a new overlay in the directory `path`, which is made if it does not exist.
    pub async fn create(
        path: &Path,
        options: OverlayOptions,
        base: V,
    ) -> std::result::Result<Self, OverlayError> {
        let _ = (path, options);
        Ok(Self { base })
    }

    /// Opens the overlay in the directory `path` over the image `key`.
    pub async fn open(
        path: &Path,
        key: ImageKey,
        base: V,
    ) -> std::result::Result<Self, OverlayError> {
        let _ = (path, key);
        Ok(Self { base })
    }

    /// The volume below.
    pub fn base(&self) -> &V {
        &self.base
    }
}

impl<V: Volume> Volume for Overlay<V> {
    fn geometry(&self) -> Geometry {
        self.base.geometry()
    }

    async fn read(&self, span: Span, class: Class) -> Result<Bytes> {
        self.base.read(span, class).await
    }

    async fn write(&self, offset: u64, bytes: Bytes) -> Result<()> {
        self.base.write(offset, bytes).await
    }

    async fn flush(&self) -> Result<()> {
        Ok(())
    }

    async fn trim(&self, span: Span) -> Result<()> {
        self.base.trim(span).await
    }

    async fn allocation(&self, span: Span) -> Result<(Allocation, Span)> {
        self.base.allocation(span).await
    }
}
