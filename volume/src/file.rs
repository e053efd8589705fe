//! A volume in a file or block device.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSliceMut};
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use rustix::fs::{FallocateFlags, SeekFrom, fallocate, seek};
use rustix::io::{Errno, ReadWriteFlags, preadv2};

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
/// Reads that the page cache can answer are answered in place; everything else waits on the `blocking` pool.
/// After a failed flush nothing is promised any more: writes and flushes answer [`Error::Fenced`] until the file is
/// opened again, because the kernel forgets which pages it failed to write.
#[derive(Debug)]
pub struct RawFile {
    inner: Arc<Inner>,
    geometry: Geometry,
    access: Access,
}

#[derive(Debug)]
struct Inner {
    file: File,
    path: PathBuf,
    fenced: AtomicBool,
    /// Whether `RWF_NOWAIT` may be tried: cleared by the first file system that refuses it.
    nowait: AtomicBool,
}

impl RawFile {
    /// Opens an existing file or block device. Bytes behind the last whole block are not part of the volume.
    pub fn open(path: &Path, access: Access, block_size: BlockSize) -> io::Result<Self> {
        // Looked at first: to open a pipe would wait for its other end, and a folder says that it has 8 EiB.
        let kind = std::fs::metadata(path)?.file_type();
        if !kind.is_file() && !kind.is_block_device() {
            return Err(io::Error::other("neither a file nor a block device"));
        }
        let file = OpenOptions::new()
            .read(true)
            .write(access == Access::ReadWrite)
            .open(path)?;
        // The end of a block device is found by seeking; its metadata says zero.
        let bytes = seek(&file, SeekFrom::End(0))?;
        Ok(Self {
            inner: Arc::new(Inner {
                file,
                path: path.to_owned(),
                fenced: AtomicBool::new(false),
                nowait: AtomicBool::new(true),
            }),
            geometry: Geometry::of_bytes(block_size, bytes),
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

impl Volume for RawFile {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    async fn read(&self, span: Span, _class: Class) -> Result<Bytes> {
        self.geometry.check(span)?;
        let length = usize::try_from(span.length()).map_err(|_| Error::OutOfRange)?;
        let mut buffer = vec![0; length];
        let done = self.inner.read_cached(span.offset(), &mut buffer)?;
        if done == length {
            return Ok(buffer.into());
        }
        let inner = Arc::clone(&self.inner);
        blocking::unblock(move || {
            let offset = span.offset() + done as u64;
            inner
                .file
                .read_exact_at(buffer.get_mut(done..).unwrap_or_default(), offset)?;
            Ok(buffer.into())
        })
        .await
    }

    async fn write(&self, offset: u64, bytes: Bytes) -> Result<()> {
        self.geometry.check(Span::new(offset, bytes.len() as u64))?;
        self.writable()?;
        let inner = Arc::clone(&self.inner);
        blocking::unblock(move || Ok(inner.file.write_all_at(&bytes, offset)?)).await
    }

    async fn flush(&self) -> Result<()> {
        if self.access == Access::ReadOnly {
            return Ok(());
        }
        self.writable()?;
        let inner = Arc::clone(&self.inner);
        blocking::unblock(move || {
            inner.file.sync_data().map_err(|error| {
                inner.fenced.store(true, Ordering::Release);
                error.into()
            })
        })
        .await
    }

    async fn trim(&self, span: Span) -> Result<()> {
        self.geometry.check(span)?;
        self.writable()?;
        if span.is_empty() {
            return Ok(());
        }
        let inner = Arc::clone(&self.inner);
        blocking::unblock(move || {
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            match fallocate(&inner.file, flags, span.offset(), span.length()) {
                Err(Errno::OPNOTSUPP | Errno::NODEV | Errno::NOSYS) => inner.write_zeros(span),
                other => Ok(other.map_err(io::Error::from)?),
            }
        })
        .await
    }

    async fn allocation(&self, span: Span) -> Result<(Allocation, Span)> {
        self.geometry.check(span)?;
        let inner = Arc::clone(&self.inner);
        let block = u64::from(self.geometry.block_size().bytes());
        blocking::unblock(move || inner.allocation(span, block)).await
    }
}

impl Inner {
    /// Reads what the page cache holds without waiting; answers how many bytes that was.
    fn read_cached(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        if !self.nowait.load(Ordering::Relaxed) {
            return Ok(0);
        }
        match preadv2(
            &self.file,
            &mut [IoSliceMut::new(buffer)],
            offset,
            ReadWriteFlags::NOWAIT,
        ) {
            Ok(read) => Ok(read),
            Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS) => {
                self.nowait.store(false, Ordering::Relaxed);
                Ok(0)
            }
            // Not in the page cache, or an error that the blocking read will report.
            Err(_) => Ok(0),
        }
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
mod tests {
    use std::io::Write;

    use super::*;

    fn file_of(bytes: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    /// Runs a future to its end; the crate needs no runtime, so its tests use none.
    fn run<T>(future: impl Future<Output = T>) -> T {
        struct Unpark(std::thread::Thread);
        impl std::task::Wake for Unpark {
            fn wake(self: Arc<Self>) {
                self.0.unpark();
            }
        }
        let waker = Arc::new(Unpark(std::thread::current())).into();
        let mut future = std::pin::pin!(future);
        loop {
            match future
                .as_mut()
                .poll(&mut std::task::Context::from_waker(&waker))
            {
                std::task::Poll::Ready(value) => return value,
                std::task::Poll::Pending => std::thread::park(),
            }
        }
    }

    #[test]
    fn reads_what_was_written_and_refuses_what_lies_outside() {
        let file = file_of(&[0; 8192 + 100]);
        let volume = RawFile::open(file.path(), Access::ReadWrite, BlockSize::B512).unwrap();
        assert_eq!(
            volume.geometry().bytes(),
            8192,
            "a part of a block is no block"
        );

        run(volume.write(512, Bytes::from(vec![7; 1024]))).unwrap();
        run(volume.flush()).unwrap();
        let read = run(volume.read(Span::new(0, 2048), Class::Demand)).unwrap();
        assert_eq!(&read[..512], &[0; 512]);
        assert_eq!(&read[512..1536], &[7; 1024]);

        assert!(matches!(
            run(volume.read(Span::new(8192, 512), Class::Demand)),
            Err(Error::OutOfRange)
        ));
        assert!(matches!(
            run(volume.read(Span::new(1, 512), Class::Demand)),
            Err(Error::OutOfRange)
        ));
        assert!(matches!(
            run(volume.write(7680, Bytes::from(vec![7; 1024]))),
            Err(Error::OutOfRange)
        ));
    }

    #[test]
    fn a_read_only_file_refuses_writes() {
        let file = file_of(&[1; 4096]);
        let volume = RawFile::open(file.path(), Access::ReadOnly, BlockSize::B4096).unwrap();
        assert!(matches!(
            run(volume.write(0, Bytes::from(vec![0; 4096]))),
            Err(Error::ReadOnly)
        ));
        assert!(matches!(
            run(volume.trim(Span::new(0, 4096))),
            Err(Error::ReadOnly)
        ));
        run(volume.flush()).unwrap();
    }

    #[test]
    fn a_trimmed_span_is_a_hole_that_reads_as_zeros() {
        let file = file_of(&[9; 256 * 1024]);
        let volume = RawFile::open(file.path(), Access::ReadWrite, BlockSize::B512).unwrap();
        run(volume.trim(Span::new(65536, 65536))).unwrap();
        let read = run(volume.read(Span::new(65536, 65536), Class::Demand)).unwrap();
        assert!(read.iter().all(|byte| *byte == 0));
        let whole = volume.geometry().whole();
        assert_eq!(
            run(volume.allocation(whole)).unwrap(),
            (Allocation::Mapped, Span::new(0, 65536))
        );
        let rest = Span::new(65536, 3 * 65536);
        assert_eq!(
            run(volume.allocation(rest)).unwrap(),
            (Allocation::Hole, Span::new(65536, 65536))
        );
    }

    #[test]
    fn what_is_no_disk_is_not_opened() {
        let folder = tempfile::tempdir().unwrap();
        for path in [folder.path(), Path::new("/dev/zero")] {
            let error = RawFile::open(path, Access::ReadOnly, BlockSize::B512).unwrap_err();
            assert_eq!(error.to_string(), "neither a file nor a block device");
        }
    }

    #[test]
    fn a_file_that_shrank_is_an_error_and_not_zeros() {
        let file = file_of(&[9; 8192]);
        let volume = RawFile::open(file.path(), Access::ReadOnly, BlockSize::B512).unwrap();
        file.as_file().set_len(4096).unwrap();
        assert!(matches!(
            run(volume.read(Span::new(4096, 512), Class::Demand)),
            Err(Error::Io(_))
        ));
    }

    #[test]
    fn what_a_file_lost_is_no_hole() {
        let file = file_of(&[9; 8192]);
        let volume = RawFile::open(file.path(), Access::ReadOnly, BlockSize::B512).unwrap();
        file.as_file().set_len(2048).unwrap();
        file.as_file().set_len(4196).unwrap();
        let status = |offset, length| run(volume.allocation(Span::new(offset, length))).unwrap();
        assert_eq!(
            status(4096, 4096),
            (Allocation::Mapped, Span::new(4096, 4096)),
            "gone, but for a part of a block"
        );
        assert_eq!(
            status(0, 8192).0,
            Allocation::Mapped,
            "what is left is data"
        );
        file.as_file().set_len(0).unwrap();
        file.as_file().set_len(4196).unwrap();
        assert_eq!(
            status(512, 7680),
            (Allocation::Hole, Span::new(512, 3584)),
            "a hole, as far as the file goes"
        );
    }
}
