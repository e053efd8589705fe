//! What a node remembers of the images of its origins, so that it can serve what is cached while those are away.
//!
//! In the folder `images`, a `NAME.toml` each and, for an image with a manifest, that one's header in `NAME.header`.
//! Both are checked as if they came from the origin; what does not fit is as if it were not there.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use vmthunder_cache::ImageKey;
use vmthunder_swarm::manifest::{Header, Root};
use vmthunder_volume::{BlockSize, Geometry};

use crate::attach::open;
use crate::origin::Origin;

/// What an image is.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) geometry: Geometry,
    pub(crate) key: ImageKey,
    /// What its manifest begins with, if it has one.
    pub(crate) header: Option<Header>,
}

impl Identity {
    /// An image with a manifest.
    pub(crate) fn sealed(header: Header) -> Self {
        Self {
            geometry: header.image_geometry(),
            key: ImageKey(header.root().0),
            header: Some(header),
        }
    }

    /// An image that is known by where it is.
    pub(crate) fn unsealed(geometry: Geometry, key: [u8; 32]) -> Self {
        Self {
            geometry,
            key: ImageKey(key),
            header: None,
        }
    }

    /// True for the same content, as far as anybody can tell.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.key == other.key
            && self.geometry == other.geometry
            && self.header.is_some() == other.header.is_some()
    }
}

/// The folder of what is known.
pub(crate) struct Known {
    folder: PathBuf,
}

/// What is known of an image, as it is written.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Note {
    /// Where it was.
    origin: String,
    bytes: u64,
    block_bytes: u32,
    /// What its extents are filed under: the root of its manifest, if it has one.
    key: String,
    has_manifest: bool,
}

impl Known {
    /// Opens the folder.
    pub(crate) fn open(folder: PathBuf) -> Result<Self> {
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        Ok(Self { folder })
    }

    /// Remembers an image.
    pub(crate) fn save(&self, name: &str, origin: &Origin, identity: &Identity) -> Result<()> {
        let note = Note {
            origin: origin.url.to_string(),
            bytes: identity.geometry.bytes(),
            block_bytes: identity.geometry.block_size().bytes(),
            key: blake3::Hash::from_bytes(identity.key.0)
                .to_hex()
                .to_string(),
            has_manifest: identity.header.is_some(),
        };
        // The header first: a note never speaks of one that is not there.
        if let Some(header) = &identity.header {
            write_whole(&self.header(name), &header.to_bytes())?;
        }
        write_whole(&self.note(name), toml::to_string(&note)?.as_bytes())
    }

    /// What was remembered of an image, if that is what the configuration means now.
    pub(crate) async fn load(&self, name: &str, origin: &Origin) -> Option<Identity> {
        let path = self.note(name);
        if !path.exists() {
            return None;
        }
        match self.read(name, origin).await {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(image = name, "what was known of it is of no use: {error:#}");
                None
            }
        }
    }

    async fn read(&self, name: &str, origin: &Origin) -> Result<Option<Identity>> {
        let path = self.note(name);
        let mut text = String::new();
        File::open(&path)
            .and_then(|file| file.take(MOST_NOTE_BYTES).read_to_string(&mut text))
            .with_context(|| path.display().to_string())?;
        let note: Note = toml::from_str(&text).with_context(|| path.display().to_string())?;
        if note.origin != origin.url.to_string() {
            return Ok(None);
        }
        let key = *blake3::Hash::from_hex(&note.key)?.as_bytes();
        if !note.has_manifest {
            let block = BlockSize::from_bytes(note.block_bytes).context("the block size")?;
            let geometry = Geometry::of_bytes(block, note.bytes);
            return Ok(origin
                .root
                .is_none()
                .then(|| Identity::unsealed(geometry, key)));
        }
        let header = self.header(name);
        let pages = open(&header)?;
        let found = Header::read(&pages, Some(&Root(key))).await;
        let found = found.with_context(|| header.display().to_string())?;
        let wanted = origin.root.is_none_or(|root| root == found.root());
        Ok(wanted.then(|| Identity::sealed(found)))
    }

    fn note(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.toml"))
    }

    fn header(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.header"))
    }
}

/// Writes a file whole or not at all.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut begun = path.as_os_str().to_owned();
    begun.push(".unfinished");
    let written = File::create(&begun).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&begun, path)
    });
    written.with_context(|| format!("cannot write {}", path.display()))
}

/// The longest note that is read.
const MOST_NOTE_BYTES: u64 = 64 * 1024;
