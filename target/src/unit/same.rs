//! WRITE SAME (SBC-3 §5.46, §5.47).

use bytes::{Bytes, BytesMut};
use iscsi_proto::scsi::{SenseData, WriteSame};
use iscsi_proto::session::Response;
use vmthunder_volume::{Span, Volume};

use super::LogicalUnit;
use super::ranges::Hold;
use super::spans::{MAX_WRITE_SAME_BYTES, chunks, count_refused};
use crate::failure::Failure;

impl<V: Volume> LogicalUnit<V> {
    /// One block, or none with NDOB. Anything else is a misunderstanding that would destroy data.
    pub(super) fn write_same_bytes(&self, same: &WriteSame, offered: u32) -> Result<u32, Failure> {
        self.write_same_span(same)?;
        match (same.no_data_out, self.block_bytes()) {
            (true, _) => Ok(0),
            (false, block_bytes) if block_bytes == offered => Ok(block_bytes),
            (false, _) => Err(count_refused(same.range).into()),
        }
    }

    pub(super) async fn write_same(
        &self,
        same: &WriteSame,
        block: Bytes,
    ) -> Result<Response, Failure> {
        let span = self.write_same_span(same)?;
        let block_bytes = usize::try_from(self.block_bytes()).unwrap_or(usize::MAX);
        let moved = if same.no_data_out {
            0
        } else {
            self.block_bytes()
        };
        if !same.no_data_out && block.len() < block_bytes {
            // The initiator kept the block back, so there is nothing to write; the residual says so.
            return Ok(Response::written(moved));
        }
        let zero = same.no_data_out || block.iter().all(|byte| *byte == 0);
        let held = self.hold(span, Hold::Shared).await?;
        if zero && same.unmap {
            self.trim(span).await?;
        } else {
            self.fill(span, &block, zero).await?;
        }
        drop(held);
        self.settle(false).await?;
        Ok(Response::written(moved))
    }

    /// Writes a block, or zeros, again and again. Whoever calls this holds the range.
    pub(super) async fn fill(&self, span: Span, block: &[u8], zero: bool) -> Result<(), Failure> {
        let longest = chunks(span).next().map_or(0, |first| first.length());
        let pattern = pattern(block, zero, longest);
        for part in chunks(span) {
            let length = usize::try_from(part.length()).unwrap_or(usize::MAX);
            let bytes = pattern.slice(..length.min(pattern.len()));
            self.put(part.offset(), bytes).await?;
        }
        Ok(())
    }

    fn write_same_span(&self, same: &WriteSame) -> Result<Span, Failure> {
        let span = self.checked(same.range.lba(), same.range.blocks().into())?;
        // No blocks would mean all up to the end, which WSNZ says is not supported.
        if span.is_empty() || span.length() > MAX_WRITE_SAME_BYTES {
            Err(count_refused(same.range).into())
        } else if same.anchor {
            Err(SenseData::cdb_field(1, 4).into())
        } else if same.unmap && !self.unit.thin {
            Err(SenseData::cdb_field(1, 3).into())
        } else {
            Ok(span)
        }
    }
}

/// `length` bytes of a repeated block.
fn pattern(block: &[u8], zero: bool, length: u64) -> Bytes {
    let length = usize::try_from(length).unwrap_or(0);
    if zero {
        return Bytes::from(vec![0; length]);
    }
    let mut out = BytesMut::with_capacity(length + block.len());
    while out.len() < length && !block.is_empty() {
        out.extend_from_slice(block);
    }
    out.truncate(length);
    out.freeze()
}
