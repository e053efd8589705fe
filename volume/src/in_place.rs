//! Reads and writes that need no waiting.

use std::fs::File;
use std::io::{IoSlice, IoSliceMut};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::fstatfs;
use rustix::io::{Errno, ReadWriteFlags, preadv2, pwritev2};

/// More bytes than these are not for the thread that has other work: while they are copied from the page cache
/// elsewhere, it sends what came before.
pub const IN_PLACE_BYTES: usize = 64 * 1024;

/// What is known of a file about reads and writes that the page cache can take at once.
///
/// A file system that does not know such reads or writes (`RWF_NOWAIT`) is asked once, each direction by itself: ext4
/// knows them for reads alone. Files in memory refuse them but never wait.
#[derive(Debug)]
pub struct InPlace {
    in_memory: bool,
    reads: AtomicBool,
    writes: AtomicBool,
}

impl InPlace {
    /// What can be said about a file before it is used.
    pub fn of(file: &File) -> Self {
        Self {
            in_memory: fstatfs(file).is_ok_and(|found| i128::from(found.f_type) == TMPFS_MAGIC),
            reads: AtomicBool::new(true),
            writes: AtomicBool::new(true),
        }
    }

    /// Reads what needs no waiting, from the beginning on; how many bytes that was.
    pub fn read(&self, file: &File, offset: u64, into: &mut [u8]) -> usize {
        if self.in_memory {
            return file.read_at(into, offset).unwrap_or(0);
        }
        if !self.reads.load(Ordering::Relaxed) {
            return 0;
        }
        let read = preadv2(
            file,
            &mut [IoSliceMut::new(into)],
            offset,
            ReadWriteFlags::NOWAIT,
        );
        took(read, &self.reads)
    }

    /// Writes what needs no waiting, from the beginning on; how many bytes that was.
    pub fn write(&self, file: &File, offset: u64, bytes: &[u8]) -> usize {
        if self.in_memory {
            return file.write_at(bytes, offset).unwrap_or(0);
        }
        if !self.writes.load(Ordering::Relaxed) {
            return 0;
        }
        let written = pwritev2(file, &[IoSlice::new(bytes)], offset, ReadWriteFlags::NOWAIT);
        took(written, &self.writes)
    }
}

#[cfg(test)]
impl InPlace {
    /// Forgets a refusal, or makes one up.
    pub(crate) fn ask_again(&self, ask: bool) {
        self.reads.store(ask, Ordering::Relaxed);
        self.writes.store(ask, Ordering::Relaxed);
    }
}

/// How far it went. Other errors than a refusal are for whoever waits to find out.
fn took(outcome: Result<usize, Errno>, known: &AtomicBool) -> usize {
    match outcome {
        Ok(bytes) => bytes,
        Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS) => {
            known.store(false, Ordering::Relaxed);
            0
        }
        Err(_) => 0,
    }
}

/// What statfs(2) says of a file system in memory.
const TMPFS_MAGIC: i128 = 0x0102_1994;

#[cfg(test)]
mod tests {
    use super::*;

    fn file_in(folder: &str) -> File {
        let file = tempfile::tempfile_in(folder).unwrap();
        file.write_all_at(&[7; 8192], 0).unwrap();
        file
    }

    #[test]
    fn memory_is_read_and_written_at_once() {
        let file = file_in("/dev/shm");
        let in_place = InPlace::of(&file);
        assert!(in_place.in_memory, "/dev/shm is a tmpfs");
        assert_eq!(in_place.write(&file, 4096, &[9; 512]), 512);
        let mut bytes = [0; 1024];
        assert_eq!(in_place.read(&file, 4096, &mut bytes), 1024);
        assert_eq!(
            (&bytes[..512], &bytes[512..]),
            (&[9; 512][..], &[7; 512][..])
        );
    }

    #[test]
    fn beyond_the_end_there_is_nothing_and_a_refusal_is_remembered() {
        let file = file_in("/dev/shm");
        let mut bytes = [0; 1024];
        assert_eq!(InPlace::of(&file).read(&file, 8192, &mut bytes), 0);
        // A tmpfs refuses when it is asked like a disk.
        let asked = InPlace {
            in_memory: false,
            ..InPlace::of(&file)
        };
        let refused = asked.write(&file, 0, &[1; 512]) == 0;
        assert_eq!(refused, !asked.writes.load(Ordering::Relaxed));
    }

    #[test]
    fn an_error_is_not_remembered_as_a_refusal() {
        let known = AtomicBool::new(true);
        assert_eq!(
            (
                took(Err(Errno::AGAIN), &known),
                took(Err(Errno::NOSPC), &known)
            ),
            (0, 0)
        );
        assert!(known.load(Ordering::Relaxed));
        assert_eq!(took(Err(Errno::OPNOTSUPP), &known), 0);
        assert!(!known.load(Ordering::Relaxed));
    }
}
