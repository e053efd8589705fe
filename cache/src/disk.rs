//! What the cache and the overlay ask of a file, so that tests can put a failing one in its place.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use bytes::{Bytes, BytesMut};
use rustix::fs::{
    Advice, FallocateFlags, FlockOperation, OFlags, SeekFrom, fadvise, fallocate, flock, seek,
};
use rustix::io::Errno;
use vmthunder_volume::InPlace;

/// Bytes that stay, in a file or in a test's memory. Everything but the two `_now` verbs may wait.
pub(crate) trait Disk: Send + Sync + fmt::Debug + 'static {
    /// The size in bytes.
    fn size(&self) -> io::Result<u64>;

    /// Fills `into` from `offset`.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()>;

    /// Fills `into` if that needs no waiting; false says that it was not (and may have been filled in part).
    fn read_now(&self, offset: u64, into: &mut [u8]) -> bool;

    /// `length` bytes from `offset` as they are on media, past the page cache where that can be done.
    fn read_media(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        let mut bytes = vec![0; length];
        self.read_at(offset, &mut bytes)?;
        Ok(bytes.into())
    }

    /// False if another program would not find this any more where it was opened.
    fn is_in_place(&self) -> bool {
        true
    }

    /// Writes all of `bytes` at `offset`; they survive the death of this process.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Writes all of `bytes` if that needs no waiting; false says that it was not (and may have been in part).
    fn write_now(&self, offset: u64, bytes: &[u8]) -> bool;

    /// Makes what was written survive the loss of power.
    fn sync(&self) -> io::Result<()>;

    /// Forgets what the page cache holds beside media, so that what is read next is what lasts. Bytes that wait to be
    /// written stay.
    fn drop_pages(&self) -> io::Result<()>;

    /// Sets the size; new bytes are zeros.
    fn set_size(&self, bytes: u64) -> io::Result<()>;

    /// Takes the space for `bytes` bytes from the file system now, and makes the file that large.
    fn allocate(&self, bytes: u64) -> io::Result<()>;

    /// Gives the space of a range back; it reads as zeros.
    fn punch(&self, offset: u64, length: u64) -> io::Result<()>;

    /// The first byte at or after `offset` that takes space, if there is one: what is skipped reads as zeros.
    fn next_stored(&self, offset: u64) -> io::Result<Option<u64>>;

    /// The file behind it, for what only the file system can do: share blocks and tell what they take.
    fn file(&self) -> Option<&File> {
        None
    }
}

/// A [`Disk`] in a file or block device, through the page cache.
#[derive(Debug)]
pub(crate) struct FileDisk {
    file: File,
    path: PathBuf,
    /// The same file past the page cache, where the file system knows how.
    direct: OnceLock<Option<File>>,
    in_place: InPlace,
}

impl FileDisk {
    /// Opens the file for reading and writing, and makes it if it does not exist.
    pub(crate) fn open_or_create(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            // What guests wrote is for nobody else on this machine to read.
            .mode(0o600)
            .open(path)?;
        Ok(Self::over(file, path))
    }

    /// The same, but a file that is missing is made on this device only, where one is named; `None`: it would be on
    /// another, as when the disk that is to hold it is not mounted.
    pub(crate) fn open_or_create_on(path: &Path, device: Option<u64>) -> io::Result<Option<Self>> {
        let Some(device) = device else {
            return Self::open_or_create(path).map(Some);
        };
        match Self::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            opened => return opened.map(Some),
        }
        let place = place_of(path)?;
        let folder = place
            .parent()
            .unwrap_or_else(|| Path::new("/"))
            .metadata()?;
        if folder.dev() != device {
            return Ok(None);
        }
        Self::open_or_create(&place).map(|disk| {
            Some(Self {
                path: path.to_owned(),
                ..disk
            })
        })
    }

    /// The device of the file system that it is on.
    pub(crate) fn device(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.dev())
    }

    /// Opens a file that exists.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Self::over(file, path))
    }

    /// Keeps other programs that ask the same out, until this is dropped. False: another was first.
    pub(crate) fn lock(&self) -> io::Result<bool> {
        match flock(&self.file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(true),
            Err(Errno::WOULDBLOCK) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn over(file: File, path: &Path) -> Self {
        Self {
            in_place: InPlace::of(&file),
            file,
            path: path.to_owned(),
            direct: OnceLock::new(),
        }
    }
}

impl Disk for FileDisk {
    fn size(&self) -> io::Result<u64> {
        // The end of a block device is found by seeking; its metadata says zero.
        Ok(seek(&self.file, SeekFrom::End(0))?)
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(into, offset)
    }

    fn read_media(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        let direct = self.direct.get_or_init(|| {
            let same = format!("/proc/self/fd/{}", self.file.as_raw_fd());
            let flags = i32::try_from(OFlags::DIRECT.bits()).ok()?;
            OpenOptions::new()
                .read(true)
                .custom_flags(flags)
                .open(same)
                .ok()
        });
        // Whole blocks, into memory that begins where one may.
        let mut bytes = BytesMut::zeroed(length.next_multiple_of(BLOCK) + BLOCK);
        let skip = bytes.as_ptr().align_offset(BLOCK);
        let end = skip.saturating_add(length.next_multiple_of(BLOCK));
        let read = match (direct, bytes.get_mut(skip..end)) {
            (Some(direct), Some(into)) => direct.read_exact_at(into, offset),
            _ => Err(Errno::INVAL.into()),
        };
        match read {
            Ok(()) => Ok(bytes.freeze().slice(skip..skip + length)),
            // A file system, or a length of blocks, that does not know this way.
            Err(error) if Errno::from_io_error(&error) == Some(Errno::INVAL) => {
                let mut bytes = vec![0; length];
                self.read_at(offset, &mut bytes)?;
                Ok(bytes.into())
            }
            Err(error) => Err(error),
        }
    }

    fn is_in_place(&self) -> bool {
        let (Ok(own), Ok(there)) = (self.file.metadata(), std::fs::metadata(&self.path)) else {
            return false;
        };
        (own.dev(), own.ino()) == (there.dev(), there.ino())
    }

    fn read_now(&self, offset: u64, into: &mut [u8]) -> bool {
        self.in_place.read(&self.file, offset, into) == into.len()
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn write_now(&self, offset: u64, bytes: &[u8]) -> bool {
        self.in_place.write(&self.file, offset, bytes) == bytes.len()
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn drop_pages(&self) -> io::Result<()> {
        Ok(fadvise(&self.file, 0, None, Advice::DontNeed)?)
    }

    fn set_size(&self, bytes: u64) -> io::Result<()> {
        self.file.set_len(bytes)
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        match fallocate(&self.file, FallocateFlags::empty(), 0, bytes) {
            Ok(()) => Ok(()),
            // A file system without the call, or a device that has its space already.
            Err(Errno::OPNOTSUPP | Errno::NODEV) if self.size()? >= bytes => Ok(()),
            Err(Errno::OPNOTSUPP) => self.set_size(bytes),
            Err(error) => Err(error.into()),
        }
    }

    fn punch(&self, offset: u64, length: u64) -> io::Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        Ok(fallocate(&self.file, flags, offset, length)?)
    }

    fn next_stored(&self, offset: u64) -> io::Result<Option<u64>> {
        match seek(&self.file, SeekFrom::Data(offset)) {
            Ok(found) => Ok(Some(found)),
            Err(Errno::NXIO) => Ok(None),
            Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(Some(offset)),
            Err(error) => Err(error.into()),
        }
    }

    fn file(&self) -> Option<&File> {
        Some(&self.file)
    }
}

/// Names one run of this machine's kernel: as long as it is the same, what was written to a file is still there,
/// flushed or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BootId(pub(crate) [u8; 16]);

impl BootId {
    /// The run under way; unknown where the kernel does not say.
    pub(crate) fn current() -> Self {
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Self::parse(&text).unwrap_or(Self([0; 16]))
    }

    /// True if both are known and equal.
    pub(crate) fn is_same_run(self, other: Self) -> bool {
        self == other && self.0 != [0; 16]
    }

    fn parse(text: &str) -> Option<Self> {
        let digits: String = text.trim().chars().filter(|digit| *digit != '-').collect();
        Some(Self(u128::from_str_radix(&digits, 16).ok()?.to_le_bytes()))
    }
}

/// Where a path of links leads, though nothing need be there.
fn place_of(path: &Path) -> io::Result<PathBuf> {
    let mut place = std::path::absolute(path)?;
    for _ in 0..MOST_LINKS {
        match std::fs::read_link(&place) {
            Ok(next) => place = place.parent().unwrap_or_else(|| Path::new("/")).join(next),
            Err(_) => return Ok(place),
        }
    }
    Err(Errno::LOOP.into())
}

/// Links that lead on to others, as the kernel follows them.
const MOST_LINKS: usize = 40;
/// Where and in what pieces every device can be read past the page cache.
const BLOCK: usize = 4096;
