//! Why a volume could not answer.

use std::io;
use std::sync::Arc;

/// Why a volume could not answer, sorted by who is to blame. Cheap to clone: many may wait for one answer.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The caller: the span does not lie inside the volume, or not on block boundaries.
    #[error("the span is outside the volume or not aligned to its blocks")]
    OutOfRange,
    /// The caller: the volume cannot be written.
    #[error("the volume is read-only")]
    ReadOnly,
    /// The caller: the volume does not support this.
    #[error("the volume does not support this")]
    Unsupported,
    /// Nobody: too much is under way; ask again, or ask somebody else.
    #[error("too much is under way; ask again")]
    Busy,
    /// Whoever holds the content: it does not answer, or there is nobody left to ask.
    #[error("nobody answers who has it")]
    Unavailable,
    /// Whoever holds the content: it answers with other content than it should.
    #[error("the content is not what it should be")]
    Corrupt,
    /// The disk: no space is left.
    #[error("no space is left")]
    NoSpace,
    /// The operator: what is stored may not take more space.
    #[error("the quota is reached")]
    Quota,
    /// The disk: what it acknowledged since the last flush may be lost. Said once, by the flush that follows the loss: who
    /// can writes it again.
    #[error("what was acknowledged since the last flush may be lost")]
    Lost,
    /// The disk: an earlier flush failed, so nothing more is promised until it is opened again.
    #[error("fenced after a failed flush")]
    Fenced,
    /// The disk: the operating system reported an error.
    #[error("input/output error: {0}")]
    Io(Arc<io::Error>),
    /// The remote device: it reported an error of its own.
    #[error("the device reported sense {key:x}/{asc:02x}/{ascq:02x}")]
    Device {
        /// Sense key.
        key: u8,
        /// Additional sense code.
        asc: u8,
        /// Additional sense code qualifier.
        ascq: u8,
    },
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace,
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly,
            _ => Self::Io(Arc::new(error)),
        }
    }
}
