//! What an answer must be.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use vmthunder_volume::{Class, Extent, Geometry, Result};

use crate::manifest::{ExtentHash, ExtentHashes, Header};

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

/// What is known about an extent before anybody is asked for it.
#[derive(Clone, Debug)]
pub(crate) enum Expected {
    /// Nothing.
    Anything,
    /// That it is zero.
    Zero,
    /// All of it.
    Known(Bytes),
    /// Its BLAKE3.
    Blake3([u8; 32]),
}

impl Verify {
    /// The geometry of the volume that is verified, if that is known.
    pub(crate) fn geometry(&self) -> Option<Geometry> {
        match self {
            Self::Nothing => None,
            Self::Extents(hashes) => Some(hashes.geometry()),
            Self::Pages(header) => Some(header.manifest_geometry()),
        }
    }

    /// Asked before anything else, so that nothing is held while a page of hashes is fetched.
    pub(crate) async fn expected(&self, extent: Extent, class: Class) -> Result<Expected> {
        match self {
            Self::Nothing => Ok(Expected::Anything),
            Self::Extents(hashes) => Ok(match hashes.hash_of(extent, class).await? {
                ExtentHash::Zero => Expected::Zero,
                ExtentHash::Blake3(hash) => Expected::Blake3(hash),
            }),
            Self::Pages(header) => Ok(header.expected(extent)),
        }
    }
}

impl Expected {
    /// The answer, if nobody has to be asked for it.
    pub(crate) fn answer(&self, length: usize) -> Option<Bytes> {
        match self {
            Self::Zero => Some(
                ZEROS
                    .get(..length)
                    .map_or_else(|| vec![0; length].into(), Bytes::from_static),
            ),
            Self::Known(bytes) => Some(bytes.clone()),
            Self::Anything | Self::Blake3(_) => None,
        }
    }

    pub(crate) fn matches(&self, bytes: &[u8]) -> bool {
        match self {
            Self::Blake3(hash) => blake3::hash(bytes).as_bytes() == hash,
            Self::Known(known) => known == bytes,
            Self::Zero => bytes.iter().all(|byte| *byte == 0),
            Self::Anything => true,
        }
    }
}

impl fmt::Debug for Verify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "Nothing",
            Self::Extents(_) => "Extents",
            Self::Pages(_) => "Pages",
        })
    }
}

/// Most zero extents need no memory of their own.
static ZEROS: [u8; 65_536] = [0; 65_536];
