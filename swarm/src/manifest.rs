//! The hashes of an image's extents, under one root that names the image.
//!
//! A manifest is a volume of whole extents: a header, padded with zeros, then pages of 2,048 BLAKE3 hashes, 64 KiB each.
//! All numbers are little endian:
//!
//! | offset | bytes | |
//! |---|---|---|
//! | 0 | 8 | `VMTHUNDR` |
//! | 8 | 4 | version, 1 |
//! | 12 | 4 | block size of the image |
//! | 16 | 8 | length of the image in bytes |
//! | 24 | 4 | extent size, 65536 |
//! | 28 | 4 | number of pages |
//! | 32 | 32 | BLAKE3 of everything else in the header: bytes 0 to 31 and the pages' hashes |
//! | 64 | 32 each | BLAKE3 of each page |
//!
//! The hash at offset 32 is at once the header's checksum and the **root**, the identity of the image. An extent of zeros
//! has the hash of 32 zero bytes in its page and is never transferred; the places behind the last extent are zero too.

mod build;
mod hashes;

use std::fmt;

use bytes::Bytes;
use vmthunder_volume::{BlockSize, Class, EXTENT_BYTES, Error, Extent, Geometry, Span, Volume};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::verify::Expected;

pub use build::{Progress, build};
pub use hashes::{BoxFuture, ExtentHash, ExtentHashes, Hashes};

/// Hashes in a page of a manifest; a page fills one extent of the manifest's file.
pub const HASHES_PER_PAGE: u64 = 2048;

/// Pages of the largest manifest: 16 TiB of image, 4 MiB of header.
pub const MAX_PAGES: u64 = 1 << 17;

/// BLAKE3 of a manifest's header: the identity of an image.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Root(pub [u8; 32]);

impl Root {
    /// The NAA designator of the image's logical units (type 3, locally assigned).
    pub fn image_designator(&self) -> [u8; 8] {
        naa_3("vmthunder image designator 1", self)
    }

    /// The NAA designator of the logical units that hold the image's manifest.
    pub fn manifest_designator(&self) -> [u8; 8] {
        naa_3("vmthunder manifest designator 1", self)
    }
}

/// Sixty bits of a hash behind the type.
fn naa_3(purpose: &str, root: &Root) -> [u8; 8] {
    let mut designator = [0; 8];
    blake3::Hasher::new_derive_key(purpose)
        .update(&root.0)
        .finalize_xof()
        .fill(&mut designator);
    designator[0] = 0x30 | designator[0] & 0x0f;
    designator
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
    /// The image is larger than a manifest can describe.
    #[error("the image is larger than a manifest can describe")]
    TooLarge,
    /// It is not the manifest that was asked for, or it was damaged.
    #[error("the manifest is not what its hash says")]
    Corrupt,
    /// Its volume could not be read or written.
    #[error(transparent)]
    Volume(#[from] Error),
}

/// The part of fixed size.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Prelude {
    magic: [u8; 8],
    version: U32,
    block_size: U32,
    image_length: U64,
    extent_size: U32,
    pages: U32,
    root: [u8; 32],
}

const _: () = {
    assert!(size_of::<Prelude>() == PRELUDE);
    assert!(std::mem::offset_of!(Prelude, image_length) == 16);
    assert!(std::mem::offset_of!(Prelude, pages) == 28);
    assert!(std::mem::offset_of!(Prelude, root) == 32);
};

/// A header that was parsed but not compared with a hash yet.
#[derive(Clone, Debug)]
pub struct UnverifiedHeader(Header);

impl UnverifiedHeader {
    /// Parses a header with all limits; `bytes` may go on behind it.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        let (prelude, image, pages) = parse_prelude(bytes)?;
        let hashes = bytes
            .get(PRELUDE..PRELUDE + pages * 32)
            .ok_or(ManifestError::Short)?;
        let pages = hashes.as_chunks().0.to_vec();
        Ok(Self(Header {
            root: Root(prelude.root),
            image,
            pages,
        }))
    }

    /// The header, if it is the one of this root.
    pub fn verify(self, root: &Root) -> Result<Header, ManifestError> {
        self.verify_checksum()
            .and_then(|header| match header.root == *root {
                true => Ok(header),
                false => Err(ManifestError::Corrupt),
            })
    }

    /// The header, if it was not damaged. Any image may be behind it.
    pub fn verify_checksum(self) -> Result<Header, ManifestError> {
        match self.0.compute_root() == self.0.root {
            true => Ok(self.0),
            false => Err(ManifestError::Corrupt),
        }
    }
}

fn parse_prelude(bytes: &[u8]) -> Result<(Prelude, Geometry, usize), ManifestError> {
    let (prelude, _) = Prelude::read_from_prefix(bytes).map_err(|_| ManifestError::Short)?;
    if prelude.magic != MAGIC {
        return Err(ManifestError::Magic);
    }
    if prelude.version.get() != VERSION {
        return Err(ManifestError::Version(prelude.version.get()));
    }
    let block_size =
        BlockSize::from_bytes(prelude.block_size.get()).ok_or(ManifestError::Contradiction)?;
    let image = Geometry::of_bytes(block_size, prelude.image_length.get());
    let pages = u64::from(prelude.pages.get());
    let is_consistent = image.bytes() == prelude.image_length.get()
        && u64::from(prelude.extent_size.get()) == EXTENT_BYTES
        && pages == pages_of(image)
        && pages <= MAX_PAGES;
    let pages = usize::try_from(pages)
        .ok()
        .filter(|_| is_consistent)
        .ok_or(ManifestError::Contradiction)?;
    Ok((prelude, image, pages))
}

/// What a manifest says about its image: the geometry and the hash of each page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    root: Root,
    image: Geometry,
    pages: Vec<[u8; 32]>,
}

impl Header {
    /// The header over pages with these hashes.
    fn new(image: Geometry, pages: Vec<[u8; 32]>) -> Self {
        let mut header = Self {
            root: Root([0; 32]),
            image,
            pages,
        };
        header.root = header.compute_root();
        header
    }

    /// Reads the header of the manifest that `volume` holds; `root` is what it must be, if that is known.
    pub async fn read<V: Volume>(volume: &V, root: Option<&Root>) -> Result<Self, ManifestError> {
        let end = volume.geometry().bytes();
        let first = volume
            .read(Span::new(0, EXTENT_BYTES.min(end)), Class::Demand)
            .await?;
        let (_, image, _) = parse_prelude(&first)?;
        let length = header_extents(image) * EXTENT_BYTES;
        let bytes = match length <= EXTENT_BYTES {
            true => first,
            false if length > end => return Err(ManifestError::Short),
            false => volume.read(Span::new(0, length), Class::Demand).await?,
        };
        let unverified = UnverifiedHeader::parse(&bytes)?;
        match root {
            Some(root) => unverified.verify(root),
            None => unverified.verify_checksum(),
        }
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

    /// The header as it stands at the beginning of the manifest, with its padding.
    pub fn to_bytes(&self) -> Bytes {
        let mut bytes = Vec::from(self.prelude().as_bytes());
        bytes.extend_from_slice(self.pages.as_flattened());
        let length = header_extents(self.image) * EXTENT_BYTES;
        bytes.resize(usize::try_from(length).unwrap_or(bytes.len()), 0);
        bytes.into()
    }

    /// The BLAKE3 of a page.
    fn page_hash(&self, page: u64) -> Option<&[u8; 32]> {
        self.pages.get(usize::try_from(page).ok()?)
    }

    /// The extent of the manifest that holds a page.
    fn page_extent(&self, page: u64) -> Extent {
        Extent(header_extents(self.image) + page)
    }

    /// What an extent of the manifest must be.
    pub(crate) fn expected(&self, extent: Extent) -> Expected {
        let Some(page) = extent.0.checked_sub(header_extents(self.image)) else {
            let offset = usize::try_from(extent.0 * EXTENT_BYTES).unwrap_or_default();
            let header = self.to_bytes();
            let length = usize::try_from(EXTENT_BYTES)
                .unwrap_or_default()
                .min(header.len() - offset);
            return Expected::Known(header.slice(offset..offset + length));
        };
        match self.page_hash(page) {
            Some(hash) if *hash == ZERO_PAGE => Expected::Zero,
            Some(hash) => Expected::Blake3(*hash),
            None => Expected::Zero,
        }
    }

    fn prelude(&self) -> Prelude {
        Prelude {
            magic: MAGIC,
            version: U32::new(VERSION),
            block_size: U32::new(self.image.block_size().bytes()),
            image_length: U64::new(self.image.bytes()),
            extent_size: U32::new(u32::try_from(EXTENT_BYTES).unwrap_or_default()),
            pages: U32::new(u32::try_from(self.pages.len()).unwrap_or_default()),
            root: self.root.0,
        }
    }

    fn compute_root(&self) -> Root {
        let prelude = self.prelude();
        let mut hasher = blake3::Hasher::new();
        hasher.update(&prelude.as_bytes()[..32]);
        hasher.update(self.pages.as_flattened());
        Root(hasher.finalize().into())
    }
}

/// The geometry of the manifest of an image of this geometry: a volume of whole extents.
pub fn manifest_geometry(image: Geometry) -> Geometry {
    let extents = header_extents(image).saturating_add(pages_of(image));
    Geometry::of_bytes(BlockSize::B4096, extents.saturating_mul(EXTENT_BYTES))
}

fn pages_of(image: Geometry) -> u64 {
    image.extents().div_ceil(HASHES_PER_PAGE)
}

/// Extents of the manifest that hold the header.
fn header_extents(image: Geometry) -> u64 {
    (pages_of(image) * 32 + PRELUDE as u64).div_ceil(EXTENT_BYTES)
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

const MAGIC: [u8; 8] = *b"VMTHUNDR";
const VERSION: u32 = 1;
const PRELUDE: usize = 64;
/// BLAKE3 of 65,536 zeros: a page of a part of the image that is all zeros needs no transfer either.
const ZERO_PAGE: [u8; 32] = [
    0x3b, 0xde, 0xaf, 0x8f, 0x8e, 0x98, 0x78, 0x0b, 0x31, 0x81, 0x06, 0xaa, 0xfd, 0xc3, 0xca, 0x25,
    0x7f, 0x73, 0xdf, 0x12, 0x3d, 0x97, 0xb6, 0x91, 0x12, 0xb2, 0x60, 0x44, 0xc9, 0x1a, 0x7d, 0x56,
];

#[cfg(test)]
#[path = "manifest/tests.rs"]
mod tests;
