//! READ, WRITE, SYNCHRONIZE CACHE, PRE-FETCH, GET LBA STATUS (SBC-3 §5).

use bytes::Bytes;
use iscsi_proto::scsi::lba_status::{self, LbaStatus, Provisioning};
use iscsi_proto::scsi::{Caching, LbaRange};
use iscsi_proto::session::Response;
use vmthunder_volume::{Allocation, Class, Span, Volume};

use super::LogicalUnit;
use super::ranges::Hold;
use super::spans::{bytes_32, chunks, u64_of, usize_of};
use crate::asker::Asker;
use crate::failure::{Access, Failure};
use crate::inquiry::cut;

/// Descriptors in one answer to GET LBA STATUS.
const MAX_STATUS_DESCRIPTORS: usize = 64;

/// Bytes that one PRE-FETCH brings in: it is advice, so the rest of a longer one is left out.
const MAX_PREFETCH_BYTES: u64 = 64 << 20;

impl<V: Volume> LogicalUnit<V> {
    /// FUA asks for what the medium holds. A volume has no second way past its cache, so the cache is emptied first:
    /// what is answered then survives the loss of power (SBC-3 §4.15). DPO is advice to a cache that is not ours: the
    /// volume keeps what it likes.
    pub(super) async fn read(
        &self,
        range: LbaRange,
        caching: Caching,
        class: Class,
    ) -> Result<Response, Failure> {
        let span = self.transfer(range)?;
        if span.is_empty() {
            return Ok(Response::good());
        }
        if caching.force_unit_access && !self.unit.read_only {
            self.flush().await?;
        }
        let data = self.read_steadily(span, class).await?;
        Ok(Response::read(vec![data]))
    }

    /// Writes what the initiator sent; the residual tells it how much was asked for.
    pub(super) async fn write(
        &self,
        range: LbaRange,
        caching: Caching,
        data: &Bytes,
    ) -> Result<Response, Failure> {
        let span = self.transfer(range)?;
        self.write_blocks(span, data).await?;
        self.settle(caching.force_unit_access).await?;
        Ok(Response::written(bytes_32(span)))
    }

    /// Writes what was sent of a span's blocks, beside other plain writes. Where the data ends inside a block, the rest
    /// of the block stays as it is.
    pub(super) async fn write_blocks(&self, span: Span, data: &Bytes) -> Result<(), Failure> {
        let whole = self.whole_blocks(data, span);
        let part = data.slice(whole.len()..data.len().min(usize_of(span.length())));
        if !whole.is_empty() {
            let sent = Span::new(span.offset(), u64_of(whole.len()));
            let _held = self.hold(sent, Hold::Shared).await?;
            self.put(span.offset(), whole.clone()).await?;
        }
        if !part.is_empty() {
            let block = Span::new(
                span.offset() + u64_of(whole.len()),
                self.block_bytes().into(),
            );
            let _held = self.hold(block, Hold::Alone).await?;
            let old = self.read_span(block, Class::Demand).await?;
            let merged = [&part, old.get(part.len()..).unwrap_or_default()].concat();
            self.put(block.offset(), merged.into()).await?;
        }
        Ok(())
    }

    /// Whoever calls this holds the range.
    pub(super) async fn put(&self, offset: u64, data: Bytes) -> Result<(), Failure> {
        let written = self.unit.volume.write(offset, data).await;
        written.map_err(|error| self.failed(&error, Access::Writing))
    }

    pub(super) async fn read_span(&self, span: Span, class: Class) -> Result<Bytes, Failure> {
        let read = self.unit.volume.read(span, class).await;
        read.map_err(|error| self.failed(&error, Access::Reading))
    }

    /// Whoever calls this holds the range.
    pub(super) async fn trim(&self, span: Span) -> Result<(), Failure> {
        let trimmed = self.unit.volume.trim(span).await;
        trimmed.map_err(|error| self.failed(&error, Access::Writing))
    }

    pub(super) async fn flush(&self) -> Result<(), Failure> {
        let flushed = self.unit.volume.flush().await;
        flushed.map_err(|error| self.failed(&error, Access::Writing))
    }

    /// Ends a command that wrote: with FUA, and for every command while the write cache is switched off, the answer
    /// means that the medium has the data.
    pub(super) async fn settle(&self, force: bool) -> Result<(), Failure> {
        if force || !self.modes.write_cache() {
            self.flush().await?;
        }
        Ok(())
    }

    /// With IMMED the answer does not wait. A flush that fails then is not lost: the volume refuses whatever is
    /// written or flushed after it.
    pub(super) async fn synchronize(
        &self,
        range: LbaRange,
        immediate: bool,
        asker: &Asker<V>,
    ) -> Result<Response, Failure> {
        self.to_the_end(range)?;
        if self.unit.read_only {
            return Ok(Response::good());
        }
        if !immediate {
            self.flush().await?;
        } else if let unit = self.own(asker)?
            && unit.flushing.begin()
        {
            tokio::spawn(async move {
                // What fails is in the log, and in the next answer.
                let flush = async || {
                    let _ = unit.flush().await;
                };
                unit.flushing.run(flush).await;
            });
        }
        Ok(Response::good())
    }

    /// Reads ahead. What cannot be had now is not missed: the read that needs it will say so.
    pub(super) async fn pre_fetch(
        &self,
        range: LbaRange,
        immediate: bool,
        asker: &Asker<V>,
    ) -> Result<Response, Failure> {
        let span = self.to_the_end(range)?;
        let span = Span::new(span.offset(), span.length().min(MAX_PREFETCH_BYTES));
        if !immediate {
            self.read_ahead(span).await;
        } else if let unit = self.own(asker)?
            && unit.fetching.begin()
        {
            tokio::spawn(async move { unit.fetching.run(|| unit.read_ahead(span)).await });
        }
        Ok(Response::good())
    }

    async fn read_ahead(&self, span: Span) {
        for part in chunks(span) {
            if self.unit.volume.read(part, Class::Prefetch).await.is_err() {
                return;
            }
        }
    }

    /// What the volume below knows of its blocks; a cache in between is never asked.
    pub(super) async fn lba_status(&self, lba: u64, allocation: u32) -> Result<Response, Failure> {
        let mut rest = self.checked(lba, self.geometry().blocks().saturating_sub(lba))?;
        let block_bytes = u64::from(self.block_bytes());
        let room = usize::try_from(allocation)
            .unwrap_or(usize::MAX)
            .saturating_sub(8)
            / lba_status::DESCRIPTOR_BYTES;
        let mut runs = Vec::new();
        while !rest.is_empty() && runs.len() < room.clamp(1, MAX_STATUS_DESCRIPTORS) {
            let allocated = self.unit.volume.allocation(rest).await;
            let (kind, run) = allocated.map_err(|error| self.failed(&error, Access::Reading))?;
            let length = run.length().clamp(block_bytes, rest.length());
            let blocks = u32::try_from(length / block_bytes);
            runs.push(LbaStatus {
                lba: rest.offset() / block_bytes,
                blocks: blocks.unwrap_or(u32::MAX),
                provisioning: match kind {
                    Allocation::Mapped => Provisioning::Mapped,
                    Allocation::Hole => Provisioning::Deallocated,
                },
            });
            // Runs behind one that was cut would not follow it.
            if blocks.is_err() {
                break;
            }
            rest = Span::new(rest.offset() + length, rest.length() - length);
        }
        Ok(cut(lba_status::build(&runs), allocation))
    }
}
