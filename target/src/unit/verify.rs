//! VERIFY and WRITE AND VERIFY (SBC-3 §5.31 to §5.43).

use bytes::Bytes;
use iscsi_proto::scsi::{ByteCheck, LbaRange, Sense, SenseData};
use iscsi_proto::session::Response;
use vmthunder_volume::{Class, Span, Volume};

use super::LogicalUnit;
use super::spans::{bytes_32, chunks};
use crate::failure::Failure;

impl<V: Volume> LogicalUnit<V> {
    /// Bytes that VERIFY compares with.
    pub(super) fn verify_bytes(&self, range: LbaRange, check: ByteCheck) -> Result<u32, Failure> {
        let span = self.transfer(range)?;
        Ok(match check {
            ByteCheck::Readable => 0,
            ByteCheck::Compare => bytes_32(span),
            ByteCheck::CompareOne if span.is_empty() => 0,
            ByteCheck::CompareOne => self.block_bytes(),
        })
    }

    /// In the ten-byte form and its kin 11b is reserved: the data to write is sent, so there is no one block.
    pub(super) fn write_and_verify_bytes(
        &self,
        range: LbaRange,
        check: ByteCheck,
    ) -> Result<u32, Failure> {
        match check {
            ByteCheck::CompareOne => Err(SenseData::cdb_field(1, 2).into()),
            ByteCheck::Readable | ByteCheck::Compare => Ok(bytes_32(self.transfer(range)?)),
        }
    }

    pub(super) async fn verify(
        &self,
        range: LbaRange,
        check: ByteCheck,
        data: Bytes,
        class: Class,
    ) -> Result<Response, Failure> {
        let span = self.transfer(range)?;
        let asked = self.verify_bytes(range, check)?;
        let _steady = self.steady(span).await?;
        match check {
            ByteCheck::Readable => self.readable(span, class).await?,
            ByteCheck::Compare => self.compare(span, data, class).await?,
            ByteCheck::CompareOne => self.compare_one(span, &data, class).await?,
        }
        Ok(Response::written(asked))
    }

    /// Written, flushed, read again.
    pub(super) async fn write_and_verify(
        &self,
        range: LbaRange,
        check: ByteCheck,
        data: Bytes,
        class: Class,
    ) -> Result<Response, Failure> {
        let span = self.transfer(range)?;
        self.write_blocks(span, &data).await?;
        self.flush().await?;
        let _steady = self.steady(span).await?;
        match check {
            ByteCheck::Compare => self.compare(span, data, class).await?,
            ByteCheck::Readable | ByteCheck::CompareOne => self.readable(span, class).await?,
        }
        Ok(Response::written(bytes_32(span)))
    }

    async fn readable(&self, span: Span, class: Class) -> Result<(), Failure> {
        for part in chunks(span) {
            self.read_span(part, class).await?;
        }
        Ok(())
    }

    /// Compares as far as data was sent; the rest has to be readable.
    async fn compare(&self, span: Span, data: Bytes, class: Class) -> Result<(), Failure> {
        let mut rest = self.whole_blocks(&data, span);
        let mut offset = 0;
        for part in chunks(span) {
            let found = self.read_span(part, class).await?;
            let expected = rest.split_to(found.len().min(rest.len()));
            if let Some(at) = first_difference(&found, &expected) {
                return Err(miscompare(offset + at).into());
            }
            offset += expected.len();
        }
        Ok(())
    }

    async fn compare_one(&self, span: Span, block: &Bytes, class: Class) -> Result<(), Failure> {
        let block_bytes = usize::try_from(self.block_bytes()).unwrap_or(usize::MAX);
        if block.len() < block_bytes {
            return self.readable(span, class).await;
        }
        for part in chunks(span) {
            let found = self.read_span(part, class).await?;
            for one in found.chunks(block_bytes) {
                if let Some(at) = first_difference(one, block) {
                    return Err(miscompare(at).into());
                }
            }
        }
        Ok(())
    }
}

/// Where two runs of bytes differ first, as far as both go.
pub(super) fn first_difference(found: &[u8], expected: &[u8]) -> Option<usize> {
    // Equality is one comparison of memory; the place is looked for only if there is one.
    let length = found.len().min(expected.len());
    if found.get(..length) == expected.get(..length) {
        return None;
    }
    found
        .iter()
        .zip(expected)
        .position(|(found, expected)| found != expected)
}

/// MISCOMPARE, with the offset of the first byte of the data that differs (SBC-3 §5.2, §5.31).
pub(super) fn miscompare(offset: usize) -> SenseData {
    let offset = u64::try_from(offset).unwrap_or(u64::MAX);
    SenseData::from(Sense::MISCOMPARE).with_information(offset)
}
