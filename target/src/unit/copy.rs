//! EXTENDED COPY(LID1) and RECEIVE COPY RESULTS (SPC-4 §6.4, §6.24): blocks are copied between units of the same target
//! without passing the initiator.
//!
//! All segments are looked at before the first block is copied. Each unit is asked as if the initiator itself read from
//! it or wrote to it, so reservations and write protection hold.

use std::sync::Arc;

use bytes::Bytes;
use iscsi_proto::scsi::copy::{
    self, CopyList, CopyState, Cscd, LIST_HEADER_BYTES, ListIdUsage, MAX_DESCRIPTOR_BYTES,
    OperatingParameters, Segment,
};
use iscsi_proto::scsi::{Command, CopyResults, Sense, SenseData};
use iscsi_proto::session::Response;
use vmthunder_volume::{Span, Volume};

use super::LogicalUnit;
use super::copies::{MAX_COPIES, failed_details};
use super::ranges::Hold;
use super::spans::length_32;
use crate::asker::Asker;
use crate::failure::Failure;
use crate::inquiry::{self, cut};
use crate::sessions::ItNexus;

/// Bytes that are read, then written.
const CHUNK_BYTES: u64 = 1 << 20;

/// A segment whose ends were found.
struct Leg<V> {
    from: Arc<LogicalUnit<V>>,
    to: Arc<LogicalUnit<V>>,
    source: Span,
    destination: u64,
}

impl<V: Volume> LogicalUnit<V> {
    /// What EXTENDED COPY takes from this unit's initiators.
    pub(crate) fn copy_limits(&self) -> OperatingParameters {
        let block_bytes = self.block_bytes();
        let exponent = u8::try_from(block_bytes.ilog2()).unwrap_or(0);
        OperatingParameters::new(block_bytes * u32::from(u16::MAX), MAX_COPIES, exponent)
    }

    /// No list at all asks for nothing.
    pub(super) fn copy_bytes(parameter_length: u32) -> Result<u32, Failure> {
        let most = LIST_HEADER_BYTES + MAX_DESCRIPTOR_BYTES;
        if usize::try_from(parameter_length).is_ok_and(|length| length <= most) {
            Ok(parameter_length)
        } else {
            Err(Sense::PARAMETER_LIST_LENGTH_ERROR.into())
        }
    }

    pub(super) async fn extended_copy(
        &self,
        list: &[u8],
        asker: &Asker<V>,
    ) -> Result<Response, Failure> {
        if list.is_empty() {
            return Ok(Response::good());
        }
        let asked = CopyList::parse(list)?;
        let list_id = (asked.usage != ListIdUsage::None).then_some(asked.list_id);
        let mut progress = self.copies.begin(&asker.nexus, list_id)?;
        let copied = async {
            let legs: Result<Vec<_>, Failure> = asked
                .segments
                .iter()
                .map(|segment| leg(segment, &asked.cscds, asker))
                .collect();
            for leg in legs? {
                leg.copy(asker, |bytes| progress.wrote(bytes)).await?;
                progress.segment_done();
            }
            Ok(())
        }
        .await;
        progress.end(&copied);
        copied?;
        Ok(Response::written(length_32(list)))
    }

    pub(super) fn copy_results(
        &self,
        action: CopyResults,
        list_id: u8,
        allocation: u32,
        asker: &Asker<V>,
    ) -> Result<Response, Failure> {
        if action == CopyResults::OperatingParameters {
            return Ok(cut(self.copy_limits().build(), allocation));
        }
        let result = self
            .copies
            .result(&asker.nexus, list_id)
            .ok_or_else(|| SenseData::cdb_field(2, 7))?;
        let bytes = match action {
            CopyResults::Status | CopyResults::OperatingParameters => result.status.build(),
            CopyResults::Data => copy::held_data(),
            CopyResults::FailedSegmentDetails => match result.sense {
                Some(sense) if result.status.state == CopyState::Failed => failed_details(&sense),
                _ => copy::no_failure(),
            },
        };
        Ok(cut(bytes, allocation))
    }
}

impl<V: Volume> Leg<V> {
    /// Copies a chunk at a time; where a unit copies onto itself, from the end that does not destroy what comes next.
    async fn copy(&self, asker: &Asker<V>, mut wrote: impl FnMut(u64)) -> Result<(), Failure> {
        let class = asker.export.class;
        let length = self.source.length();
        let backward = Arc::ptr_eq(&self.from, &self.to) && self.destination > self.source.offset();
        self.from.make_whole().await.map_err(third_party)?;
        self.to.make_whole().await.map_err(third_party)?;
        let mut done = 0;
        while done < length {
            let part = CHUNK_BYTES.min(length - done);
            let at = if backward { length - done - part } else { done };
            let source = Span::new(self.source.offset() + at, part);
            let target = Span::new(self.destination + at, part);
            let steady = self.from.steady(source).await?;
            let read = self.from.read_span(source, class).await;
            let bytes = read.map_err(third_party)?;
            drop(steady);
            let chunk = self.write(asker.nexus.clone(), target, bytes);
            self.to.to_its_end(target, chunk).await?;
            done += part;
            wrote(part);
        }
        self.to.settle(false).await.map_err(third_party)
    }

    /// Writes a chunk, unless somebody has fenced the initiator since the last one.
    fn write(
        &self,
        nexus: ItNexus,
        target: Span,
        bytes: Bytes,
    ) -> impl Future<Output = Result<(), Failure>> + Send + 'static + use<V> {
        let to = Arc::clone(&self.to);
        async move {
            let entered = to.reservations.enter(&nexus, &Command::write(0, 0));
            let _writing = entered.map_err(third_party)?;
            let _held = to.hold(target, Hold::Shared).await?;
            to.put(target.offset(), bytes).await.map_err(third_party)
        }
    }
}

/// Finds both ends of a segment, and asks the units.
fn leg<V: Volume>(segment: &Segment, cscds: &[Cscd], asker: &Asker<V>) -> Result<Leg<V>, Failure> {
    let from = unit_of(segment.source, cscds, asker)?;
    let to = unit_of(segment.destination, cscds, asker)?;
    let counted = if segment.counts_destination {
        &to
    } else {
        &from
    };
    let bytes = u64::from(segment.blocks) * u64::from(counted.block_bytes());
    let read = part_of(&from, segment.source_lba, bytes)?;
    let written = part_of(&to, segment.destination_lba, bytes)?;
    // Which blocks is of no account: the whole unit is reserved, protected or absent.
    let (reading, writing) = (Command::read(0, 0), Command::write(0, 0));
    from.judge(&reading, &asker.nexus).map_err(third_party)?;
    to.judge(&writing, &asker.nexus).map_err(third_party)?;
    Ok(Leg {
        from,
        to,
        source: read,
        destination: written.offset(),
    })
}

/// The unit of the asker's target that a descriptor names.
fn unit_of<V: Volume>(
    index: u16,
    cscds: &[Cscd],
    asker: &Asker<V>,
) -> Result<Arc<LogicalUnit<V>>, Failure> {
    let cscd = cscds
        .get(usize::from(index))
        .filter(|cscd| !cscd.null)
        .ok_or(Sense::COPY_TARGET_NOT_REACHABLE)?;
    let unit = asker
        .units
        .values()
        .find(|unit| inquiry::names(unit, &cscd.designator))
        .ok_or(Sense::COPY_TARGET_NOT_REACHABLE)?;
    if cscd.device_type != DIRECT_ACCESS || cscd.block_bytes != unit.block_bytes() {
        return Err(INCORRECT_COPY_TARGET.into());
    }
    Ok(Arc::clone(unit))
}

fn part_of<V: Volume>(unit: &LogicalUnit<V>, lba: u64, bytes: u64) -> Result<Span, Failure> {
    let block_bytes = u64::from(unit.block_bytes());
    if !bytes.is_multiple_of(block_bytes) {
        return Err(INEXACT_SEGMENT.into());
    }
    unit.checked(lba, bytes / block_bytes)
        .map_err(|_| COPY_ABORTED.into())
}

/// What the initiator of a copy is told of the failure of a unit that takes part in it.
fn third_party(failure: Failure) -> Failure {
    match failure {
        Failure::Busy => Failure::Busy,
        Failure::Conflict | Failure::Check(_) | Failure::Described(_) => THIRD_PARTY_FAILURE.into(),
    }
}

/// COPY ABORTED, without more to say.
const COPY_ABORTED: Sense = Sense::new(0xa, 0x00, 0x00);
/// THIRD PARTY DEVICE FAILURE.
const THIRD_PARTY_FAILURE: Sense = Sense::new(0xa, 0x0d, 0x01);
/// INCORRECT COPY TARGET DEVICE TYPE.
const INCORRECT_COPY_TARGET: Sense = Sense::new(0xa, 0x0d, 0x03);
/// UNEXPECTED INEXACT SEGMENT.
const INEXACT_SEGMENT: Sense = Sense::new(0xa, 0x26, 0x0a);
/// Peripheral device type of a block device.
const DIRECT_ACCESS: u8 = 0;
