//! A copy of an image in a file, verified extent by extent.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use rustix::fs::{Advice, fadvise};
use tracing::{debug, error};
use vmthunder_swarm::manifest::{ExtentHash, ExtentHashes, Hashes, Header};
use vmthunder_volume::{
    Access, Class, Error, Extent, Geometry, RawFile, Result, Space, Span, Volume,
};

use super::lock;

/// Rotten extents that are counted.
const MOST_ROTTEN: usize = 1024;

/// An image in a file, and the hashes that say whether it is right.
///
/// An extent is hashed when it is read first after the file was opened; one that is not what the manifest says is never
/// answered. What rots later, in the same run of the program, is not noticed before the next.
pub(crate) struct LocalCopy {
    geometry: Geometry,
    file: RawFile,
    hashes: Hashes<RawFile>,
    /// A bit for each extent that was hashed.
    hashed: Box<[AtomicU64]>,
    /// Extents that were found wrong by readers; at most [`MOST_ROTTEN`].
    rotten: Mutex<BTreeSet<Extent>>,
}

impl LocalCopy {
    /// Opens the file of an image, or makes it. Nothing in it is believed yet.
    pub(crate) fn open(path: &Path, header: Arc<Header>, manifest: RawFile) -> io::Result<Self> {
        let geometry = header.image_geometry();
        let (bytes, block) = (geometry.bytes(), geometry.block_size());
        let opened = match RawFile::open(path, Access::ReadWrite, block) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                RawFile::create(path, bytes, block, Space::Sparse)
            }
            opened => opened,
        };
        let file = opened?;
        if file.geometry() != geometry {
            return Err(io::Error::other("it has another size than the image"));
        }
        let words = usize::try_from(geometry.extents().div_ceil(64)).unwrap_or(usize::MAX);
        let pages = Hashes::<RawFile>::DEFAULT_PAGES;
        Ok(Self {
            geometry,
            file,
            hashes: Hashes::new(header, manifest, pages),
            hashed: (0..words).map(|_| AtomicU64::new(0)).collect(),
            rotten: Mutex::default(),
        })
    }

    /// The image's geometry.
    pub(crate) fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// What an extent must be.
    pub(crate) async fn hash_of(&self, extent: Extent) -> Result<ExtentHash> {
        self.hashes.hash_of(extent, Class::Fill).await
    }

    /// Reads a span, if all of it is right.
    pub(crate) async fn read(&self, span: Span) -> Result<Bytes> {
        for (extent, _) in span.by_extent() {
            if !self.is_hashed(extent) {
                self.check(extent)
                    .await
                    .inspect_err(|error| self.note(extent, error))?;
            }
        }
        self.file.read(span, Class::Demand).await
    }

    /// Reads a span of the manifest, which was compared with the image's root when it was opened.
    pub(crate) async fn read_manifest(&self, span: Span) -> Result<Bytes> {
        self.hashes.manifest().read(span, Class::Demand).await
    }

    /// What the manifest begins with.
    pub(crate) fn header(&self) -> &Arc<Header> {
        self.hashes.header()
    }

    /// Reads an extent and compares it with its hash: [`Error::Corrupt`] if it differs. What has to be zeros and is
    /// not needs nobody to be put right.
    pub(crate) async fn check(&self, extent: Extent) -> Result<()> {
        let span = self.geometry.extent_span(extent);
        let bytes = self.file.read(span, Class::Fill).await?;
        match self.compare(extent, &bytes).await {
            Err(Error::Corrupt) if self.hash_of(extent).await? == ExtentHash::Zero => {
                let zeros = vec![0; bytes.len()];
                self.file.write(span.offset(), zeros.into()).await?;
            }
            compared => compared?,
        }
        self.believe(extent);
        Ok(())
    }

    /// Writes an extent, if these are the right bytes for it: else [`Error::Corrupt`], and nothing is written.
    pub(crate) async fn put(&self, extent: Extent, bytes: Bytes) -> Result<()> {
        self.compare(extent, &bytes).await?;
        let offset = self.geometry.extent_span(extent).offset();
        self.file.write(offset, bytes).await
    }

    /// Puts extents right that were found wrong; a disk that refuses is asked again by the next reader.
    pub(crate) async fn mend(&self, whole: Span, bytes: &Bytes) {
        let mut rest = bytes.clone();
        for (extent, part) in whole.by_extent() {
            let length = usize::try_from(part.length()).unwrap_or(usize::MAX);
            let right = rest.split_to(length.min(rest.len()));
            if self.check(extent).await.is_ok() {
                continue;
            }
            let put = self.put(extent, right).await;
            debug!(%extent, ?put, "mended");
        }
    }

    /// Brings everything to media, and lets the page cache forget it, so that the disk is asked next.
    pub(crate) async fn sync(&self) -> Result<()> {
        self.file.flush().await?;
        let path = self.file.path().to_owned();
        // Where that cannot be, the page cache is asked.
        let forget = move || {
            let file = std::fs::File::open(path).ok()?;
            fadvise(&file, 0, None, Advice::DontNeed).ok()
        };
        tokio::task::spawn_blocking(forget).await.ok();
        Ok(())
    }

    /// Extents that were found wrong by readers, whether or not they were put right.
    pub(crate) fn rotten(&self) -> usize {
        lock(&self.rotten).len()
    }

    fn note(&self, extent: Extent, error: &Error) {
        let mut rotten = lock(&self.rotten);
        if rotten.is_empty() {
            error!(
                image = %self.header().root(), %extent, %error,
                "the local copy of an image has rotted: what is wrong is fetched again, where the image can be reached; \
                one that is released cannot before it is used normally again; look at the disk"
            );
        }
        if rotten.len() < MOST_ROTTEN {
            rotten.insert(extent);
        }
    }

    async fn compare(&self, extent: Extent, bytes: &[u8]) -> Result<()> {
        let is_right = match self.hash_of(extent).await? {
            ExtentHash::Zero => bytes.iter().all(|byte| *byte == 0),
            ExtentHash::Blake3(hash) => *blake3::hash(bytes).as_bytes() == hash,
        };
        match is_right && bytes.len() as u64 == self.geometry.extent_span(extent).length() {
            true => Ok(()),
            false => Err(Error::Corrupt),
        }
    }

    fn is_hashed(&self, extent: Extent) -> bool {
        let (word, bit) = place(extent);
        let word = self.hashed.get(word);
        word.is_some_and(|word| word.load(Ordering::Acquire) & bit != 0)
    }

    fn believe(&self, extent: Extent) {
        let (word, bit) = place(extent);
        if let Some(word) = self.hashed.get(word) {
            word.fetch_or(bit, Ordering::Release);
        }
    }
}

fn place(extent: Extent) -> (usize, u64) {
    let word = usize::try_from(extent.0 / 64).unwrap_or(usize::MAX);
    (word, 1 << (extent.0 % 64))
}
