//! The commands of one session for one unit.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use iscsi_proto::session::TaskId;

use super::Work;

/// How long a unit may give no answer before its commands count as stuck.
const STUCK_AFTER: Duration = Duration::from_secs(1);

/// Bytes that the commands of one unit may hold; one command may always exceed it alone.
const LANE_BYTES: u64 = 32 << 20;

/// What a command that waits for its turn needs next.
#[derive(Debug)]
pub(super) enum Step {
    /// So many bytes of its write data.
    Data(u32),
    /// To be executed with this data, none if it needs none.
    Execution(Bytes),
}

/// The commands of one session for one unit, from their arrival to their end.
#[derive(Debug)]
pub(super) struct Lane<V> {
    pub(super) waiting: VecDeque<(Work<V>, Step)>,
    /// Commands that have arrived and not ended, and were not abandoned.
    pub(super) commands: usize,
    /// Bytes that commands which are under way hold or will hold.
    pub(super) held: u64,
    /// When the unit gave its latest answer, or when it got something to do.
    progress: Instant,
    /// It is in line for its turn, or blocked for want of room.
    pub(super) in_line: bool,
}

impl<V> Lane<V> {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            waiting: VecDeque::new(),
            commands: 0,
            held: 0,
            progress: now,
            in_line: false,
        }
    }

    pub(super) fn arrived(&mut self, now: Instant) {
        if self.commands == 0 {
            self.progress = now;
        }
        self.commands += 1;
    }

    /// A command has ended; true if it was the only one.
    pub(super) fn ended(&mut self, now: Instant) -> bool {
        self.progress = now;
        self.left()
    }

    /// A command was abandoned, which says nothing about the unit.
    pub(super) fn left(&mut self) -> bool {
        self.commands = self.commands.saturating_sub(1);
        self.commands == 0
    }

    /// There is room for so many more bytes.
    pub(super) fn has_room(&self, bytes: u64) -> bool {
        self.held.saturating_add(bytes) <= LANE_BYTES
    }

    /// When the commands count as stuck if the unit gives no answer before.
    pub(super) fn stuck_at(&self) -> Option<Instant> {
        (self.commands > 0).then(|| self.progress + STUCK_AFTER)
    }

    /// Forgets commands that have not begun.
    pub(super) fn forget(&mut self, gone: impl Fn(TaskId) -> bool) {
        let before = self.waiting.len();
        self.waiting.retain(|(work, _)| !gone(work.task));
        for _ in self.waiting.len()..before {
            self.left();
        }
    }
}
