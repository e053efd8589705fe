//! One writer, or any number of readers: advisory locks on files.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::Access;

/// The system looks at a block device for a moment whenever it changes, and holds its lock meanwhile.
const DEVICE_TRIES: u32 = 20;

/// The pause between two tries to lock a block device.
const DEVICE_PAUSE: Duration = Duration::from_millis(50);

/// Locks a file until it is closed.
pub(super) fn take(file: &File, access: Access) -> io::Result<()> {
    let (operation, cause) = match access {
        Access::ReadOnly => (
            FlockOperation::NonBlockingLockShared,
            "in use: another program has it open for writing",
        ),
        Access::ReadWrite => (
            FlockOperation::NonBlockingLockExclusive,
            "in use: another program serves it",
        ),
    };
    let tries = if file.metadata()?.file_type().is_block_device() {
        DEVICE_TRIES
    } else {
        1
    };
    for attempt in 1..=tries {
        match flock(file, operation) {
            Ok(()) => return Ok(()),
            // A file system without locks, or one whose server of locks is not there.
            Err(Errno::NOTSUP | Errno::NOSYS | Errno::NOLCK) => return Ok(()),
            Err(Errno::WOULDBLOCK) if attempt < tries => std::thread::sleep(DEVICE_PAUSE),
            Err(Errno::WOULDBLOCK) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Err(io::Error::new(io::ErrorKind::ResourceBusy, cause))
}
