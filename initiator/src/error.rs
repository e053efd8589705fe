//! Why an initiator could not do what it was asked for.

use std::io;
use std::sync::Arc;

use iscsi_proto::login::{InvalidSecret, LoginStatus, UnusableChap};
use iscsi_proto::scsi::{Sense, Status};
use iscsi_proto::session::{DiscoverError, ManagementAnswer, SessionEnd};
use vmthunder_volume as volume;

/// Why an initiator could not do what it was asked for, sorted by who is to blame. Cheap to clone.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The caller: the address is none.
    #[error("no address of an iSCSI target")]
    BadAddress,
    /// The caller: the URL names a user whose secret nobody knows.
    #[error("the URL names a user without a secret")]
    NoSecret,
    /// The caller: the secret is none.
    #[error(transparent)]
    Secret(#[from] InvalidSecret),
    /// The caller: the accounts prove nothing.
    #[error(transparent)]
    Credentials(#[from] UnusableChap),
    /// The caller: too many commands are under way on this session.
    #[error("too many commands are under way")]
    QueueFull,
    /// The caller: more data than one command can carry.
    #[error("a command cannot carry so much data")]
    TooLong,
    /// The caller: a command descriptor block of so many bytes; 6 to 16 can be sent.
    #[error("a command descriptor block of {0} bytes cannot be sent: it has 6 to 16")]
    CommandLength(usize),
    /// The caller: the span does not lie inside the unit, or not on its block boundaries; or two buffers differ in length
    /// that have to be equally long.
    #[error("the span is outside the unit, or not aligned to its blocks")]
    OutOfRange,
    /// The caller: the unit cannot be written.
    #[error("the unit is write protected")]
    ReadOnly,
    /// The caller: the unit does not know this command.
    #[error("the unit does not support this")]
    Unsupported,
    /// The caller: the session was closed.
    #[error("the session is closed")]
    Closed,
    /// The caller: a volume needs a path, and cannot have so many.
    #[error("a volume has one path or more, but not {0}")]
    PathCount(usize),
    /// The caller: its paths lead to different units.
    #[error("the path leads to another unit than the others: its size or its designators differ")]
    OtherUnit,
    /// The unit: nothing tells it from another one, so that nobody can know whether two paths lead to it.
    #[error(
        "the unit has neither designators nor a serial number by which its paths can be compared"
    )]
    NamelessUnit,
    /// This machine: no randomness for the session's name.
    #[error("the operating system gives no random numbers")]
    NoRandomness,
    /// The network: no connection to the target.
    #[error("cannot connect: {0}")]
    Connect(Arc<io::Error>),
    /// The network: no connection to the target in time.
    #[error("no connection in time")]
    ConnectTimeout,
    /// The target: it could not be reached for longer than the policy allows, for this reason. The command was certainly
    /// not carried out, or it changes nothing.
    #[error("the target cannot be reached: {0}")]
    Unreachable(Arc<Self>),
    /// The target: it does not let this initiator in.
    #[error("the target refused the login: {0:?}")]
    Refused(LoginStatus),
    /// The target: it sends the initiator around.
    #[error("too many redirections")]
    TooManyRedirects,
    /// The target: the session ended before the answer, and asking again would not be safe or has no use.
    #[error("the session ended: {0}")]
    Ended(SessionEnd),
    /// The target: the connection was lost after the command had been sent. Nobody knows whether it was carried out, and
    /// it was not repeated: that could do harm, or the policy allows no more time.
    #[error("the connection was lost, and nobody knows whether the command was carried out")]
    Interrupted,
    /// The target: the command took too long and was aborted. It may have been carried out in part, or whole.
    #[error("the command took too long")]
    TimedOut,
    /// The target: a reset aborted the command, and it cannot be repeated without harm.
    #[error("the command was aborted")]
    Aborted,
    /// The target: it rejected the command's PDU.
    #[error("the target rejected the command for reason {0:#04x}")]
    Rejected(u8),
    /// The target: it failed to carry the command out.
    #[error("the target failed with response {0:#04x}")]
    TargetFailure(u8),
    /// The target: it did not carry a task management function out; the answer, if it is one that RFC 7143 defines.
    #[error("the target refused the reset: {0:?}")]
    ResetRefused(Option<ManagementAnswer>),
    /// The wire: the data that was read is damaged, again and again.
    #[error("the data was damaged on the way")]
    Damaged,
    /// The target: its list of targets makes no sense.
    #[error("discovery failed: {0}")]
    Discover(#[from] DiscoverError),
    /// The unit: the command ended with a status other than GOOD.
    #[error("the unit answered {status}{}", explained(*.status, *.sense))]
    Status {
        /// The status.
        status: Status,
        /// What its sense data says, if it has any.
        sense: Option<Sense>,
    },
    /// The unit: it was reset or switched on before this flush, and its cache is volatile: what it acknowledged since the
    /// flush before may be gone. Only with [`CacheLoss::FailFlush`](crate::CacheLoss::FailFlush), and once.
    #[error(
        "the unit was reset or switched on before this flush: what it acknowledged since the last one may be lost, and has to be written again"
    )]
    CacheLost,
    /// The unit: its answer cannot be understood, or is too short.
    #[error("the unit's answer is malformed")]
    Malformed,
    /// The unit: its blocks are neither 512 nor 4096 bytes long.
    #[error("blocks of {0} bytes are not supported")]
    BlockSize(u32),
    /// The unit: it is another one than before, or has another size and [`Resize::Fence`](crate::Resize::Fence) is said.
    #[error("the unit is not the one that it was: its size or its designators differ")]
    Changed,
}

/// What a status says beyond its name.
fn explained(status: Status, sense: Option<Sense>) -> String {
    match (status, sense) {
        (_, Some(sense)) => format!(": {sense}"),
        (Status::RESERVATION_CONFLICT, None) => ": another initiator has reserved it".to_owned(),
        (_, None) => String::new(),
    }
}

impl From<Error> for volume::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::QueueFull => Self::Busy,
            Error::Status { status, sense } => of_status(status, sense),
            Error::Changed | Error::OtherUnit | Error::Damaged | Error::Malformed => Self::Corrupt,
            Error::BlockSize(_) | Error::Unsupported => Self::Unsupported,
            Error::OutOfRange => Self::OutOfRange,
            Error::ReadOnly => Self::ReadOnly,
            Error::CacheLost => Self::Lost,
            _ => Self::Unavailable,
        }
    }
}

/// What a SCSI status and its sense mean to the user of a volume.
fn of_status(status: Status, sense: Option<Sense>) -> volume::Error {
    match (status, sense) {
        (Status::BUSY | Status::TASK_SET_FULL, _) => volume::Error::Busy,
        (Status::CHECK_CONDITION, Some(sense)) => of_sense(sense),
        _ => volume::Error::Unavailable,
    }
}

fn of_sense(sense: Sense) -> volume::Error {
    match (sense.key, sense.asc, sense.ascq) {
        (0x2, ..) | (0x5, 0x25, _) => volume::Error::Unavailable,
        (0x3, 0x11, 0x00) => volume::Error::Corrupt,
        (0x5, 0x20, _) => volume::Error::Unsupported,
        (0x5, 0x21, 0x00) => volume::Error::OutOfRange,
        (0x7, 0x27, 0x07) => volume::Error::NoSpace,
        (0x7, 0x27, _) => volume::Error::ReadOnly,
        (key, asc, ascq) => volume::Error::Device { key, asc, ascq },
    }
}

#[cfg(test)]
mod tests {
    use iscsi_proto::scsi::{Sense, Status};
    use vmthunder_volume::Error as VolumeError;

    use super::Error;

    fn meaning(status: u8, sense: Option<[u8; 3]>) -> String {
        let sense = sense.map(|[key, asc, ascq]| Sense::new(key, asc, ascq));
        format!(
            "{:?}",
            VolumeError::from(Error::Status {
                status: Status(status),
                sense
            })
        )
    }

    #[test]
    fn status_and_sense_keep_their_meaning() {
        assert_eq!(meaning(0x08, None), "Busy");
        assert_eq!(meaning(0x28, None), "Busy");
        assert_eq!(meaning(0x18, None), "Unavailable");
        assert_eq!(meaning(0x02, None), "Unavailable");
        assert_eq!(meaning(0x02, Some([0x2, 0x04, 0x01])), "Unavailable");
        assert_eq!(meaning(0x02, Some([0x3, 0x11, 0x00])), "Corrupt");
        assert_eq!(meaning(0x02, Some([0x5, 0x20, 0x00])), "Unsupported");
        assert_eq!(meaning(0x02, Some([0x5, 0x21, 0x00])), "OutOfRange");
        assert_eq!(meaning(0x02, Some([0x5, 0x25, 0x00])), "Unavailable");
        assert_eq!(meaning(0x02, Some([0x7, 0x27, 0x00])), "ReadOnly");
        assert_eq!(meaning(0x02, Some([0x7, 0x27, 0x07])), "NoSpace");
        assert_eq!(
            meaning(0x02, Some([0x4, 0x44, 0x00])),
            "Device { key: 4, asc: 68, ascq: 0 }"
        );
    }
}
