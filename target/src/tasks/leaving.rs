//! Writes that go on though nobody waits for their answers: a reset, or an abort, is over when they are.

use std::collections::HashSet;

use iscsi_proto::session::TaskId;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// Who waits for which writes.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    groups: Vec<(HashSet<TaskId>, TaskTrackerToken)>,
}

impl Leaving {
    /// The waiter is given up when all of these writes have ended.
    pub(super) fn add(&mut self, writes: HashSet<TaskId>, waiter: TaskTrackerToken) {
        if !writes.is_empty() {
            self.groups.push((writes, waiter));
        }
    }

    pub(super) fn ended(&mut self, write: TaskId) {
        self.groups.retain_mut(|(writes, _)| {
            writes.remove(&write);
            !writes.is_empty()
        });
    }
}
