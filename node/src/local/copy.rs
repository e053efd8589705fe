//! A copy of an image in a file, verified extent by extent.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use rustix::fs::{Advice, fadvise};
use tracing::error;
use vmthunder_swarm::manifest::{ExtentHash, ExtentHashes, Hashes, Header};
use vmthunder_volume::{
    Access, Class, Error, Extent, Geometry, RawFile, Result, Space, Span, Volume,
};

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
    /// Extents that were found wrong once the copy was complete.
    rotten: AtomicU64,
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
            rotten: AtomicU64::new(0),
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
                self.check(extent).await?;
            }
        }
        self.file.read(span, Class::Demand).await
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
            if self.rotten.fetch_add(1, Ordering::Relaxed) == 0 {
                error!(
                    image = %self.hashes.header().root(), %extent, mended = put.is_ok(),
                    "the local copy of an image has rotted: what is wrong is fetched again; look at its disk"
                );
            }
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

    /// Extents that were found wrong, each time that happened.
    pub(crate) fn rotten(&self) -> u64 {
        self.rotten.load(Ordering::Relaxed)
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
