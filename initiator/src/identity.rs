//! What a unit is: the part of its answers that must never change.

use bytes::Bytes;
use iscsi_proto::scsi::capacity::Capacity;
use iscsi_proto::scsi::vpd::Designator;
use iscsi_proto::scsi::{Command, Sense, Status, vpd};
use iscsi_proto::session::{Completion, Outcome};

use crate::Error;

/// What a unit is: its size and its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) blocks: u64,
    pub(crate) block_bytes: u32,
    /// Those of the logical unit; those of ports differ by the way that was taken.
    pub(crate) designators: Vec<Designator>,
}

impl Identity {
    /// Puts an identity together from READ CAPACITY and page 83h.
    pub(crate) fn new(capacity: &Capacity, designators: Vec<Designator>) -> Self {
        Self {
            blocks: capacity.blocks,
            block_bytes: capacity.block_bytes,
            designators,
        }
    }

    /// True if this is a unit of another size, but the same otherwise.
    pub(crate) fn is_resized(&self, known: &Self) -> bool {
        // A byte address of a larger unit would not fit into 64 bits.
        self.blocks <= u64::MAX / u64::from(self.block_bytes.max(1))
            && self.block_bytes == known.block_bytes
            && self.designators == known.designators
            && !self.designators.is_empty()
    }
}

/// How to ask for the capacity; units of the last century know only READ CAPACITY(10).
pub(crate) const CAPACITY_16: Command = Command::ReadCapacity16 {
    allocation: CAPACITY_BYTES,
};

/// Bytes of READ CAPACITY(16) data.
pub(crate) const CAPACITY_BYTES: u32 = 32;

/// Bytes of READ CAPACITY(10) data.
pub(crate) const CAPACITY_10_BYTES: u32 = 8;

/// How to ask for a page of vital product data.
pub(crate) fn page_command(page: u8) -> Command {
    Command::Inquiry {
        page: Some(page),
        allocation: INQUIRY_BYTES,
    }
}

/// How to ask for the standard data.
pub(crate) fn inquiry_command() -> Command {
    Command::Inquiry {
        page: None,
        allocation: INQUIRY_BYTES,
    }
}

/// Bytes of INQUIRY data that are taken.
pub(crate) const INQUIRY_BYTES: u16 = 4096;

/// The capacity that a unit answered; `None` if the command is unknown to it.
pub(crate) fn capacity_16(completion: Completion) -> Result<Option<Capacity>, Error> {
    match good_or_unknown(completion)? {
        Some(bytes) => Capacity::parse_16(&bytes).map(Some).ok_or(Error::Malformed),
        None => Ok(None),
    }
}

/// The capacity that a unit answered in the short form.
pub(crate) fn capacity_10(completion: Completion) -> Result<Capacity, Error> {
    Capacity::parse_10(&good(completion)?).ok_or(Error::Malformed)
}

/// The designators of the logical unit; none if the page is unknown to it.
pub(crate) fn designators(completion: Completion) -> Result<Vec<Designator>, Error> {
    let Some(bytes) = good_or_unknown(completion)? else {
        return Ok(Vec::new());
    };
    let mut designators = vpd::parse_designators(&bytes).ok_or(Error::Malformed)?;
    designators.retain(|designator| designator.association == OF_THE_UNIT);
    Ok(designators)
}

/// The data of a command that went well.
pub(crate) fn good(completion: Completion) -> Result<Bytes, Error> {
    match completion.status {
        Status::GOOD => Ok(completion.data),
        status => Err(Error::Status {
            status,
            sense: Sense::parse(&completion.sense),
        }),
    }
}

/// The data of a command that went well; `None` if the unit does not know the command, or this form of it.
pub(crate) fn good_or_unknown(completion: Completion) -> Result<Option<Bytes>, Error> {
    match good(completion) {
        Err(Error::Status {
            sense:
                Some(Sense {
                    key: ILLEGAL_REQUEST,
                    asc: 0x20 | 0x24,
                    ..
                }),
            ..
        }) => Ok(None),
        result => result.map(Some),
    }
}

/// How a command ended, for its user.
pub(crate) fn result_of(outcome: Outcome) -> Result<Completion, Error> {
    match outcome {
        Outcome::Answered(completion) => Ok(completion),
        Outcome::Aborted => Err(Error::Aborted),
        Outcome::TimedOut | Outcome::Lapsed => Err(Error::TimedOut),
        Outcome::Rejected(reason) => Err(Error::Rejected(reason)),
        Outcome::TargetFailure(response) => Err(Error::TargetFailure(response)),
        Outcome::Damaged => Err(Error::Damaged),
        Outcome::Unsent => Err(Error::Closed),
    }
}

/// True if a question of our own asks for another try: a Unit Attention, or data that was damaged on the way.
pub(crate) fn asks_again(outcome: &Outcome) -> bool {
    attention(outcome).is_some() || matches!(outcome, Outcome::Damaged)
}

/// What a unit reports instead of carrying a command out.
pub(crate) fn attention(outcome: &Outcome) -> Option<Sense> {
    match outcome {
        Outcome::Answered(Completion {
            status: Status::CHECK_CONDITION,
            sense,
            ..
        }) => Sense::parse(sense).filter(|sense| sense.key == UNIT_ATTENTION),
        _ => None,
    }
}

/// How often a command is tried that meets Unit Attentions or damage.
pub(crate) const MAX_TRIES: u8 = 8;

/// The association of a designator that names the logical unit (SPC-4 §7.8.6).
const OF_THE_UNIT: u8 = 0;

/// Sense keys (SPC-4 §4.5.6).
const ILLEGAL_REQUEST: u8 = 0x5;
const UNIT_ATTENTION: u8 = 0x6;
