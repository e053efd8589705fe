//! COMPARE AND WRITE (SBC-3 §5.2) and ORWRITE (SBC-3 §5.12): what is read and what is written are one step for
//! everybody else who writes.

use bytes::Bytes;
use iscsi_proto::scsi::{Caching, LbaRange, SenseData};
use iscsi_proto::session::Response;
use vmthunder_volume::{Class, Span, Volume};

use super::LogicalUnit;
use super::ranges::Hold;
use super::spans::{bytes_32, u64_of};
use super::verify::{first_difference, miscompare};
use crate::failure::Failure;

impl<V: Volume> LogicalUnit<V> {
    /// Twice the blocks, and nothing else: what is missing, or too much, would shift what is written.
    pub(super) fn compare_and_write_bytes(
        &self,
        lba: u64,
        blocks: u8,
        offered: u32,
    ) -> Result<u32, Failure> {
        let span = self.checked(lba, blocks.into())?;
        let both = bytes_32(span).saturating_mul(2);
        if both != offered {
            return Err(SenseData::cdb_field(13, 7).into());
        }
        Ok(both)
    }

    pub(super) async fn compare_and_write(
        &self,
        lba: u64,
        blocks: u8,
        caching: Caching,
        data: Bytes,
        class: Class,
    ) -> Result<Response, Failure> {
        let span = self.checked(lba, blocks.into())?;
        let (expected, new) = data
            .split_at_checked(data.len() / 2)
            .map(|(expected, _)| (expected, data.slice(expected.len()..)))
            .unwrap_or_default();
        if u64::try_from(expected.len()) != Ok(span.length()) || expected.len() != new.len() {
            return Err(SenseData::cdb_field(13, 7).into());
        }
        if span.is_empty() {
            return Ok(Response::good());
        }
        let _held = self.hold(span, Hold::Alone).await?;
        let found = self.read_span(span, class).await?;
        if let Some(at) = first_difference(&found, expected) {
            return Err(miscompare(at).into());
        }
        self.put(span.offset(), new).await?;
        self.settle(caching.force_unit_access).await?;
        Ok(Response::written(bytes_32(span).saturating_mul(2)))
    }

    /// ORs as many whole blocks as the initiator sent.
    pub(super) async fn or_write(
        &self,
        range: LbaRange,
        caching: Caching,
        data: &Bytes,
        class: Class,
    ) -> Result<Response, Failure> {
        let span = self.transfer(range)?;
        let data = self.whole_blocks(data, span);
        if data.is_empty() {
            return Ok(Response::written(bytes_32(span)));
        }
        let sent = Span::new(span.offset(), u64_of(data.len()));
        let _held = self.hold(sent, Hold::Alone).await?;
        let found = self.read_span(sent, class).await?;
        let either: Vec<u8> = found
            .iter()
            .zip(&data)
            .map(|(old, new)| old | new)
            .collect();
        self.put(sent.offset(), either.into()).await?;
        self.settle(caching.force_unit_access).await?;
        Ok(Response::written(bytes_32(span)))
    }
}
