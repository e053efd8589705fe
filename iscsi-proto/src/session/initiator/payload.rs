//! The data of one command: what comes in, put together; what goes out, in the portions that are asked for
//! (RFC 7143 §11.7 and §11.8).

use bytes::{Bytes, BytesMut};

use crate::params::Params;
use crate::session::initiator::ProtocolError;
use crate::wire::Pdu;
use crate::wire::bhs::{DataIn, DataOut, FINAL, RESERVED_TAG, ReadyToTransfer};
use crate::wire::framer::Segment;
use crate::wire::serial::Serial;

/// Data that comes in, in a buffer of the command's own: no more than it expects, whatever a target sends.
#[derive(Debug)]
pub(super) struct Incoming {
    expected: u32,
    /// Where the data ends whose headers came; the buffer's end is behind while it is on its way.
    announced: u32,
    next_sn: u32,
    buffer: BytesMut,
    damaged: bool,
}

impl Incoming {
    /// Room for `expected` bytes.
    pub(super) fn new(expected: u32) -> Self {
        Self {
            expected,
            announced: 0,
            next_sn: 0,
            buffer: BytesMut::new(),
            damaged: false,
        }
    }

    /// Checks the header of the data that comes next; how large a buffer it needs, if there is none yet. Order is agreed
    /// upon (DataPDUInOrder, DataSequenceInOrder), so nothing may be missing.
    pub(super) fn announce(&mut self, header: &DataIn) -> Result<Option<usize>, ProtocolError> {
        let length = header.data_segment_length.get();
        if header.data_sn.get() != self.next_sn {
            return Err(ProtocolError::DataSn);
        }
        let end = self
            .announced
            .checked_add(length)
            .filter(|end| *end <= self.expected);
        let (Some(end), true) = (
            end,
            header.buffer_offset.get() == self.announced || length == 0,
        ) else {
            return Err(ProtocolError::DataBounds);
        };
        self.next_sn = self.next_sn.wrapping_add(1);
        self.announced = end;
        if self.buffer.capacity() == 0 && length > 0 {
            return Ok(Some(bytes(self.expected.min(MAX_FIRST_ROOM).max(length))));
        }
        self.buffer.reserve(self.left());
        Ok(None)
    }

    /// Gives the command a buffer.
    pub(super) fn place(&mut self, buffer: BytesMut) {
        self.buffer = buffer;
    }

    /// Announced bytes that did not come yet.
    pub(super) fn left(&self) -> usize {
        bytes(self.announced).saturating_sub(self.buffer.len())
    }

    /// Where they go.
    pub(super) fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// All data of a segment came; true if it is what was sent. If not, the read goes on, but its data is worthless.
    pub(super) fn settle(&mut self, segment: Segment, tail: &[u8]) -> bool {
        let start = self.buffer.len().saturating_sub(segment.data_bytes());
        let is_sound = segment.is_sound(self.buffer.get(start..).unwrap_or_default(), tail);
        self.damaged |= !is_sound;
        is_sound
    }

    /// The bytes that there is room for.
    pub(super) fn expected(&self) -> u32 {
        self.expected
    }

    /// True if a segment was damaged.
    pub(super) fn is_damaged(&self) -> bool {
        self.damaged
    }

    /// All that came.
    pub(super) fn finish(self) -> Bytes {
        self.buffer.freeze()
    }
}

/// Data that goes out.
#[derive(Debug)]
pub(super) struct Outgoing {
    data: Bytes,
    /// Where the next R2T has to begin, or behind it.
    next_offset: u32,
    next_r2t_sn: u32,
    open_r2ts: u16,
}

/// A run of data that may be sent now, as a sequence of Data-Out PDUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sequence {
    pub(super) initiator_task_tag: u32,
    target_transfer_tag: u32,
    lun: u64,
    offset: u32,
    end: u32,
    data_sn: u32,
}

/// What goes along with a command, and what follows it unasked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unasked {
    /// In the command's own PDU.
    pub(super) immediate: Bytes,
    /// In Data-Out PDUs behind it.
    pub(super) sequence: Option<Sequence>,
}

impl Outgoing {
    /// All of `data`, none of it sent.
    pub(super) fn new(data: Bytes) -> Self {
        Self {
            data,
            next_offset: 0,
            next_r2t_sn: 0,
            open_r2ts: 0,
        }
    }

    /// Begins the command: what may be sent without being asked for (RFC 7143 §13.10, §13.11 and §13.14).
    pub(super) fn begin(&mut self, params: &Params, initiator_task_tag: u32, lun: u64) -> Unasked {
        let total = self.total();
        let first_burst = params
            .first_burst_length
            .min(params.max_burst_length)
            .min(total);
        let immediate = match params.immediate_data {
            true => first_burst.min(params.max_send_data_segment_length),
            false => 0,
        };
        let unasked = if params.initial_r2t {
            immediate
        } else {
            first_burst
        };
        self.next_offset = unasked;
        let sequence = Sequence {
            initiator_task_tag,
            target_transfer_tag: RESERVED_TAG,
            lun,
            offset: immediate,
            end: unasked,
            data_sn: 0,
        };
        Unasked {
            immediate: self.slice(0, immediate),
            sequence: (unasked > immediate).then_some(sequence),
        }
    }

    /// Checks an R2T and grants it.
    pub(super) fn ask(
        &mut self,
        r2t: &ReadyToTransfer,
        params: &Params,
    ) -> Result<Sequence, ProtocolError> {
        let (offset, length) = (
            r2t.buffer_offset.get(),
            r2t.desired_data_transfer_length.get(),
        );
        if r2t.r2t_sn.get() != self.next_r2t_sn {
            return Err(ProtocolError::DataSn);
        }
        if self.open_r2ts >= params.max_outstanding_r2t.max(1) {
            return Err(ProtocolError::TooManyR2ts);
        }
        let end = offset
            .checked_add(length)
            .filter(|end| *end <= self.total());
        let wanted = length != 0 && length <= params.max_burst_length && offset >= self.next_offset;
        let (Some(end), true) = (end, wanted && r2t.target_transfer_tag.get() != RESERVED_TAG)
        else {
            return Err(ProtocolError::R2tBounds);
        };
        self.next_offset = end;
        self.next_r2t_sn = self.next_r2t_sn.wrapping_add(1);
        self.open_r2ts += 1;
        Ok(Sequence {
            initiator_task_tag: r2t.initiator_task_tag.get(),
            target_transfer_tag: r2t.target_transfer_tag.get(),
            lun: r2t.lun.get(),
            offset,
            end,
            data_sn: 0,
        })
    }

    /// The next Data-Out PDU of a sequence, and true if it is the last one.
    pub(super) fn next_pdu(
        &mut self,
        sequence: &mut Sequence,
        params: &Params,
        exp_stat_sn: Serial,
    ) -> (Pdu, bool) {
        // A peer that announced zero has nothing else to say; one block at a time still ends.
        let most = params.max_send_data_segment_length.max(512);
        let end = sequence.end.min(sequence.offset.saturating_add(most));
        let last = end == sequence.end;
        let header = DataOut {
            flags: if last { FINAL } else { 0 },
            lun: sequence.lun.into(),
            initiator_task_tag: sequence.initiator_task_tag.into(),
            target_transfer_tag: sequence.target_transfer_tag.into(),
            exp_stat_sn: exp_stat_sn.0.into(),
            data_sn: sequence.data_sn.into(),
            buffer_offset: sequence.offset.into(),
            ..DataOut::default()
        };
        let pdu = Pdu::new(header, self.slice(sequence.offset, end));
        sequence.offset = end;
        sequence.data_sn = sequence.data_sn.wrapping_add(1);
        if last && sequence.target_transfer_tag != RESERVED_TAG {
            self.open_r2ts = self.open_r2ts.saturating_sub(1);
        }
        (pdu, last)
    }

    /// Bytes in all.
    pub(super) fn total(&self) -> u32 {
        u32::try_from(self.data.len()).unwrap_or(u32::MAX)
    }

    fn slice(&self, from: u32, to: u32) -> Bytes {
        let length = self.data.len();
        let at = |offset: u32| bytes(offset).min(length);
        self.data.slice(at(from)..at(to).max(at(from)))
    }
}

fn bytes(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// Bytes of a buffer before any of them came; one for more grows as they come.
const MAX_FIRST_ROOM: u32 = 4 * 1024 * 1024;
