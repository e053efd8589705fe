//! A volume in a file or block device.

mod lock;
mod size;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use rustix::fs::{FallocateFlags, OFlags, SeekFrom, fallocate, seek};
use rustix::io::Errno;

use self::size::Size;
pub use self::size::{Resize, ResizeError, Space};
use crate::in_place::{IN_PLACE_BYTES, InPlace};
use crate::{Allocation, BlockSize, Class, Error, Geometry, Result, Span, Volume};

/// What may be done with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reads alone.
    ReadOnly,
    /// Reads and writes.
    ReadWrite,
}

/// A volume in a file or block device, through the page cache.
///
/// Short reads and writes that the page cache can take at once are done in place; everything else waits on the `blocking`
/// pool.
/// After a failed flush nothing is promised any more: writes and flushes answer [`Error::Fenced`] until the file is
/// opened again, because the kernel forgets which pages it failed to write.
///
/// An open file is locked (flock): one that may be written for its owner alone, one that is read against writers. The
/// lock is advice to other programs and ends with the last handle. Where a file system has no such locks there is none. A
/// block device that may be written is claimed besides, against mounts.
///
/// Its owner may give it another size ([`resize`](Self::resize), [`refresh`](Self::refresh)) while it is read and
/// written: what lies beyond the new end is [`Error::OutOfRange`] from then on.
#[derive(Debug)]
pub struct RawFile {
    inner: Arc<Inner>,
    access: Access,
}

#[derive(Debug)]
struct Inner {
    file: File,
    path: PathBuf,
    size: Size,
    fenced: AtomicBool,
    in_place: InPlace,
}

impl RawFile {
    /// Opens an existing file or block device, and locks it; [`io::ErrorKind::ResourceBusy`] if another program holds
    /// it. Bytes behind the last whole block are not part of the volume.
    pub fn open(path: &Path, access: Access, block_size: BlockSize) -> io::Result<Self> {
        // Looked at first: to open a pipe would wait for its other end, and a folder says that it has 8 EiB.
        let kind = std::fs::metadata(path)?.file_type();
        if !kind.is_file() && !kind.is_block_device() {
            return Err(io::Error::other("neither a file nor a block device"));
        }
        let mut options = OpenOptions::new();
        options.read(true).write(access == Access::ReadWrite);
        if kind.is_block_device() && access == Access::ReadWrite {
            // A claim that mounts, device mapper and the like respect, and that fails where one of them was first.
            let claim = i32::try_from(OFlags::EXCL.bits()).unwrap_or_default();
            options.custom_flags(claim);
        }
        let file = options.open(path).map_err(claimed)?;
        lock::take(&file, access)?;
        Self::of(file, path, access, block_size)
    }

    fn of(file: File, path: &Path, access: Access, block_size: BlockSize) -> io::Result<Self> {
        let size = Size::new(Geometry::of_bytes(block_size, size::end(&file)?));
        let inner = Inner {
            in_place: InPlace::of(&file),
            file,
            path: path.to_owned(),
            size,
            fenced: AtomicBool::new(false),
        };
        Ok(Self {
            inner: Arc::new(inner),
            access,
        })
    }

    /// The path that the file was opened with.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    fn writable(&self) -> Result<()> {
        match self.access {
            Access::ReadOnly => Err(Error::ReadOnly),
            Access::ReadWrite if self.inner.fenced.load(Ordering::Acquire) => Err(Error::Fenced),
            Access::ReadWrite => Ok(()),
        }
    }
}

/// The device is mounted, or part of something else.
fn claimed(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::ResourceBusy => io::Error::new(
            io::ErrorKind::ResourceBusy,
            "in use: it is mounted, or another program has claimed it",
        ),
        _ => error,
    }
}

impl Volume for RawFile {
    fn geometry(&self) -> Geometry {
        self.inner.size.geometry()
    }

    async fn read(&self, span: Span, _class: Class) -> Result<Bytes> {
        self.geometry().check(span)?;
        let length = usize::try_from(span.length()).map_err(|_| Error::OutOfRange)?;
        let mut buffer = vec![0; length];
        let done = self.inner.read_now(span.offset(), &mut buffer);
        if done == length {
            return Ok(buffer.into());
        }
        let inner = Arc::clone(&self.inner);
        blocking::unblock(move || {
            let _here = inner.size.inside(span)?;
            let offset = span.offset() + done as u64;
            inner
                .file
                .read_exact_at(buffer.get_mut(done..).unwrap_or_default(), offset)?;
            Ok(buffer.into())
        })
        .await
    }

    async fn write(&self, offset: u64, bytes: Bytes) -> Result<()> {
        let span = Span::new(offset, bytes.len() as u64);
        self.geometry().check(span)?;
        self.writable()?;
        if self.inner.write_now(span, &bytes) {
            return Ok(());
        }
        let inner = Arc::clone(&self.inner);
        blocking::unblock(move || {
            let _here = inner.size.inside(span)?;
            Ok(inner.file.write_all_at(&bytes, offset)?)
        })
        .await
    }

    async fn flush(&self) -> Result<()> {
        if self.access == Access::ReadOnly {
            return Ok(());
        }
        self.writable()?;
        let inner = Arc::clone(&self.inner);
        blocking::unblock(move || Ok(inner.sync(File::sync_data)?)).await
    }

    async fn trim(&self, span: Span) -> Result<()> {
        self.geometry().check(span)?;
        self.writable()?;
        if span.is_empty() {
            return Ok(());
        }
        let inner = Arc::clone(&self.inner);
        blocking::unblock(move || {
            let _here = inner.size.inside(span)?;
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            match fallocate(&inner.file, flags, span.offset(), span.length()) {
                Err(Errno::OPNOTSUPP | Errno::NODEV | Errno::NOSYS) => inner.write_zeros(span),
                other => Ok(other.map_err(io::Error::from)?),
            }
        })
        .await
    }

    async fn allocation(&self, span: Span) -> Result<(Allocation, Span)> {
        self.geometry().check(span)?;
        let inner = Arc::clone(&self.inner);
        let block = u64::from(self.geometry().block_size().bytes());
        blocking::unblock(move || inner.allocation(span, block)).await
    }
}

impl Inner {
    /// Makes the disk safe, or nothing any more.
    fn sync(&self, sync: impl FnOnce(&File) -> io::Result<()>) -> io::Result<()> {
        sync(&self.file).inspect_err(|_| self.fenced.store(true, Ordering::Release))
    }

    /// Reads what the page cache holds without waiting, if it is short; answers how many bytes that was.
    fn read_now(&self, offset: u64, buffer: &mut [u8]) -> usize {
        if buffer.len() > IN_PLACE_BYTES {
            return 0;
        }
        self.in_place.read(&self.file, offset, buffer)
    }

    /// Writes what is short and needs no waiting; false if it was not done, or in part.
    fn write_now(&self, span: Span, bytes: &[u8]) -> bool {
        if bytes.len() > IN_PLACE_BYTES {
            return false;
        }
        let here = self.size.inside_now(span);
        here.is_some() && self.in_place.write(&self.file, span.offset(), bytes) == bytes.len()
    }

    fn write_zeros(&self, span: Span) -> Result<()> {
        const ZEROS: &[u8] = &[0; 64 * 1024];
        let mut at = span.offset();
        while at < span.end() {
            let part = (span.end() - at).min(ZEROS.len() as u64);
            let length = usize::try_from(part).unwrap_or(ZEROS.len());
            self.file
                .write_all_at(ZEROS.get(..length).unwrap_or(ZEROS), at)?;
            at += part;
        }
        Ok(())
    }

    fn allocation(&self, span: Span, block: u64) -> Result<(Allocation, Span)> {
        let data = match seek(&self.file, SeekFrom::Data(span.offset())) {
            Ok(at) => at,
            // No data up to the end of the file.
            Err(Errno::NXIO) => return self.hole_to_the_end(span, block),
            Err(_) => return Ok((Allocation::Mapped, span)),
        };
        // A block that holds any data is mapped.
        let data = data - data % block;
        if data > span.offset() {
            let end = data.min(span.end());
            return Ok((
                Allocation::Hole,
                Span::new(span.offset(), end - span.offset()),
            ));
        }
        let hole = seek(&self.file, SeekFrom::Hole(span.offset())).unwrap_or_else(|_| span.end());
        let end = hole.next_multiple_of(block).min(span.end());
        Ok((
            Allocation::Mapped,
            Span::new(span.offset(), end - span.offset()),
        ))
    }

    /// A hole as far as the file goes. What a file lost since it was opened is no hole: whoever takes it for one
    /// answers zeros in its stead, and never reads the error.
    fn hole_to_the_end(&self, span: Span, block: u64) -> Result<(Allocation, Span)> {
        let size = seek(&self.file, SeekFrom::End(0)).map_err(io::Error::from)?;
        let end = span.end().min(size - size % block);
        Ok(if end > span.offset() {
            let hole = Span::new(span.offset(), end - span.offset());
            (Allocation::Hole, hole)
        } else {
            (Allocation::Mapped, span)
        })
    }
}

#[cfg(test)]
mod size_tests;
#[cfg(test)]
mod tests;
