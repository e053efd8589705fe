//! What a block device is: the one trait that every layer of VMThunder shares, and the raw file behind it.
//!
//! A [`Volume`] answers one verb, [`read`](Volume::read) a [`Span`], and where it is writable `write`, `flush` and
//! `trim`. The cache, the swarm, an iSCSI session, an overlay and a file are all volumes, so they stack in any order
//! and no layer knows its neighbours. Spans are in bytes, aligned to the volume's block size.
//!
//! The crate asks no clock, opens no socket and needs no runtime; [`RawFile`] waits for the disk on the `blocking`
//! pool. Nothing here panics on a caller's numbers: a span outside the volume is an [`Error::OutOfRange`].
#![forbid(unsafe_code)]

mod error;
mod file;
mod in_place;
mod span;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;

pub use error::Error;
pub use file::{Access, RawFile, Resize, ResizeError, Space};
pub use in_place::{IN_PLACE_BYTES, InPlace};
pub use span::{BlockSize, EXTENT_BYTES, Extent, Geometry, Span};

/// What volumes answer.
pub type Result<T> = std::result::Result<T, Error>;

/// Blocks of a fixed size that can be read, and perhaps written.
///
/// Every future may be dropped at any time: a read that others wait for goes on without the one who left, a write
/// that was not answered may or may not have happened, as on any disk.
pub trait Volume: Send + Sync + 'static {
    /// Size and block size. The block size is constant for the volume's life; the size changes if the volume's owner
    /// resizes it, which of the volumes here a [`RawFile`] alone can do. Whoever keeps what it was told (a cache, a
    /// manifest, an overlay) is laid over a volume that nobody resizes; whoever serves a volume asks each time.
    fn geometry(&self) -> Geometry;

    /// Reads the whole span: exactly `span.length()` bytes, or an error and nothing.
    fn read(&self, span: Span, class: Class) -> impl Future<Output = Result<Bytes>> + Send;

    /// Writes `bytes` at `offset`, both aligned to blocks. After the answer a reader sees them, and they survive
    /// the death of this process; [`flush`](Self::flush) makes them survive the loss of power.
    fn write(&self, offset: u64, bytes: Bytes) -> impl Future<Output = Result<()>> + Send;

    /// Makes everything that was acknowledged before survive the loss of power.
    fn flush(&self) -> impl Future<Output = Result<()>> + Send;

    /// Gives the space of a span back; it reads as zeros from then on.
    fn trim(&self, span: Span) -> impl Future<Output = Result<()>> + Send;

    /// How the beginning of `span` is stored: the first run of blocks of one kind.
    /// A volume that does not know answers [`Allocation::Mapped`] for the whole span.
    fn allocation(&self, span: Span) -> impl Future<Output = Result<(Allocation, Span)>> + Send {
        std::future::ready(Ok((Allocation::Mapped, span)))
    }
}

impl<V: Volume> Volume for Arc<V> {
    fn geometry(&self) -> Geometry {
        (**self).geometry()
    }

    fn read(&self, span: Span, class: Class) -> impl Future<Output = Result<Bytes>> + Send {
        (**self).read(span, class)
    }

    fn write(&self, offset: u64, bytes: Bytes) -> impl Future<Output = Result<()>> + Send {
        (**self).write(offset, bytes)
    }

    fn flush(&self) -> impl Future<Output = Result<()>> + Send {
        (**self).flush()
    }

    fn trim(&self, span: Span) -> impl Future<Output = Result<()>> + Send {
        (**self).trim(span)
    }

    fn allocation(&self, span: Span) -> impl Future<Output = Result<(Allocation, Span)>> + Send {
        (**self).allocation(span)
    }
}

/// One run of bytes out of several, without a copy where there is only one.
pub fn join(mut parts: Vec<Bytes>) -> Bytes {
    match parts.len() {
        0 | 1 => parts.pop().unwrap_or_default(),
        _ => parts.concat().into(),
    }
}

/// For whom something is read; it decides what waits and what is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// A guest or a user on this machine waits.
    Demand,
    /// Another node waits: answered at once, forwarded at once, or refused with [`Error::Busy`].
    Peer,
    /// Read ahead of a guest.
    Prefetch,
    /// Filling the cache in the background.
    Fill,
}

/// Whether blocks take space where they are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allocation {
    /// Stored, or not known.
    Mapped,
    /// Not stored: reads as zeros.
    Hole,
}
