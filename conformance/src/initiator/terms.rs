//! What a login agreed on about data transfers, and Data-In cut accordingly (RFC 7143 §11.7, §13).

use bytes::Bytes;
use iscsi_proto::wire::Pdu;
use iscsi_proto::wire::bhs::{
    DataIn, FINAL, OVERFLOW, READ, RESERVED_TAG, STATUS, ScsiCommand, UNDERFLOW,
};

use crate::initiator::caller::Caller;
use crate::initiator::negotiate::{DEFAULT_SEGMENT, Negotiation, numeral};
use crate::initiator::scsi::{Answer, write_of};

/// The results of the negotiation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    pub(crate) header_digest: bool,
    pub(crate) data_digest: bool,
    /// What the initiator takes in one segment.
    pub(crate) initiator_segment: u32,
    /// What the target takes in one segment.
    pub(crate) target_segment: u32,
    pub(crate) max_burst: u32,
    pub(crate) first_burst: u32,
    pub(crate) immediate_data: bool,
    pub(crate) max_r2t: u32,
}

impl Terms {
    pub(crate) fn of(negotiation: &Negotiation) -> Self {
        let results = &negotiation.results;
        let number = |key, default| results.get(key).and_then(numeral).unwrap_or(default);
        let max_burst = number("MaxBurstLength", 262_144);
        Self {
            header_digest: results.get("HeaderDigest") == Some("CRC32C"),
            data_digest: results.get("DataDigest") == Some("CRC32C"),
            initiator_segment: number("MaxRecvDataSegmentLength", DEFAULT_SEGMENT),
            target_segment: negotiation.own_limit(),
            max_burst,
            // Nobody may send more, whatever was said about it.
            first_burst: number("FirstBurstLength", 65_536).min(max_burst),
            immediate_data: results.get("ImmediateData") != Some("No"),
            max_r2t: number("MaxOutstandingR2T", 1),
        }
    }
}

impl Caller {
    /// The Data-In PDUs of a command, without numbers; the last one has the status, if it may.
    pub(crate) fn data_ins(&self, command: &ScsiCommand, answer: &Answer) -> Vec<Pdu> {
        let room = length(command.expected_data_transfer_length.get());
        let data = answer.data.slice(..answer.data.len().min(room));
        if command.flags & READ == 0 || data.is_empty() {
            return Vec::new();
        }
        let status_inside = answer.status == 0 && !self.manner.status_apart;
        let (residual_flags, residual) = self.residual(command, answer);
        let cuts = self.cuts(data.len());
        let last = cuts.len().saturating_sub(1);
        let mut pdus = Vec::new();
        let empty = self.manner.empty_first.then_some((0, 0, false));
        let last = last + usize::from(empty.is_some());
        let cuts = empty.into_iter().chain(cuts);
        for (number, (offset, end, ends_sequence)) in cuts.enumerate() {
            let with_status = number == last && status_inside;
            let status_flags = if with_status {
                STATUS | residual_flags
            } else {
                0
            };
            let header = DataIn {
                flags: status_flags | if ends_sequence { FINAL } else { 0 },
                status: 0,
                initiator_task_tag: command.initiator_task_tag,
                target_transfer_tag: RESERVED_TAG.into(),
                data_sn: word(number).into(),
                buffer_offset: word(offset).into(),
                residual_count: if with_status { residual } else { 0 }.into(),
                ..DataIn::default()
            };
            pdus.push(Pdu::new(header, data.slice(offset..end)));
        }
        pdus
    }

    /// Where the data of a read is cut: from, to, and whether a sequence ends there. A segment that does not fill its
    /// last word ends a sequence (RFC 7143 §11.7.7).
    fn cuts(&self, total: usize) -> Vec<(usize, usize, bool)> {
        let limit = length(self.terms.initiator_segment).max(1);
        let burst = length(self.terms.max_burst).max(1);
        let mut wishes = self.manner.segments.iter().cycle();
        let (mut at, mut in_burst) = (0, 0);
        let mut cuts = Vec::new();
        while at < total {
            let wish = wishes.next().map_or(limit, |wish| length(*wish).max(1));
            let taken = wish.min(limit).min(burst - in_burst).min(total - at);
            let ends = in_burst + taken == burst || at + taken == total || !taken.is_multiple_of(4);
            cuts.push((at, at + taken, ends));
            in_burst = if ends { 0 } else { in_burst + taken };
            at += taken;
        }
        cuts
    }

    /// Residual flags and count of a command that ends so (RFC 7143 §11.4.5).
    pub(crate) fn residual(&self, command: &ScsiCommand, answer: &Answer) -> (u8, u32) {
        let expected = u64::from(command.expected_data_transfer_length.get());
        let moved = match write_of(&command.cdb) {
            _ if answer.status != 0 && answer.data.is_empty() => 0,
            Some(blocks) => blocks.count.saturating_mul(512),
            None if command.flags & READ == 0 => expected,
            None => answer.data.len() as u64,
        };
        let count = u32::try_from(moved.abs_diff(expected)).unwrap_or(u32::MAX);
        match moved.cmp(&expected) {
            std::cmp::Ordering::Less => (UNDERFLOW, count),
            std::cmp::Ordering::Equal => (0, 0),
            std::cmp::Ordering::Greater => (OVERFLOW, count),
        }
    }
}

/// Bytes of a segment, for slices.
pub(crate) fn length(bytes: u32) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// A number for the wire.
pub(crate) fn word(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Where a PDU's data is in a command's.
pub(crate) fn end_of(offset: u32, data: &Bytes) -> u64 {
    u64::from(offset) + data.len() as u64
}
