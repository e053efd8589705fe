//! Tasks of a target session, from the arrival of their request to its answer.

use std::time::Instant;

use crate::session::data_out::WriteTransfer;
use crate::session::text::TextExchange;
use crate::session::{
    Command, ManagementAnswer, ManagementFunction, Response, TaskAttribute, TaskId,
};
use crate::wire::lun::Lun;
use crate::wire::serial::Serial;

/// A request that was delivered and not answered yet.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) id: TaskId,
    pub(crate) lun: Lun,
    pub(crate) cmd_sn: Serial,
    pub(crate) delivery: Delivery,
    pub(crate) kind: Kind,
}

/// How a request came, and so what it occupies until it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// In order; it holds a place of the command window.
    Numbered,
    /// At once, outside the window.
    Immediate,
}

/// What is being done for the initiator.
#[derive(Debug)]
pub(crate) enum Kind {
    Scsi(ScsiTask),
    Text(TextExchange),
    Management(ManagementTask),
}

/// A SCSI command under way.
#[derive(Debug)]
pub(crate) struct ScsiTask {
    /// The expected data transfer length.
    pub(crate) expected: u32,
    /// Room for data in the initiator.
    pub(crate) read_length: u32,
    pub(crate) bidirectional: bool,
    /// The next DataSN or R2TSN; they share a sequence (RFC 7143 §4.2.2.4).
    pub(crate) input_sn: u32,
    pub(crate) attribute: TaskAttribute,
    pub(crate) write: WriteTransfer,
    pub(crate) progress: Progress,
}

/// How far a SCSI command got.
#[derive(Debug)]
pub(crate) enum Progress {
    /// The driver does not know of it, or was told to forget it: its data is at fault.
    Withheld,
    /// Others of its unit have to end before it begins.
    Held(Command),
    /// The driver works on it.
    Running,
    /// The driver works on its write data.
    Writing,
    /// It ended, but the initiator still sends data.
    Answered(Response),
}

impl ScsiTask {
    /// True if it did not end yet, as far as the unit is concerned.
    pub(crate) fn is_under_way(&self) -> bool {
        self.is_with_driver() || matches!(self.progress, Progress::Held(_))
    }

    /// True if the driver works on it.
    pub(crate) fn is_with_driver(&self) -> bool {
        matches!(self.progress, Progress::Running | Progress::Writing)
    }
}

/// A task management function under way.
#[derive(Debug)]
pub(crate) struct ManagementTask {
    pub(crate) function: ManagementFunction,
    pub(crate) stage: ManagementStage,
    /// Places of the command window that the affected tasks held.
    pub(crate) places: u32,
}

/// What a task management function waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ManagementStage {
    /// Commands with lower numbers that did not come yet (RFC 7143 §4.2.3.3 b).
    Commands,
    /// The driver, and the write data that affected tasks asked for, but for the latter not forever.
    Affected {
        /// What the driver said.
        answer: Option<ManagementAnswer>,
        /// When write data is no longer awaited.
        deadline: Instant,
    },
}

/// Write data that still comes for a task that is gone.
#[derive(Debug)]
pub(crate) struct Drain {
    pub(crate) initiator_task_tag: u32,
    pub(crate) write: WriteTransfer,
    /// The task management request that waits for it.
    pub(crate) awaited_by: Option<u32>,
}
