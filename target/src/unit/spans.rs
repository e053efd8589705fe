//! From block addresses to runs of bytes, and the limits of both.
//!
//! A volume can be resized while it is served, so nothing here is kept: every command asks again, and the volume
//! itself refuses what has vanished in between.

use bytes::Bytes;
use iscsi_proto::scsi::{Form, LbaRange, Sense, SenseData};
use vmthunder_volume::{Geometry, Span, Volume};

use super::LogicalUnit;
use crate::failure::Failure;

/// Bytes in the longest READ, WRITE, VERIFY or ORWRITE.
pub(crate) const MAX_TRANSFER_BYTES: u64 = 8 << 20;

/// Bytes in the longest WRITE SAME.
pub(crate) const MAX_WRITE_SAME_BYTES: u64 = 8 << 20;

/// Bytes in the longest UNMAP, all its descriptors together.
pub(crate) const MAX_UNMAP_BYTES: u64 = 512 << 20;

/// Descriptors in one UNMAP.
pub(crate) const MAX_UNMAP_DESCRIPTORS: usize = 256;

/// Blocks in the longest COMPARE AND WRITE: as many as its field can name.
pub(crate) const MAX_COMPARE_BLOCKS: u8 = u8::MAX;

/// Bytes that are read or written at once where no buffer of the initiator sets the size.
const CHUNK_BYTES: u64 = 1 << 20;

impl<V: Volume> LogicalUnit<V> {
    pub(crate) fn geometry(&self) -> Geometry {
        self.unit.volume.geometry()
    }

    pub(crate) fn block_bytes(&self) -> u32 {
        self.geometry().block_size().bytes()
    }

    /// The span of blocks, if they exist. The first one must even if none is meant (SBC-3 §4.5). Otherwise
    /// INFORMATION names the first that does not.
    pub(super) fn checked(&self, lba: u64, blocks: u64) -> Result<Span, Failure> {
        let geometry = self.geometry();
        match geometry.span(lba, blocks) {
            Ok(span) if lba < geometry.blocks() => Ok(span),
            _ => {
                let first = lba.max(geometry.blocks());
                Err(SenseData::from(Sense::LBA_OUT_OF_RANGE)
                    .with_information(first)
                    .into())
            }
        }
    }

    /// The span of a command that moves data.
    pub(super) fn transfer(&self, range: LbaRange) -> Result<Span, Failure> {
        let span = self.checked(range.lba(), range.blocks().into())?;
        if span.length() > MAX_TRANSFER_BYTES {
            Err(count_refused(range).into())
        } else {
            Ok(span)
        }
    }

    /// The span of a command for which no blocks mean all that follow.
    pub(super) fn to_the_end(&self, range: LbaRange) -> Result<Span, Failure> {
        let rest = self.geometry().blocks().saturating_sub(range.lba());
        match range.blocks() {
            0 => self.checked(range.lba(), rest),
            blocks => self.checked(range.lba(), blocks.into()),
        }
    }

    /// As much of the data as fills whole blocks of the span: what was not sent is not written.
    pub(super) fn whole_blocks(&self, data: &Bytes, span: Span) -> Bytes {
        let block_bytes = usize::try_from(self.block_bytes()).unwrap_or(usize::MAX);
        let most = usize_of(span.length());
        let length = data.len().min(most);
        data.slice(..length - length % block_bytes)
    }
}

/// INVALID FIELD IN CDB for the number of blocks.
pub(super) fn count_refused(range: LbaRange) -> SenseData {
    let byte = match range.form() {
        Form::Six => 4,
        Form::Ten => 7,
        Form::Twelve => 6,
        Form::Sixteen => 10,
    };
    SenseData::cdb_field(byte, 7)
}

/// The length of a span whose limit is far below 4 GiB.
pub(super) fn bytes_32(span: Span) -> u32 {
    u32::try_from(span.length()).unwrap_or(u32::MAX)
}

/// The length of data of the initiator, which is limited by the length of a command's data.
pub(super) fn length_32(data: &[u8]) -> u32 {
    u32::try_from(data.len()).unwrap_or(u32::MAX)
}

/// A length in memory, as one on a volume.
pub(super) fn u64_of(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// A length on a volume, as one in memory.
pub(super) fn usize_of(length: u64) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}

/// Cuts a span into parts that fit into memory.
pub(super) fn chunks(span: Span) -> impl Iterator<Item = Span> + Send {
    let mut at = span.offset();
    std::iter::from_fn(move || {
        let part = Span::new(at, CHUNK_BYTES.min(span.end().saturating_sub(at)));
        at = part.end();
        (!part.is_empty()).then_some(part)
    })
}
