//! What an initiator task tag stands for.

use std::time::Instant;

use bytes::BytesMut;

use crate::session::initiator::RequestId;
use crate::session::initiator::payload::{Incoming, Outgoing};
use crate::wire::bhs::RESERVED_TAG;
use crate::wire::lun::Lun;
use crate::wire::serial::Serial;

/// A task: what it is, and until when it may take.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) work: Work,
    pub(super) deadline: Option<Instant>,
}

/// What a task is.
#[derive(Debug)]
pub(super) enum Work {
    Command(CommandTask),
    Reset(ResetTask),
    /// ABORT TASK for the command with this tag.
    Abort(u32),
    /// ABORT TASK that was not answered in time; what it was for is ended by other means.
    Lapsed,
    /// ABORT TASK for a command that is over: the target rejected it and still waits for its number.
    Plug(Rejected),
    Text(TextTask),
    Ping,
    Logout,
}

/// A SCSI command.
#[derive(Debug)]
pub(super) struct CommandTask {
    pub(super) request: RequestId,
    pub(super) lun: Lun,
    pub(super) cdb: [u8; 16],
    pub(super) data: Payload,
    /// Its number, once it was sent.
    pub(super) cmd_sn: Option<Serial>,
    pub(super) ending: Ending,
}

/// The data of a command, by direction.
#[derive(Debug)]
pub(super) enum Payload {
    None,
    In(Incoming),
    Out(Outgoing),
}

/// Whether a command is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// It is not.
    Running,
    /// The driver wants it aborted.
    Aborting,
    /// It took too long and is being aborted.
    TimedOut,
}

/// A command that the target rejected, and whose number is missing now (RFC 7143 §7.3).
#[derive(Clone, Copy, Debug)]
pub(super) struct Rejected {
    pub(super) tag: u32,
    pub(super) lun: Lun,
    pub(super) cmd_sn: Serial,
}

/// LOGICAL UNIT RESET.
#[derive(Debug)]
pub(super) struct ResetTask {
    /// The request; `None` for a reset that ends a command which could not be aborted.
    pub(super) request: Option<RequestId>,
    pub(super) lun: Lun,
    /// The number of the first command behind the reset, once it was sent: those before it are lost.
    pub(super) cmd_sn: Option<Serial>,
}

/// A text exchange of one request or more.
#[derive(Debug)]
pub(super) struct TextTask {
    /// The discovery that it is for; `None` for the empty request that answers a call for negotiation.
    pub(super) request: Option<RequestId>,
    pub(super) answer: BytesMut,
    pub(super) answers: u32,
    pub(super) target_transfer_tag: u32,
    pub(super) lun: u64,
    /// A request was sent and not answered.
    pub(super) asked: bool,
}

impl TextTask {
    pub(super) fn new(request: Option<RequestId>) -> Self {
        Self {
            request,
            answer: BytesMut::new(),
            answers: 0,
            target_transfer_tag: RESERVED_TAG,
            lun: 0,
            asked: false,
        }
    }

    /// True before anything was answered.
    pub(super) fn is_fresh(&self) -> bool {
        self.target_transfer_tag == RESERVED_TAG
    }
}
