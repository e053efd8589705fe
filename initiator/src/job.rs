//! A command on its way, and what may be done with it when the connection is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use iscsi_proto::scsi::Command;
use iscsi_proto::session::{Completion, Request};
use iscsi_proto::wire::lun::Lun;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;

use crate::Error;
use crate::identity::Identity;
use crate::status::Status;

/// What users ask of the task that owns a session.
#[derive(Debug)]
pub(crate) enum Order {
    /// Carry a command out.
    Run(Job),
    /// Find out what a unit is, and guard it from then on.
    Attach { lun: Lun, reply: AttachReply },
    /// Reset a unit.
    Reset { lun: Lun, reply: ResetReply },
    /// Give the connection up and make a new one.
    Reconnect,
    /// Log out.
    Close(oneshot::Sender<()>),
}

/// Whom it is told to what a unit is, and how many blocks it has from time to time.
pub(crate) type AttachReply = oneshot::Sender<Result<(Identity, UnitSize), Error>>;

/// The number of blocks of a unit, as it was reported last.
#[derive(Clone, Debug, Default)]
pub(crate) struct UnitSize(Arc<AtomicU64>);

impl UnitSize {
    pub(crate) fn set(&self, blocks: u64) {
        self.0.store(blocks, Ordering::Release);
    }

    pub(crate) fn blocks(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// Whom the end of a reset is told to.
pub(crate) type ResetReply = oneshot::Sender<Result<(), Error>>;

/// A command on its way.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) request: Request,
    pub(crate) repeat: Repeat,
    pub(crate) terms: Terms,
    /// How often the target gave an answer that asks for another try.
    pub(crate) tries: u8,
    /// How often the unit had no time for it, and since when.
    pub(crate) pauses: u32,
    pub(crate) busy_since: Option<Instant>,
    /// The changes that its session had seen acknowledged when it was sent.
    pub(crate) sent_after: u64,
    /// It was sent on a connection that is lost, or was aborted: nobody knows whether it was carried out.
    pub(crate) in_doubt: bool,
    /// When the connection was lost for the first time since it came.
    pub(crate) first_loss: Option<Instant>,
    reply: Reply,
    /// Its place in the session's queue.
    _place: OwnedSemaphorePermit,
}

/// On what terms a command is carried out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// It may be repeated after a pause when the unit has no time for it.
    pub(crate) waits: bool,
    /// How long it may take on one connection.
    pub(crate) timeout: Option<Duration>,
}

impl Job {
    pub(crate) fn new(
        request: Request,
        repeat: Repeat,
        terms: Terms,
        reply: Reply,
        place: OwnedSemaphorePermit,
    ) -> Self {
        Self {
            request,
            repeat,
            terms,
            tries: 0,
            pauses: 0,
            busy_since: None,
            sent_after: 0,
            in_doubt: false,
            first_loss: None,
            reply,
            _place: place,
        }
    }

    /// Answers; nobody may be waiting any more.
    pub(crate) fn answer(self, result: Result<Completion, Error>) {
        self.reply.send(result);
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
        self.reply.is_unheard()
    }
}

/// Whom the end of a command is told to, and the other end of that.
pub(crate) fn replies(status: &Arc<Status>) -> (Reply, Pending) {
    let (sender, receiver) = oneshot::channel();
    let reply = Reply {
        sender: Some(sender),
        status: Arc::clone(status),
    };
    let pending = Pending {
        answer: Some(receiver),
        status: Some(Arc::clone(status)),
    };
    (reply, pending)
}

/// Whom the end of a command is told to. Exactly one of both ends notices that nobody waits any more.
#[derive(Debug)]
pub(crate) struct Reply {
    sender: Option<oneshot::Sender<Result<Completion, Error>>>,
    status: Arc<Status>,
}

impl Reply {
    fn send(mut self, result: Result<Completion, Error>) {
        self.status.count(result.is_ok());
        if let Some(sender) = self.sender.take()
            && sender.send(result).is_err()
        {
            self.status.forget_abandoned();
        }
    }

    fn is_unheard(&self) -> bool {
        self.sender.as_ref().is_none_or(oneshot::Sender::is_closed)
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if self.sender.as_ref().is_some_and(oneshot::Sender::is_closed) {
            self.status.forget_abandoned();
        }
    }
}

/// A command that was submitted.
#[derive(Debug)]
pub(crate) struct Pending {
    answer: Option<oneshot::Receiver<Result<Completion, Error>>>,
    /// Who counts those that nobody waits for.
    status: Option<Arc<Status>>,
}

impl Pending {
    /// A command that no session knows.
    pub(crate) fn of(answer: oneshot::Receiver<Result<Completion, Error>>) -> Self {
        Self {
            answer: Some(answer),
            status: None,
        }
    }

    /// Waits for its end.
    pub(crate) async fn end(mut self) -> Result<Completion, Error> {
        let Some(answer) = &mut self.answer else {
            return Err(Error::Closed);
        };
        let result = answer.await;
        self.answer = None;
        result.map_err(|_| Error::Closed)?
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(mut answer) = self.answer.take() {
            answer.close();
            if let (Some(status), Err(_)) = (&self.status, answer.try_recv()) {
                status.abandon();
            }
        }
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

    /// True if it may change blocks.
    pub(crate) fn alters(self) -> bool {
        let (first, end) = self.changed();
        first < end
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
