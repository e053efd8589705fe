//! What a target session and its driver say to each other: events up, verbs down.

use bytes::Bytes;

use crate::discovery::DiscoverScope;
use crate::login::{Identity, LoginStatus, Violation};
use crate::params::Params;
use crate::scsi::Status;
use crate::session::management::ManagementFunction;
use crate::wire::framer::FrameError;
use crate::wire::lun::Lun;

/// Names one task of one session; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId {
    /// Counts the session's tasks; what makes the name unique.
    pub(crate) serial: u64,
    /// The initiator's own name for the task.
    pub(crate) initiator_task_tag: u32,
}

/// What the driver of a [`TargetSession`](crate::session::TargetSession) has to act upon.
#[derive(Clone, Debug)]
pub enum TargetEvent {
    /// Somebody wants in: answer with `authenticate`, `refuse` or `redirect`.
    Login(Identity),
    /// It has proven itself as it had to: answer with `admit`, `refuse` or `redirect`. Only now may an older session
    /// be ended in favour of the new one.
    Authenticated {
        /// Who wants in.
        identity: Identity,
        /// The account that was proven; nothing if AuthMethod None had to do.
        account: Option<String>,
    },
    /// The login phase is over and commands may come.
    LoggedIn {
        /// Who logged in, and to what.
        identity: Identity,
        /// What both sides agreed upon.
        params: Params,
    },
    /// A SCSI command: answer with `complete`, before that `receive` if it needs its write data.
    Command(Command),
    /// The write data that `receive` asked for.
    DataReady {
        /// The command that the data is for.
        task: TaskId,
        /// The data, in order: as much as was asked for or as the initiator has to give, whichever is less.
        data: Vec<Bytes>,
    },
    /// The initiator asks what targets there are: answer with `answer_discovery`.
    Discover {
        /// The request to answer.
        task: TaskId,
        /// Which targets the initiator asks for.
        scope: DiscoverScope,
    },
    /// A task management function: drop the work on the affected tasks, then call `answer_management`.
    Management {
        /// The request to answer.
        task: TaskId,
        /// What is to be done.
        function: ManagementFunction,
        /// The logical unit; no meaning for functions on the whole target.
        lun: Lun,
        /// Tasks that this session gave up already; what the driver still says about them is ignored.
        affected: Vec<TaskId>,
    },
    /// The work on these tasks is pointless: nobody waits for the answer any more.
    Aborted(Vec<TaskId>),
    /// The session is over: transmit what is left, then close the connection.
    Closed(CloseReason),
}

/// A SCSI command (RFC 7143 §11.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Command {
    /// The task that the command begins.
    pub task: TaskId,
    /// The logical unit.
    pub lun: Lun,
    /// The command descriptor block.
    pub cdb: [u8; 16],
    /// How the task is ordered among others; the session sees to it, so that a driver may execute in any order what it
    /// was given.
    pub attribute: TaskAttribute,
    /// The bytes that the initiator expects to move, in the direction of `reads` or `writes`.
    pub expected_length: u32,
    /// The initiator has a buffer for data from the target.
    pub reads: bool,
    /// The initiator has data for the target.
    pub writes: bool,
}

/// How a task is ordered among the tasks of its unit (RFC 7143 §11.3.1, SAM-5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskAttribute {
    /// No attribute given; treated as simple.
    Untagged,
    /// In any order.
    Simple,
    /// After everything older, before everything newer.
    Ordered,
    /// Before everything that did not start yet.
    HeadOfQueue,
    /// Auto contingent allegiance.
    Aca,
}

impl TaskAttribute {
    /// Reads the three bits of the header; the rest is reserved.
    pub(crate) fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits & 0x07 {
            0 => Self::Untagged,
            1 => Self::Simple,
            2 => Self::Ordered,
            3 => Self::HeadOfQueue,
            4 => Self::Aca,
            _ => return None,
        })
    }

    /// True if commands that come later may have to wait for one of this kind.
    pub(crate) fn holds_up(self) -> bool {
        matches!(self, Self::Ordered | Self::HeadOfQueue)
    }
}

/// The outcome of a SCSI command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The SCSI status.
    pub status: Status,
    /// Sense data without its length prefix.
    pub sense: Option<Bytes>,
    /// Data for the initiator; what exceeds its buffer is cut off and reported as overflow.
    pub data: Vec<Bytes>,
    /// Bytes that the command moves by its own definition; residuals are counted from it (RFC 7143 §11.4.5.2).
    pub transfer_length: u32,
}

impl Response {
    /// Success without data.
    pub fn good() -> Self {
        Self {
            status: Status::GOOD,
            sense: None,
            data: Vec::new(),
            transfer_length: 0,
        }
    }

    /// Success of a command that reads.
    pub fn read(data: Vec<Bytes>) -> Self {
        let length = data.iter().fold(0u32, |sum, part| {
            sum.saturating_add(u32::try_from(part.len()).unwrap_or(u32::MAX))
        });
        Self {
            data,
            transfer_length: length,
            ..Self::good()
        }
    }

    /// Success of a command that wrote `length` bytes.
    pub fn written(length: u32) -> Self {
        Self {
            transfer_length: length,
            ..Self::good()
        }
    }

    /// A status other than success that carries no sense data.
    pub fn status(status: Status) -> Self {
        Self {
            status,
            ..Self::good()
        }
    }

    /// CHECK CONDITION with sense data.
    pub fn check_condition(sense: Bytes) -> Self {
        Self {
            status: Status::CHECK_CONDITION,
            sense: Some(sense),
            ..Self::good()
        }
    }
}

/// What a target tells an initiator unasked (RFC 7143 §11.9.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AsyncNotice {
    /// Something happened to a unit. It is but a hint, and said only to initiators that pinged: boot firmware takes an
    /// Asynchronous Message for a breach of the protocol.
    Scsi {
        /// The unit.
        lun: Lun,
        /// What happened, as sense data without its length prefix.
        sense: Bytes,
    },
    /// This connection is about to be dropped, and its tasks with it.
    DropConnection {
        /// Seconds to wait before coming back.
        time2wait: u16,
    },
    /// All connections of the session are about to be dropped, and its tasks with them.
    DropSession {
        /// Seconds to wait before coming back.
        time2wait: u16,
    },
}

impl AsyncNotice {
    /// True if nothing can follow.
    pub(crate) fn is_drop(&self) -> bool {
        !matches!(self, Self::Scsi { .. })
    }
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    /// The initiator logged out.
    #[error("the initiator logged out")]
    LoggedOut,
    /// The login failed or was refused.
    #[error("the login failed: {}", why(*status, *violation))]
    LoginFailed {
        /// What the initiator was told.
        status: LoginStatus,
        /// What it did wrong; nothing if the driver kept it out.
        violation: Option<Violation>,
    },
    /// The login took longer than allowed.
    #[error("the login took too long")]
    LoginTimeout,
    /// The initiator did not answer a ping in time.
    #[error("the initiator did not answer a ping in time")]
    Silent,
    /// The initiator did not log out in the time it was given.
    #[error("the initiator did not log out in the time it was given")]
    LogoutTimeout,
    /// The connection broke.
    #[error("the connection broke")]
    Disconnected,
    /// The initiator broke the protocol in a way that leaves no common ground.
    #[error("the initiator broke the protocol: {0}")]
    ProtocolError(Breach),
    /// The driver closed the session.
    #[error("the target closed the session")]
    Local,
    /// The initiator asked for a cold reset of the target.
    #[error("the initiator asked for a cold reset of the target")]
    Reset,
}

/// What an initiator did that leaves no common ground.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Breach {
    /// Its bytes cannot be cut into PDUs.
    #[error(transparent)]
    Framing(#[from] FrameError),
    /// It did not begin with a login.
    #[error("its first PDU is no Login Request")]
    NoLogin,
    /// The data of a login was damaged.
    #[error("the data digest of a login does not match")]
    DataDigest,
    /// It sent more write data ahead of its turn than anybody needs.
    #[error("commands that wait for an earlier one hold too much data")]
    EarlyData,
}

fn why(status: LoginStatus, violation: Option<Violation>) -> String {
    violation.map_or_else(|| status.to_string(), |violation| violation.to_string())
}
