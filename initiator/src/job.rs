//! A command on its way, and what may be done with it when the connection is lost.

use iscsi_proto::scsi::Command;
use iscsi_proto::session::{Completion, Request};
use iscsi_proto::wire::lun::Lun;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;

use crate::Error;
use crate::identity::Identity;

/// What users ask of the task that owns a session.
#[derive(Debug)]
pub(crate) enum Order {
    /// Carry a command out.
    Run(Job),
    /// Find out what a unit is, and guard it from then on.
    Attach {
        lun: Lun,
        reply: oneshot::Sender<Result<Identity, Error>>,
    },
    /// Reset a unit.
    Reset { lun: Lun, reply: ResetReply },
    /// Log out.
    Close(oneshot::Sender<()>),
}

/// Whom the end of a reset is told to.
pub(crate) type ResetReply = oneshot::Sender<Result<(), Error>>;

/// A command on its way.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) request: Request,
    pub(crate) repeat: Repeat,
    /// How often the target gave an answer that asks for another try.
    pub(crate) tries: u8,
    /// It was sent on a connection that is lost: nobody knows whether it was carried out.
    pub(crate) in_doubt: bool,
    /// When the connection was lost for the first time since it came.
    pub(crate) first_loss: Option<Instant>,
    reply: oneshot::Sender<Result<Completion, Error>>,
    /// Its place in the session's queue.
    _place: OwnedSemaphorePermit,
}

impl Job {
    pub(crate) fn new(
        request: Request,
        repeat: Repeat,
        reply: oneshot::Sender<Result<Completion, Error>>,
        place: OwnedSemaphorePermit,
    ) -> Self {
        Self {
            request,
            repeat,
            tries: 0,
            in_doubt: false,
            first_loss: None,
            reply,
            _place: place,
        }
    }

    /// Answers; nobody may be waiting any more.
    pub(crate) fn answer(self, result: Result<Completion, Error>) {
        // A dropped future is no error: its command ends without harm.
        let _ = self.reply.send(result);
    }

    /// Gives up: `reason` holds only if the command was certainly not carried out, or changes nothing.
    pub(crate) fn give_up(self, reason: &Error) {
        let error = match self.is_uncertain() {
            true => Error::Interrupted,
            false => reason.clone(),
        };
        self.answer(Err(error));
    }

    /// True if nobody knows whether it changed something.
    pub(crate) fn is_uncertain(&self) -> bool {
        self.in_doubt && self.repeat != Repeat::Always
    }

    /// True if nobody waits any more.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.reply.is_closed()
    }
}

/// Whether a command may be sent again when its answer was lost with the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// It changes nothing, or the same whenever it is carried out.
    Always,
    /// It changes these blocks, up to but without the last: never after a later change of them was acknowledged.
    Changes { first: u64, end: u64 },
    /// Never: carried out twice it fails, or does something else. It may change these blocks.
    Never { first: u64, end: u64 },
}

impl Repeat {
    /// What holds for a command.
    pub(crate) fn of(command: &Command) -> Self {
        match command {
            Command::Write { range, .. }
            | Command::WriteAndVerify { range, .. }
            | Command::WriteAtomic { range, .. }
            | Command::OrWrite { range, .. } => Self::blocks(range.lba(), range.blocks()),
            Command::WriteSame(same) if same.range.blocks() != 0 => {
                Self::blocks(same.range.lba(), same.range.blocks())
            }
            // It would meet its own blocks.
            Command::CompareAndWrite { lba, blocks, .. } => {
                Self::blocks(*lba, (*blocks).into()).forbidden()
            }
            Command::ExtendedCopy { .. } | Command::Sanitize { .. } => Self::UNKNOWN,
            // A key or a reservation is gone, or is another's by then.
            Command::ModeSelect { .. }
            | Command::Reserve { .. }
            | Command::Release { .. }
            | Command::PersistentReserveOut { .. }
            | Command::StartStopUnit { .. }
            | Command::PreventAllowMediumRemoval { .. } => Self::Never { first: 0, end: 0 },
            // Its blocks are in the parameter list, or reach to the end: any change may overlap.
            change if change.alters_medium() => Self::Changes {
                first: 0,
                end: u64::MAX,
            },
            _ => Self::Always,
        }
    }

    /// A command that may do anything.
    pub(crate) const UNKNOWN: Self = Self::Never {
        first: 0,
        end: u64::MAX,
    };

    /// The same blocks, and not again.
    pub(crate) fn forbidden(self) -> Self {
        let (first, end) = self.changed();
        Self::Never { first, end }
    }

    /// True if it must not be sent again.
    pub(crate) fn is_never(self) -> bool {
        matches!(self, Self::Never { .. })
    }

    /// True if both change some block.
    pub(crate) fn overlaps(self, other: Self) -> bool {
        let (first, end) = self.changed();
        let (other_first, other_end) = other.changed();
        first.max(other_first) < end.min(other_end)
    }

    /// The blocks that it changes, up to but without the last.
    fn changed(self) -> (u64, u64) {
        match self {
            Self::Always => (0, 0),
            Self::Changes { first, end } | Self::Never { first, end } => (first, end),
        }
    }

    fn blocks(lba: u64, blocks: u32) -> Self {
        Self::Changes {
            first: lba,
            end: lba.saturating_add(blocks.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use iscsi_proto::scsi::{ByteCheck, Caching, Command, LbaRange};

    use super::Repeat;

    #[test]
    fn only_writes_that_touch_overlap() {
        let of = |lba, blocks| Repeat::of(&Command::write(lba, blocks));
        assert!(of(0, 8).overlaps(of(7, 1)));
        assert!(of(7, 1).overlaps(of(0, 8)));
        assert!(!of(0, 8).overlaps(of(8, 1)));
        assert!(!of(0, 8).overlaps(Repeat::of(&Command::read(0, 8))));
        let range = LbaRange::sixteen(7, 1);
        assert!(of(0, 8).overlaps(Repeat::of(&Command::WriteAndVerify {
            range,
            check: ByteCheck::Readable
        })));
        assert!(of(1 << 40, 1).overlaps(Repeat::of(&Command::Unmap {
            anchor: false,
            parameter_length: 24
        })));
        let start = Command::StartStopUnit {
            start: true,
            load_eject: false,
            immediate: false,
            power_condition: 0,
        };
        assert!(!of(0, 8).overlaps(Repeat::of(&start)));
        assert!(Repeat::of(&start).is_never());
        assert!(of(0, 8).overlaps(Repeat::UNKNOWN));
        let compare = Command::CompareAndWrite {
            lba: 7,
            blocks: 1,
            caching: Caching::default(),
        };
        assert!(Repeat::of(&compare).is_never());
        assert!(of(0, 8).overlaps(Repeat::of(&compare)));
        assert!(!of(8, 8).overlaps(Repeat::of(&compare)));
    }
}
