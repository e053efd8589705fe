//! UNMAP (SBC-3 §5.28).

use iscsi_proto::scsi::{SenseData, unmap};
use iscsi_proto::session::Response;
use vmthunder_volume::{Span, Volume};

use super::LogicalUnit;
use super::ranges::Hold;
use super::spans::{MAX_UNMAP_BYTES, MAX_UNMAP_DESCRIPTORS, length_32};
use crate::failure::Failure;

impl<V: Volume> LogicalUnit<V> {
    /// All descriptors are looked at before any block is given back.
    pub(super) async fn unmap(&self, list: &[u8]) -> Result<Response, Failure> {
        if list.is_empty() {
            return Ok(Response::good());
        }
        let runs = unmap::parse(list)?;
        if runs.len() > MAX_UNMAP_DESCRIPTORS {
            return Err(SenseData::list_field(2, 7).into());
        }
        let most = MAX_UNMAP_BYTES / u64::from(self.block_bytes());
        let mut total = 0u64;
        let mut spans = Vec::new();
        for (at, (lba, blocks)) in runs.into_iter().enumerate() {
            total = total.saturating_add(blocks.into());
            if total > most {
                return Err(SenseData::list_field(8 + at * 16 + 8, 7).into());
            }
            // A descriptor of no blocks means nothing, wherever it points.
            if blocks != 0 {
                spans.push(self.checked(lba, blocks.into())?);
            }
        }
        if let Some(all) = around(&spans) {
            // One place in line for all runs: who fences this when it is aborted comes behind the last of them.
            let _held = self.hold(all, Hold::Shared).await?;
            for span in spans {
                self.trim(span).await?;
            }
        }
        self.settle(false).await?;
        Ok(Response::written(length_32(list)))
    }
}

/// The run from the first block of all to the last.
fn around(spans: &[Span]) -> Option<Span> {
    let first = spans.iter().map(|span| span.offset()).min()?;
    let end = spans.iter().map(|span| span.end()).max()?;
    Some(Span::new(first, end - first))
}
