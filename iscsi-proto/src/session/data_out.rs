//! Write data on its way in: immediate, unsolicited, and asked for by R2T (RFC 7143 §4.2.5.2, §11.7 and §11.8).
//!
//! Data arrives in order or not at all: sequences are asked for in order and PDUs within them are numbered. After the
//! first fault nothing is kept any more, but the final PDU of every sequence is still awaited, because the answer may
//! not go out before it (RFC 7143 §7.8).

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use crate::params::Params;
use crate::scsi::Sense;
use crate::wire::bhs::RESERVED_TAG;

/// The write data of one command.
#[derive(Debug)]
pub(crate) struct WriteTransfer {
    expected: u32,
    max_burst: u32,
    max_outstanding: usize,
    received: u32,
    parts: Vec<Bytes>,
    /// Short parts, copied together: what follows `parts`.
    joined: BytesMut,
    /// Everything before this offset came, is on its way unsolicited, or was asked for.
    asked: u32,
    unsolicited: Option<Sequence>,
    solicited: VecDeque<Sequence>,
    wanted: Option<u32>,
    fault: Option<Fault>,
}

/// One sequence of Data-Out PDUs, until its final one.
#[derive(Debug)]
struct Sequence {
    tag: u32,
    next: u32,
    end: u32,
    data_sn: u32,
}

/// What is wrong with the data, first fault first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Unsolicited data where none is allowed.
    Unexpected,
    /// More or less data than announced, or at another place.
    WrongAmount,
    /// Data was lost or damaged.
    Damaged,
}

/// One Data-Out PDU.
#[derive(Clone, Debug)]
pub(crate) struct DataOutPdu {
    pub(crate) tag: u32,
    pub(crate) data_sn: u32,
    pub(crate) offset: u32,
    pub(crate) is_final: bool,
    /// The data, or why it cannot be used.
    pub(crate) data: Result<Bytes, Fault>,
}

/// What is to be said about a PDU at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing.
    Taken,
    /// A field of it is invalid: Reject (RFC 7143 §11.17.1, note 2).
    InvalidField,
}

/// A request for data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReadyFor {
    pub(crate) offset: u32,
    pub(crate) length: u32,
}

impl WriteTransfer {
    /// The transfer of a command that writes `expected` bytes; 0 for one that does not write.
    pub(crate) fn begin(expected: u32, immediate: Bytes, is_final: bool, params: &Params) -> Self {
        let length = u32::try_from(immediate.len()).unwrap_or(u32::MAX);
        let allowed = expected.min(params.first_burst_length);
        let mut transfer = Self {
            expected,
            max_burst: params.max_burst_length.max(1),
            max_outstanding: usize::from(params.max_outstanding_r2t.max(1)),
            received: 0,
            parts: Vec::new(),
            joined: BytesMut::new(),
            asked: length.min(allowed),
            unsolicited: None,
            solicited: VecDeque::new(),
            wanted: None,
            fault: None,
        };
        if length > 0 && (!params.immediate_data || expected == 0) {
            transfer.fail(Fault::Unexpected);
        } else if length > allowed {
            transfer.fail(Fault::WrongAmount);
        } else {
            transfer.keep(immediate);
        }
        if !is_final {
            if params.initial_r2t {
                transfer.fail(Fault::Unexpected);
            }
            transfer.unsolicited = Some(Sequence {
                tag: RESERVED_TAG,
                next: transfer.asked,
                end: allowed,
                data_sn: 0,
            });
            transfer.asked = allowed;
        }
        transfer
    }

    /// Asks for the first `length` bytes.
    pub(crate) fn want(&mut self, length: u32) {
        self.wanted = Some(length.min(self.expected));
    }

    /// Takes one PDU in.
    pub(crate) fn accept(&mut self, pdu: DataOutPdu) -> Verdict {
        let Some(index) = self.sequence_of(pdu.tag) else {
            if pdu.tag != RESERVED_TAG {
                return Verdict::InvalidField;
            }
            return self.accept_uninvited(&pdu);
        };
        let is_final = pdu.is_final;
        let verdict = self.accept_within(index, pdu);
        if is_final {
            self.end_sequence(index);
        }
        verdict
    }

    /// The next sequence to ask for, if it is time to ask.
    pub(crate) fn next_request(&self) -> Option<ReadyFor> {
        let end = self.wanted?;
        let idle = self.fault.is_none()
            && self.unsolicited.is_none()
            && self.solicited.len() < self.max_outstanding;
        let length = end
            .checked_sub(self.asked)
            .filter(|&length| idle && length > 0)?;
        Some(ReadyFor {
            offset: self.asked,
            length: length.min(self.max_burst),
        })
    }

    /// The sequence was asked for under this tag.
    pub(crate) fn requested(&mut self, request: ReadyFor, tag: u32) {
        let end = request.offset.saturating_add(request.length);
        self.asked = end;
        self.solicited.push_back(Sequence {
            tag,
            next: request.offset,
            end,
            data_sn: 0,
        });
    }

    /// The data that was wanted, once, when it is whole.
    pub(crate) fn take_wanted(&mut self) -> Option<Vec<Bytes>> {
        let wanted = self
            .wanted
            .filter(|&wanted| self.fault.is_none() && self.received >= wanted)?;
        self.wanted = None;
        let mut left = usize::try_from(wanted).unwrap_or(usize::MAX);
        self.close_joined();
        let mut parts = std::mem::take(&mut self.parts);
        parts.retain_mut(|part| {
            part.truncate(left);
            left -= part.len();
            !part.is_empty()
        });
        Some(parts)
    }

    /// True from the moment that data is wanted until it is handed over.
    pub(crate) fn is_wanted(&self) -> bool {
        self.wanted.is_some() && self.fault.is_none()
    }

    /// Nobody wants the data any more: nothing is kept, but the ends of its sequences are still awaited.
    pub(crate) fn abandon(&mut self) {
        self.fail(Fault::Unexpected);
    }

    /// True when no more Data-Out PDUs are on their way.
    pub(crate) fn is_quiet(&self) -> bool {
        self.unsolicited.is_none() && self.solicited.is_empty()
    }

    /// What went wrong, if anything did.
    pub(crate) fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// Bytes held or on their way.
    pub(crate) fn reserved(&self) -> u64 {
        let held =
            self.joined.len() as u64 + self.parts.iter().map(|part| part.len() as u64).sum::<u64>();
        let coming = |sequence: &Sequence| u64::from(sequence.end.saturating_sub(sequence.next));
        held + self
            .solicited
            .iter()
            .chain(&self.unsolicited)
            .map(coming)
            .sum::<u64>()
    }

    /// Bytes of memory that the data takes.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn held_bytes(&self) -> usize {
        let parts = self
            .parts
            .iter()
            .map(|part| size_of::<Bytes>() + part.len());
        parts.sum::<usize>() + self.joined.capacity() + self.solicited.len() * size_of::<Sequence>()
    }

    /// Sequences by position: those asked for first, the unsolicited one behind them.
    fn sequence_of(&self, tag: u32) -> Option<usize> {
        if tag == RESERVED_TAG {
            return self.unsolicited.as_ref().map(|_| self.solicited.len());
        }
        self.solicited
            .iter()
            .position(|sequence| sequence.tag == tag)
    }

    /// Unsolicited data that nobody announced. What follows it is awaited, too.
    fn accept_uninvited(&mut self, pdu: &DataOutPdu) -> Verdict {
        self.fail(Fault::Unexpected);
        if !pdu.is_final {
            self.unsolicited = Some(Sequence {
                tag: RESERVED_TAG,
                next: 0,
                end: 0,
                data_sn: 0,
            });
        }
        Verdict::Taken
    }

    fn accept_within(&mut self, index: usize, pdu: DataOutPdu) -> Verdict {
        let in_turn = index == 0;
        let sequence = self.solicited.get_mut(index).or(self.unsolicited.as_mut());
        let (Some(sequence), None) = (sequence, self.fault) else {
            return Verdict::Taken;
        };
        let data = match pdu.data {
            Ok(data) if sequence.data_sn == pdu.data_sn => data,
            // A gap in the numbers means that a PDU was lost (RFC 7143 §7.9).
            Ok(_) => return self.refuse(Fault::Damaged, Verdict::Taken),
            Err(fault) => return self.refuse(fault, Verdict::Taken),
        };
        let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
        if !in_turn
            || pdu.offset != sequence.next
            || length > sequence.end.saturating_sub(sequence.next)
        {
            return self.refuse(Fault::WrongAmount, Verdict::InvalidField);
        }
        sequence.next += length;
        sequence.data_sn = sequence.data_sn.wrapping_add(1);
        self.keep(data);
        Verdict::Taken
    }

    fn end_sequence(&mut self, index: usize) {
        let ended = if index < self.solicited.len() {
            self.solicited.remove(index)
        } else {
            self.unsolicited.take()
        };
        if ended.is_some_and(|sequence| sequence.next != sequence.end) {
            self.fail(Fault::WrongAmount);
        }
    }

    fn refuse(&mut self, fault: Fault, verdict: Verdict) -> Verdict {
        self.fail(fault);
        verdict
    }

    fn fail(&mut self, fault: Fault) {
        self.fault.get_or_insert(fault);
        self.parts.clear();
        self.joined = BytesMut::new();
    }

    fn keep(&mut self, data: Bytes) {
        self.received = self
            .received
            .saturating_add(u32::try_from(data.len()).unwrap_or(u32::MAX));
        if data.len() < MIN_PART {
            self.joined.extend_from_slice(&data);
        } else {
            self.close_joined();
            self.parts.push(data);
        }
    }

    fn close_joined(&mut self) {
        if !self.joined.is_empty() {
            self.parts.push(std::mem::take(&mut self.joined).freeze());
        }
    }
}

impl Fault {
    /// How the fault is reported (RFC 7143 §11.4.7.2).
    pub(crate) fn sense(self) -> Sense {
        match self {
            Self::Unexpected => Sense::UNEXPECTED_UNSOLICITED_DATA,
            Self::WrongAmount => Sense::INCORRECT_AMOUNT_OF_DATA,
            Self::Damaged => Sense::PROTOCOL_SERVICE_CRC_ERROR,
        }
    }
}

/// Shorter parts are copied together: each would hold on to the whole buffer that it came in, and an initiator may
/// send its data byte by byte.
const MIN_PART: usize = 4096;
