//! How large a raw file is: made, and changed while it is in use.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use rustix::fs::{FallocateFlags, SeekFrom, fallocate, seek};

use super::{Access, Inner, RawFile, lock};
use crate::{BlockSize, Error, Geometry, Span};

/// When a new file, or the new part of one, takes its space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// When something is written.
    Sparse,
    /// At once, so that it cannot be missing later.
    Full,
}

/// What a file is resized to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resize {
    /// The new size, in whole blocks.
    pub bytes: u64,
    /// When the new part takes its space.
    pub space: Space,
    /// Whether a smaller size is meant, and what lies behind it may be lost.
    pub shrink: bool,
}

/// Why a file keeps its size.
#[derive(Debug, thiserror::Error)]
pub enum ResizeError {
    /// The size is smaller, and nobody said that this is meant.
    #[error("{to} bytes are less than the {from} that it has")]
    Shrinks {
        /// The present size.
        from: u64,
        /// The size asked for, or found.
        to: u64,
    },
    /// The size is none.
    #[error("{bytes} bytes are not one block or more of {block} bytes")]
    NoBlocks {
        /// The size asked for, or found.
        bytes: u64,
        /// The size of a block.
        block: u32,
    },
    /// The file was opened for reading.
    #[error("it is read-only")]
    ReadOnly,
    /// The size of a block device is not ours to change.
    #[error("a block device is resized by the system that it belongs to")]
    Device,
    /// An earlier flush failed.
    #[error("fenced after a failed flush")]
    Fenced,
    /// The operating system reported an error.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A size that changes while others read and write.
#[derive(Debug)]
pub(super) struct Size {
    block: BlockSize,
    blocks: AtomicU64,
    /// Held shared by whoever touches the file, alone by whoever cuts it: a write that was under way when the file
    /// was cut would else make it long again.
    cut: RwLock<()>,
    /// Held by whoever changes the size.
    change: Mutex<()>,
}

impl Size {
    pub(super) fn new(geometry: Geometry) -> Self {
        Self {
            block: geometry.block_size(),
            blocks: AtomicU64::new(geometry.blocks()),
            cut: RwLock::new(()),
            change: Mutex::new(()),
        }
    }

    pub(super) fn geometry(&self) -> Geometry {
        Geometry::new(self.block, self.blocks.load(Ordering::Acquire))
    }

    /// Checks that a span lies inside the volume, which stays so while the answer is held.
    pub(super) fn inside(&self, span: Span) -> crate::Result<RwLockReadGuard<'_, ()>> {
        let held = self.cut.read().unwrap_or_else(PoisonError::into_inner);
        self.geometry().check(span).map(|()| held)
    }

    /// The same, if nobody is cutting the file at the moment and it lies inside.
    pub(super) fn inside_now(&self, span: Span) -> Option<RwLockReadGuard<'_, ()>> {
        let held = self.cut.try_read().ok()?;
        self.geometry().check(span).is_ok().then_some(held)
    }

    fn set(&self, geometry: Geometry) {
        self.blocks.store(geometry.blocks(), Ordering::Release);
    }

    /// Lets nobody touch what lies behind the new end, then cuts it off.
    fn shrink(&self, to: Geometry, cut: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let _alone = self.cut.write().unwrap_or_else(PoisonError::into_inner);
        cut()?;
        self.set(to);
        Ok(())
    }

    /// So many bytes in whole blocks; a last part that fills none is left out.
    fn at_least_one_block(&self, bytes: u64) -> Result<Geometry, ResizeError> {
        let geometry = Geometry::of_bytes(self.block, bytes);
        if geometry.blocks() == 0 {
            return Err(no_blocks(bytes, self.block));
        }
        Ok(geometry)
    }
}

impl RawFile {
    /// Creates a file of so many bytes, whole blocks, that only its owner may read, and opens it for reading and
    /// writing. An existing file is refused with [`io::ErrorKind::AlreadyExists`]. When this returns the file
    /// survives the loss of power; when it fails there is none.
    pub fn create(path: &Path, bytes: u64, block: BlockSize, space: Space) -> io::Result<Self> {
        if bytes == 0 || !bytes.is_multiple_of(u64::from(block.bytes())) {
            let refusal = no_blocks(bytes, block);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, refusal));
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        let made = lock::take(&file, Access::ReadWrite)
            .and_then(|()| lengthen(&file, bytes, space))
            .and_then(|()| file.sync_all())
            .and_then(|()| sync_folder_of(path))
            .and_then(|()| Self::of(file, path, Access::ReadWrite, block));
        if made.is_err() {
            let _ = std::fs::remove_file(path);
        }
        made
    }

    /// Gives the file another size. When this returns [`geometry`](crate::Volume::geometry) tells it, and it
    /// survives the loss of power.
    pub async fn resize(&self, to: Resize) -> Result<Geometry, ResizeError> {
        match self.writable() {
            Ok(()) => {}
            Err(Error::Fenced) => return Err(ResizeError::Fenced),
            Err(_) => return Err(ResizeError::ReadOnly),
        }
        let inner = Arc::clone(&self.inner);
        blocking::unblock(move || inner.resize(to)).await
    }

    /// Looks how large the file or block device has become behind our back. With `shrink` a smaller size is taken
    /// too.
    pub async fn refresh(&self, shrink: bool) -> Result<Geometry, ResizeError> {
        let inner = Arc::clone(&self.inner);
        blocking::unblock(move || inner.refresh(shrink)).await
    }
}

impl Inner {
    fn resize(&self, to: Resize) -> Result<Geometry, ResizeError> {
        let _one = self.one_change();
        if self.file.metadata()?.file_type().is_block_device() {
            return Err(ResizeError::Device);
        }
        let (size, bytes) = (&self.size, to.bytes);
        let new = size.at_least_one_block(bytes)?;
        if new.bytes() != bytes {
            return Err(no_blocks(bytes, size.block));
        }
        // What somebody else put behind our end is not ours to cut off either.
        let found = Geometry::of_bytes(size.block, end(&self.file)?).bytes();
        let present = found.max(size.geometry().bytes());
        if bytes < present {
            if !to.shrink {
                let from = present;
                return Err(ResizeError::Shrinks { from, to: bytes });
            }
            size.shrink(new, || self.file.set_len(bytes))?;
            self.sync(File::sync_all)?;
        } else {
            lengthen(&self.file, bytes, to.space)?;
            self.sync(File::sync_all)?;
            size.set(new);
        }
        Ok(new)
    }

    fn refresh(&self, shrink: bool) -> Result<Geometry, ResizeError> {
        let _one = self.one_change();
        let new = self.size.at_least_one_block(end(&self.file)?)?;
        let (from, to) = (self.size.geometry().bytes(), new.bytes());
        if to >= from {
            self.size.set(new);
        } else if shrink {
            self.size.shrink(new, || Ok(()))?;
        } else {
            return Err(ResizeError::Shrinks { from, to });
        }
        Ok(new)
    }

    fn one_change(&self) -> std::sync::MutexGuard<'_, ()> {
        let change = &self.size.change;
        change.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a file ends. The end of a block device is found by seeking; its metadata says zero.
pub(super) fn end(file: &File) -> io::Result<u64> {
    Ok(seek(file, SeekFrom::End(0))?)
}

/// Makes a file longer, or leaves it as long as it is. The space of a full one is taken as a whole: that of holes too.
fn lengthen(file: &File, bytes: u64, space: Space) -> io::Result<()> {
    let before = end(file)?;
    if space == Space::Full
        && let Err(error) = fallocate(file, FallocateFlags::empty(), 0, bytes)
    {
        // A file system that runs out of space half way leaves the file as long as it came.
        file.set_len(before)?;
        return Err(error.into());
    }
    if before < bytes {
        file.set_len(bytes)?;
    }
    Ok(())
}

fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
        Some(folder) => folder,
        None => return Ok(()),
    };
    File::open(folder)?.sync_all()
}

fn no_blocks(bytes: u64, block: BlockSize) -> ResizeError {
    let block = block.bytes();
    ResizeError::NoBlocks { bytes, block }
}
