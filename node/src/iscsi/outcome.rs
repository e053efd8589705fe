//! What becomes of a subcommand: its exit code, and the kind of its error, the same for the same cause in all of them.

use std::fmt;

use iscsi_initiator::Error as SessionError;
use iscsi_proto::login::LoginStatus;
use iscsi_proto::scsi::{Sense, Status};
use iscsi_proto::session::SessionEnd;
use serde_json::json;
use vmthunder_volume::Error as VolumeError;

use crate::observe::{causes, is_broken_pipe, line};

/// Of which kind an error is. The help of `vmthunder iscsi` lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    WriteProtected,
    Reserved,
    OutOfRange,
    NoSpace,
    Unsupported,
    /// The unit may have lost what it acknowledged.
    CacheLost,
    /// The unit is not what it was.
    Changed,
    /// The unit answered something else that is no.
    Refused,
    NoSuchTarget,
    NoSuchUnit,
    LoginRefused,
    Unreachable,
    /// The answer was lost, and nobody knows what became of the command.
    InDoubt,
    Interrupted,
    /// The command line, a file, this machine.
    Cannot,
}

/// An error whose text says it all.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) kind: Kind,
    pub(super) text: String,
    /// The JSON value that was printed tells it already.
    pub(super) is_printed: bool,
}

impl Told {
    pub(super) fn new(kind: Kind, text: impl Into<String>) -> Self {
        Self {
            kind,
            text: text.into(),
            is_printed: false,
        }
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Told {}

impl Kind {
    /// How JSON names it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::WriteProtected => "write-protected",
            Self::Reserved => "reserved",
            Self::OutOfRange => "out-of-range",
            Self::NoSpace => "no-space",
            Self::Unsupported => "unsupported",
            Self::CacheLost => "cache-lost",
            Self::Changed => "changed",
            Self::Refused => "refused",
            Self::NoSuchTarget => "no-such-target",
            Self::NoSuchUnit => "no-such-unit",
            Self::LoginRefused => "login-refused",
            Self::Unreachable => "unreachable",
            Self::InDoubt => "in-doubt",
            Self::Interrupted => "interrupted",
            Self::Cannot => "cannot",
        }
    }

    /// True if a unit or a disk answered, and the answer is no.
    pub(super) fn is_answer(self) -> bool {
        matches!(
            self,
            Self::WriteProtected
                | Self::Reserved
                | Self::OutOfRange
                | Self::NoSpace
                | Self::Unsupported
                | Self::CacheLost
                | Self::Changed
                | Self::Refused
        )
    }

    /// The kind of an error: the first of its causes that has one says it.
    pub(super) fn of(error: &anyhow::Error) -> Self {
        let kinds = error.chain().find_map(|cause| {
            let told = cause.downcast_ref::<Told>().map(|told| told.kind);
            let session = || cause.downcast_ref::<SessionError>().map(Self::of_session);
            let volume = || cause.downcast_ref::<VolumeError>().map(Self::of_volume);
            told.or_else(session).or_else(volume)
        });
        kinds.unwrap_or(Self::Cannot)
    }

    pub(super) fn of_session(error: &SessionError) -> Self {
        match error {
            SessionError::ReadOnly => Self::WriteProtected,
            SessionError::OutOfRange => Self::OutOfRange,
            SessionError::Unsupported | SessionError::BlockSize(_) => Self::Unsupported,
            SessionError::CacheLost => Self::CacheLost,
            SessionError::Changed | SessionError::OtherUnit | SessionError::NamelessUnit => {
                Self::Changed
            }
            SessionError::Status { status, sense } => Self::of_status(*status, *sense),
            SessionError::Rejected(_)
            | SessionError::TargetFailure(_)
            | SessionError::Malformed
            | SessionError::Damaged
            | SessionError::ResetRefused(_)
            | SessionError::Discover(_) => Self::Refused,
            SessionError::Refused(LoginStatus::NOT_FOUND | LoginStatus::TARGET_REMOVED) => {
                Self::NoSuchTarget
            }
            SessionError::Refused(_) | SessionError::Ended(SessionEnd::Login(_)) => {
                Self::LoginRefused
            }
            SessionError::Connect(_)
            | SessionError::ConnectTimeout
            | SessionError::Unreachable(_)
            | SessionError::TooManyRedirects
            | SessionError::TimedOut
            | SessionError::Closed
            | SessionError::Ended(_) => Self::Unreachable,
            SessionError::Interrupted | SessionError::Aborted => Self::InDoubt,
            _ => Self::Cannot,
        }
    }

    fn of_status(status: Status, sense: Option<Sense>) -> Self {
        if status == Status::RESERVATION_CONFLICT {
            return Self::Reserved;
        }
        match VolumeError::from(SessionError::Status { status, sense }) {
            VolumeError::OutOfRange => Self::OutOfRange,
            VolumeError::ReadOnly => Self::WriteProtected,
            VolumeError::NoSpace | VolumeError::Quota => Self::NoSpace,
            VolumeError::Unsupported => Self::Unsupported,
            _ => Self::Refused,
        }
    }

    /// Files are volumes, too.
    fn of_volume(error: &VolumeError) -> Self {
        match error {
            VolumeError::ReadOnly => Self::WriteProtected,
            VolumeError::OutOfRange => Self::OutOfRange,
            VolumeError::Unsupported => Self::Unsupported,
            VolumeError::NoSpace | VolumeError::Quota => Self::NoSpace,
            VolumeError::Lost => Self::CacheLost,
            VolumeError::Corrupt | VolumeError::Fenced | VolumeError::Device { .. } => {
                Self::Refused
            }
            _ => Self::Cannot,
        }
    }
}

/// Tells an error, with `--json` on standard output as well; false if a unit answered so, which is an outcome, or else
/// the error.
pub(super) fn tell(error: anyhow::Error, as_json: bool) -> anyhow::Result<bool> {
    if is_broken_pipe(&error) {
        return Err(error);
    }
    let kind = Kind::of(&error);
    let mut causes_told = error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<Told>());
    if as_json && !causes_told.any(|told| told.is_printed) {
        // On one line: whoever waits for `iscsi replay` reads lines.
        line(json!({"error": causes(&error), "kind": kind.name()}))?;
    }
    if !kind.is_answer() {
        return Err(error);
    }
    eprintln!("error: {}", causes(&error));
    Ok(false)
}
