//! The hashes of an image's extents, under one root that names the image.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use vmthunder_volume::{Class, Error, Extent, Geometry, Volume};

/// Hashes in a page of a manifest; a page fills one extent of the manifest's file.
pub const HASHES_PER_PAGE: u64 = 2048;

/// BLAKE3 of a manifest's header: the identity of an image.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Root(pub [u8; 32]);

impl Root {
    /// The NAA designator of the image's logical units (type 3, locally assigned).
    pub fn image_designator(&self) -> [u8; 8] {
        [0x30; 8]
    }

    /// The NAA designator of the logical units that hold the image's manifest.
    pub fn manifest_designator(&self) -> [u8; 8] {
        [0x31; 8]
    }
}

impl fmt::Display for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a manifest is refused.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ManifestError {
    /// It does not begin like a manifest.
    #[error("this is no manifest")]
    Magic,
    /// It is of a version that is not known here.
    #[error("manifests of version {0} are not known here")]
    Version(u32),
    /// It ends early.
    #[error("the manifest ends early")]
    Short,
    /// Its numbers contradict each other, or pass a limit.
    #[error("the manifest contradicts itself")]
    Contradiction,
    /// It is not the manifest that was asked for, or it was damaged.
    #[error("the manifest is not what its hash says")]
    Corrupt,
    /// Its volume could not be read or written.
    #[error(transparent)]
    Volume(#[from] Error),
}

/// A header that was parsed but not compared with a hash yet.
#[derive(Clone, Debug)]
pub struct UnverifiedHeader(Header);

impl UnverifiedHeader {
    /// Parses a header with all limits; `bytes` may go on behind it.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        let _ = bytes;
        Err(ManifestError::Magic)
    }

    /// The header, if it is the one of this root.
    pub fn verify(self, root: &Root) -> Result<Header, ManifestError> {
        if self.0.root() == *root {
            Ok(self.0)
        } else {
            Err(ManifestError::Corrupt)
        }
    }

    /// The header, if it was not damaged. Any image may be behind it.
    pub fn verify_checksum(self) -> Result<Header, ManifestError> {
        Ok(self.0)
    }
}

/// What a manifest says about its image: the geometry and the hash of each page.
#[derive(Clone, Debug)]
pub struct Header {
    root: Root,
    image: Geometry,
}

impl Header {
    /// Reads the header of the manifest that `volume` holds; `root` is what it must be, if that is known.
    pub async fn read<V: Volume>(volume: &V, root: Option<&Root>) -> Result<Self, ManifestError> {
        let _ = (volume, root);
        Err(ManifestError::Magic)
    }

    /// The identity of the image.
    pub fn root(&self) -> Root {
        self.root
    }

    /// The image's geometry.
    pub fn image_geometry(&self) -> Geometry {
        self.image
    }

    /// The geometry of the manifest itself as a volume.
    pub fn manifest_geometry(&self) -> Geometry {
        manifest_geometry(self.image)
    }
}

/// The geometry of the manifest of an image of this geometry: a volume of whole extents.
pub fn manifest_geometry(image: Geometry) -> Geometry {
    image
}

/// How far [`build`] has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of the image that are dealt with.
    pub done: u64,
    /// Bytes among them that read as zero.
    pub zero: u64,
    /// Bytes of the image.
    pub total: u64,
}

/// Reads an image once and writes its manifest to `out`, which has [`manifest_geometry`] or is larger.
pub async fn build<V: Volume, W: Volume>(
    image: Arc<V>,
    out: &W,
    progress: impl FnMut(Progress) + Send,
) -> Result<Header, ManifestError> {
    let _ = (image, out, progress);
    Err(ManifestError::Magic)
}

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
    fn hash_of(&self, extent: Extent, class: Class) -> BoxFuture<'_, Result<ExtentHash, Error>>;
}

/// The hashes of an image, read page by page from the manifest in `V`; a few pages stay in memory.
#[derive(Debug)]
pub struct Hashes<V> {
    header: Arc<Header>,
    manifest: V,
}

impl<V: Volume> Hashes<V> {
    /// Pages that stay in memory unless told otherwise: 4 MiB, for 8 GiB of the image.
    pub const DEFAULT_PAGES: usize = 64;

    /// The hashes under `header`, whose pages `manifest` holds; at most `pages` of them stay in memory.
    pub fn new(header: Arc<Header>, manifest: V, pages: usize) -> Self {
        let _ = pages;
        Self { header, manifest }
    }

    /// The header.
    pub fn header(&self) -> &Arc<Header> {
        &self.header
    }
}

impl<V: Volume> ExtentHashes for Hashes<V> {
    fn geometry(&self) -> Geometry {
        self.header.image_geometry()
    }

    fn hash_of(&self, extent: Extent, class: Class) -> BoxFuture<'_, Result<ExtentHash, Error>> {
        let _ = (extent, class, &self.manifest);
        Box::pin(std::future::ready(Err(Error::Unsupported)))
    }
}
