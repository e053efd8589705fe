//! What ails the store's disk, and what follows from an error. Pure but for the clock that tells since when.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::SystemTime;

use rustix::io::Errno;

use crate::store::StoreError;

/// Why the store does not use its disk, or not in full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// The file system has no room: what is held is served, nothing is added.
    Full,
    /// Single writes fail: what is held is served.
    Refusing,
    /// The disk does not answer in time: reads go to the volume below.
    Slow,
    /// Too many reads and writes failed: out of use.
    Failing,
    /// A sync failed, so what is on media is not known: out of use.
    Sync,
    /// The file system is read-only: out of use.
    ReadOnly,
    /// The disk, or the store's file, is not there any more: out of use.
    Gone,
    /// The file is gone, and its place is on another file system than it was: out of use.
    Elsewhere,
    /// Something else is where the file was: out of use.
    Foreign,
    /// Another program has the file open: out of use.
    InUse,
    /// The file was missing or cut off, and there is no room to make it anew: out of use.
    NoRoom,
}

/// How well the store's disk does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StoreState {
    /// In use.
    #[default]
    Ok,
    /// Not in use, or not in full. Guests are answered from the volume below; the store comes back by itself.
    Degraded {
        /// Why.
        cause: Cause,
        /// Since when.
        since: SystemTime,
    },
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "the file system is full",
            Self::Refusing => "writes fail",
            Self::Slow => "the disk does not answer",
            Self::Failing => "reads and writes fail",
            Self::Sync => "a sync failed",
            Self::ReadOnly => "the file system is read-only",
            Self::Gone => "the file or its disk is gone",
            Self::Elsewhere => {
                "the file is gone, and its place is on another file system: mount the cache's disk again"
            }
            Self::Foreign => "there is something else in the place of the file: move it away",
            Self::InUse => "another program has the file open",
            Self::NoRoom => "there is no room to make the file anew",
        })
    }
}

/// What an error says of the whole disk; `failed` counts those that say nothing alone.
pub(crate) fn judge(error: &io::Error, failed: &AtomicU32) -> Option<Cause> {
    if is_full(error) {
        return None;
    }
    if let Some(cause) = of_disk(error) {
        return Some(cause);
    }
    let before = failed.fetch_add(1, Ordering::Relaxed);
    (before >= FEW).then_some(Cause::Failing)
}

/// What an error says of the whole disk by itself.
fn of_disk(error: &io::Error) -> Option<Cause> {
    match Errno::from_io_error(error) {
        Some(Errno::ROFS) => return Some(Cause::ReadOnly),
        Some(
            Errno::NODEV
            | Errno::NXIO
            | Errno::NOENT
            | Errno::STALE
            | Errno::SHUTDOWN
            | Errno::NOMEDIUM
            | Errno::NOTCONN,
        ) => return Some(Cause::Gone),
        _ => {}
    }
    // Somebody has cut the file off.
    (error.kind() == io::ErrorKind::UnexpectedEof).then_some(Cause::Gone)
}

/// Why a disk that is out of use stays so.
pub(crate) fn still_out(error: &StoreError) -> Cause {
    match error {
        StoreError::Elsewhere => Cause::Elsewhere,
        StoreError::NotAStore | StoreError::Version { .. } => Cause::Foreign,
        StoreError::InUse => Cause::InUse,
        StoreError::TooSmall => Cause::NoRoom,
        StoreError::Io(error) if is_full(error) => Cause::NoRoom,
        StoreError::Io(error) => of_disk(error).unwrap_or(Cause::Failing),
    }
}

/// True if it is space that is missing.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// True if an open fails for the disk's sake, not for what was configured: worth another try.
pub(crate) fn is_disk_trouble(error: &io::Error) -> bool {
    let trouble = [
        Errno::IO,
        Errno::NODEV,
        Errno::NXIO,
        Errno::ROFS,
        Errno::NOMEDIUM,
    ];
    Errno::from_io_error(error).is_some_and(|found| trouble.contains(&found))
}

/// Errors of single reads and writes that a disk may have before it is out of use.
const FEW: u32 = 8;
