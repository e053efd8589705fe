//! What an initiator session and its driver say to each other: verbs down, events up.

use std::time::Duration;

use bytes::Bytes;

use crate::discovery::TargetRecord;
use crate::login::{InitiatorOffer, LoginError, LoginStatus};
use crate::params::Params;
use crate::scsi::Status;
use crate::session::ManagementAnswer;
use crate::wire::lun::Lun;

/// How an initiator session behaves.
#[derive(Clone, Debug)]
pub struct InitiatorConfig {
    /// Who logs in, to what, and what is offered.
    pub offer: InitiatorOffer,
    /// How long the login phase may take.
    pub login_timeout: Duration,
    /// How long a command may take before it is aborted, counted from its submission; `None` for ever.
    pub command_timeout: Option<Duration>,
    /// How long a task management function or a logout may take. A command that took too long is aborted; if that is
    /// refused or takes too long, its unit is reset; if that fails as well, the session is given up.
    pub management_timeout: Duration,
    /// Silence after which the target is pinged; `None` for never.
    pub ping_interval: Option<Duration>,
    /// How long the target may take to answer a ping.
    pub ping_timeout: Duration,
    /// Requests that may be submitted and not ended, those included that wait for the command window.
    pub queue_limit: usize,
}

impl InitiatorConfig {
    /// A configuration with the usual times and limits.
    pub fn new(offer: InitiatorOffer) -> Self {
        Self {
            offer,
            login_timeout: Duration::from_secs(15),
            command_timeout: Some(Duration::from_secs(60)),
            management_timeout: Duration::from_secs(15),
            ping_interval: Some(Duration::from_secs(10)),
            ping_timeout: Duration::from_secs(15),
            queue_limit: 1024,
        }
    }
}

/// Names one request of one session; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub(crate) u64);

/// A SCSI command for a logical unit.
#[derive(Clone, Debug)]
pub struct Request {
    /// The logical unit.
    pub lun: Lun,
    /// The command descriptor block.
    pub cdb: [u8; 16],
    /// What data moves, and where to.
    pub transfer: Transfer,
}

/// The data of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transfer {
    /// None.
    None,
    /// At most so many bytes from the target.
    Read(u32),
    /// These bytes to the target.
    Write(Bytes),
}

/// Why a request was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The login phase is not over yet.
    #[error("the session is not logged in yet")]
    NotLoggedIn,
    /// As many requests as allowed are under way.
    #[error("too many requests are under way")]
    QueueFull,
    /// More data than one command can carry.
    #[error("a command cannot carry so much data")]
    TooLong,
    /// The session is over, or about to be.
    #[error("the session is over")]
    Closed,
}

/// What the driver of an [`InitiatorSession`](crate::session::InitiatorSession) learns.
#[derive(Clone, Debug)]
pub enum InitiatorEvent {
    /// The login phase is over; requests may be submitted.
    LoggedIn(Params),
    /// A command ended.
    Completed {
        /// Which one.
        request: RequestId,
        /// How.
        outcome: Outcome,
    },
    /// A reset ended.
    Managed {
        /// Which one.
        request: RequestId,
        /// How; `None` if the answer has a value that RFC 7143 does not define.
        answer: Option<ManagementAnswer>,
    },
    /// The target told which targets there are.
    Discovered {
        /// The question.
        request: RequestId,
        /// The answer.
        records: Result<Vec<TargetRecord>, DiscoverError>,
    },
    /// A logical unit reports something by itself (RFC 7143 §11.9.1, event 0).
    UnitReport {
        /// Which unit.
        lun: Lun,
        /// Its sense data.
        sense: Bytes,
    },
    /// The target wants the session to end. No command is sent any more; the session logs out by itself.
    LogoutRequested,
    /// The session is over. Commands that were not sent ended as [`Outcome::Unsent`] before, those that took too long as
    /// [`Outcome::Lapsed`]; what became of other requests that were not ended nobody knows.
    Ended(SessionEnd),
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The target carried it out, well or not: the status says it.
    Answered(Completion),
    /// It was aborted, by `abort` or by a reset of its unit.
    Aborted,
    /// It took too long and was aborted, or its unit was reset.
    TimedOut,
    /// The target rejected its PDU (RFC 7143 §11.17.1).
    Rejected(u8),
    /// The target failed to carry it out (RFC 7143 §11.4.3).
    TargetFailure(u8),
    /// Read data was damaged on the way: its digest does not match.
    Damaged,
    /// The session ended before it was sent: the target never saw it.
    Unsent,
    /// It took too long, and the session ended before the target had aborted it.
    Lapsed,
}

/// What a target answered to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completion {
    /// The SCSI status.
    pub status: Status,
    /// Sense data without its length prefix; often empty.
    pub sense: Bytes,
    /// What was read, from the first byte on and without gaps.
    pub data: Bytes,
    /// The difference between the data that was expected and the data that there was.
    pub residual: Residual,
}

/// The difference between expected and actual data (RFC 7143 §11.4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Residual {
    /// None.
    None,
    /// So many bytes less than expected.
    Underflow(u32),
    /// So many bytes more than expected; they were not moved.
    Overflow(u32),
}

/// Why a discovery failed while its session lives on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiscoverError {
    /// The target rejected the request (RFC 7143 §11.17.1).
    #[error("the target rejected the request for reason {0:#04x}")]
    Rejected(u8),
    /// The answer exceeds what is taken.
    #[error("the answer is too long")]
    TooLong,
    /// The answer cannot be understood.
    #[error("the answer is malformed")]
    Malformed,
}

/// Why a session ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionEnd {
    /// The target sends the initiator elsewhere (RFC 7143 §11.13.5, class 1).
    #[error("the target redirects to {address}")]
    Redirected {
        /// Host and port.
        address: String,
        /// True if the target moved for good.
        permanent: bool,
    },
    /// The target refused the login.
    #[error("the target refused the login: {0:?}")]
    Refused(LoginStatus),
    /// The target broke the rules of the login phase.
    #[error("the login failed: {0}")]
    Login(LoginError),
    /// The login phase took too long.
    #[error("the login took too long")]
    LoginTimeout,
    /// `logout` was called and answered.
    #[error("logged out")]
    LoggedOut,
    /// The target asked for a logout and got it.
    #[error("logged out at the target's request")]
    LogoutRequested,
    /// The target announced that it drops the connection (RFC 7143 §11.9.1, events 2 and 3).
    #[error("the target drops the connection")]
    Dropped {
        /// How long to wait before coming back.
        time2wait: Duration,
    },
    /// The connection broke.
    #[error("the connection broke")]
    Disconnected,
    /// The target does not answer pings, aborts or a logout any more.
    #[error("the target is silent")]
    Silent,
    /// The target broke the protocol.
    #[error("protocol error: {0}")]
    Protocol(#[from] ProtocolError),
}

/// How a target can break the protocol once it is logged in to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// Bytes that are no PDU, or a header that is damaged.
    #[error("the stream cannot be cut into PDUs")]
    Framing,
    /// A PDU other than Data-In failed its data digest; what it said is lost.
    #[error("a damaged data segment")]
    DataDigest,
    /// A PDU that only an initiator sends, or that has no place here.
    #[error("a PDU that does not belong here")]
    UnexpectedPdu,
    /// A status is missing: StatSN jumped (RFC 7143 §4.2.2.2).
    #[error("StatSN is out of order")]
    StatSn,
    /// Data-In or R2T PDUs are missing or out of order.
    #[error("DataSN or R2TSN is out of order")]
    DataSn,
    /// An answer to a task that does not exist.
    #[error("an answer to a task that does not exist")]
    UnknownTask,
    /// Data where none or other data was asked for.
    #[error("data outside what was asked for")]
    DataBounds,
    /// An R2T for nothing, for too much, for data that does not exist, or of another unit.
    #[error("an R2T outside what was agreed upon")]
    R2tBounds,
    /// More R2Ts at once than agreed upon.
    #[error("too many R2Ts at once")]
    TooManyR2ts,
    /// More pings than can be answered.
    #[error("too many pings at once")]
    TooManyPings,
    /// A Reject that names no PDU.
    #[error("a malformed Reject")]
    MalformedReject,
    /// The target refused to end a command that took too long, even by a reset of its unit.
    #[error("the target refused an abort")]
    AbortRefused,
}

/// What an initiator session counted since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InitiatorStats {
    /// PDUs received.
    pub pdus_in: u64,
    /// PDUs sent.
    pub pdus_out: u64,
    /// SCSI commands sent.
    pub commands: u64,
    /// SCSI commands ended.
    pub completions: u64,
    /// Bytes of read data received.
    pub data_in_bytes: u64,
    /// Bytes of write data sent.
    pub data_out_bytes: u64,
    /// Requests to transfer received.
    pub r2ts: u64,
    /// Times that a request found the command window closed.
    pub window_stalls: u64,
    /// Rejects received.
    pub rejects: u64,
    /// Data-In PDUs that failed their digest.
    pub data_digest_errors: u64,
    /// Commands that took too long.
    pub timeouts: u64,
    /// Pings from the target.
    pub pings: u64,
}
