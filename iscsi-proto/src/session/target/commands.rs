//! SCSI commands of a target session: their arrival, their data for the initiator, their status.

use bytes::{BufMut, Bytes, BytesMut};

use crate::scsi::{Sense, Status};
use crate::session::data_in::{Pieces, Residual};
use crate::session::data_out::WriteTransfer;
use crate::session::target::full_feature::{FullFeature, Request, lun_of};
use crate::session::task::{Kind, Progress, ScsiTask, Task};
use crate::session::{Command, Response, TaskAttribute, TaskId};
use crate::wire::ahs::{Segment, segments};
use crate::wire::bhs::{
    DataIn, FINAL, READ, RESERVED_TAG, STATUS, ScsiCommand, ScsiResponse, WRITE,
};
use crate::wire::opcode::RejectReason;

impl FullFeature {
    /// At least one of F and W is set, the attribute is one, and additional segments add up (RFC 7143 §11.3.1).
    pub(super) fn check_command(header: &ScsiCommand, ahs: &Bytes) -> Result<(), RejectReason> {
        let segments = segments(ahs).map_err(|_cut_off| RejectReason::INVALID_PDU_FIELD)?;
        if header.flags & (FINAL | WRITE) == 0 {
            return Err(RejectReason::INVALID_PDU_FIELD);
        }
        // Reserved values of defined fields break the protocol (RFC 7143 §11).
        let is_reserved = |segment: &Segment| matches!(segment, Segment::Unknown { .. });
        if segments.iter().any(is_reserved) {
            return Err(RejectReason::PROTOCOL_ERROR);
        }
        match TaskAttribute::from_bits(header.flags) {
            Some(_) => Ok(()),
            None => Err(RejectReason::PROTOCOL_ERROR),
        }
    }

    pub(super) fn scsi_command(
        &mut self,
        request: Request,
        header: ScsiCommand,
        ahs: &Bytes,
        immediate: Bytes,
    ) {
        let (reads, writes) = (header.flags & READ != 0, header.flags & WRITE != 0);
        let expected = header.expected_data_transfer_length.get();
        self.out.stats.data_out_bytes += immediate.len() as u64;
        let id = self.name_task(request.initiator_task_tag);
        let write_length = if writes { expected } else { 0 };
        let write = WriteTransfer::begin(
            write_length,
            immediate,
            header.flags & FINAL != 0,
            &self.params,
        );
        let read_length = match (reads, writes) {
            (true, true) => bidirectional_read_length(ahs),
            (true, false) => expected,
            (false, _) => 0,
        };
        let lun = lun_of(header.lun);
        // A reserved attribute was refused before the command had its turn.
        let attribute = TaskAttribute::from_bits(header.flags).unwrap_or(TaskAttribute::Untagged);
        // Who uses a tag again has sent all that it will ever send for the old task.
        self.forget_drain(request.initiator_task_tag);
        let progress = if write.fault().is_some() {
            Progress::Withheld
        } else if attribute == TaskAttribute::Aca {
            Progress::Answered(Response::check_condition(NO_ACA.to_fixed_bytes()))
        } else {
            Progress::Held(Command {
                task: id,
                lun,
                cdb: header.cdb,
                attribute,
                expected_length: expected,
                reads,
                writes,
            })
        };
        let scsi = ScsiTask {
            expected,
            read_length,
            bidirectional: reads && writes,
            input_sn: 0,
            attribute,
            write,
            progress,
        };
        let task = Task {
            id,
            lun,
            cmd_sn: request.cmd_sn,
            delivery: request.delivery,
            kind: Kind::Scsi(scsi),
        };
        self.tasks.insert(request.initiator_task_tag, task);
        self.begin_in_order(id, lun, attribute);
        self.advance_command(request.initiator_task_tag);
    }

    pub(super) fn complete(&mut self, id: TaskId, response: Response) {
        let Some(Task {
            kind: Kind::Scsi(scsi),
            ..
        }) = self.task_mut(id)
        else {
            return;
        };
        if scsi.is_with_driver() {
            scsi.progress = Progress::Answered(response);
            self.advance_command(id.initiator_task_tag);
            self.begin_held();
        }
    }

    /// Ends a task that has nothing left to wait for.
    pub(super) fn answer_command(&mut self, tag: u32, response: Response) {
        let Some(Task {
            kind: Kind::Scsi(scsi),
            delivery,
            ..
        }) = self.tasks.remove(&tag)
        else {
            return;
        };
        self.release(delivery);
        self.out.stats.responses += 1;
        self.send_answer(tag, &scsi, response);
        if self.starved {
            self.ask_for_data();
        }
    }

    fn send_answer(&mut self, tag: u32, scsi: &ScsiTask, response: Response) {
        let collapses =
            response.status == Status::GOOD && response.sense.is_none() && !scsi.bidirectional;
        let (segment, burst) = (
            self.params.max_send_data_segment_length,
            self.params.max_burst_length,
        );
        let residual = Residual::new(scsi.expected, response.transfer_length);
        let pieces = Pieces::new(response.data, scsi.read_length, segment, burst);
        let sent = pieces.left();
        self.out.stats.data_in_bytes += u64::from(sent);
        let mut data_sn = scsi.input_sn;
        for piece in pieces {
            let mut header = DataIn {
                flags: if piece.ends_sequence { FINAL } else { 0 },
                initiator_task_tag: tag.into(),
                target_transfer_tag: RESERVED_TAG.into(),
                data_sn: data_sn.into(),
                buffer_offset: piece.offset.into(),
                ..DataIn::default()
            };
            data_sn = data_sn.wrapping_add(1);
            if piece.last && collapses {
                header.flags |= STATUS | residual.flags;
                header.residual_count.set(residual.count);
                self.respond(header, piece.data);
            } else {
                self.send_unnumbered(header, piece.data);
            }
        }
        if sent > 0 && collapses {
            return;
        }
        let mut header = ScsiResponse {
            flags: FINAL | residual.flags,
            status: response.status.0,
            initiator_task_tag: tag.into(),
            exp_data_sn: data_sn.wrapping_sub(scsi.input_sn).into(),
            residual_count: residual.count.into(),
            ..ScsiResponse::default()
        };
        if scsi.bidirectional {
            // The command moved nothing but what it sends: the rest of the initiator's room is underflow.
            let read = Residual::new(scsi.read_length, sent);
            header.flags |= read.bidirectional_flags();
            header.bidirectional_read_residual_count.set(read.count);
        }
        self.respond(header, sense_segment(response.status, response.sense));
    }
}

/// Sense data behind its length (RFC 7143 §11.4.7). CHECK CONDITION never goes without.
fn sense_segment(status: Status, sense: Option<Bytes>) -> Bytes {
    let missing = || {
        (status == Status::CHECK_CONDITION).then(|| Sense::INTERNAL_TARGET_FAILURE.to_fixed_bytes())
    };
    let Some(mut sense) = sense.or_else(missing) else {
        return Bytes::new();
    };
    sense.truncate(MAX_SENSE_BYTES);
    let mut segment = BytesMut::with_capacity(2 + sense.len());
    segment.put_u16(u16::try_from(sense.len()).unwrap_or(0));
    segment.put_slice(&sense);
    segment.freeze()
}

fn bidirectional_read_length(ahs: &Bytes) -> u32 {
    let length = |segment: &Segment| match segment {
        Segment::BidirectionalReadLength(length) => Some(*length),
        _ => None,
    };
    segments(ahs)
        .unwrap_or_default()
        .iter()
        .find_map(length)
        .unwrap_or(0)
}

/// INVALID MESSAGE ERROR, ILLEGAL REQUEST: the ACA attribute without the condition, which no unit here establishes
/// (SAM-5 §8.6).
const NO_ACA: Sense = Sense::new(0x05, 0x49, 0x00);

/// The most that sense data may be (SPC-4 §4.5.1).
const MAX_SENSE_BYTES: usize = 252;
