//! What happens to a command that took too long: it is aborted; if the target refuses that, or does not answer in time,
//! its unit is reset; if that fails as well, the session ends. A task of the session is gone when a step succeeds, so
//! that nothing is carried out behind the user's back.

use std::time::Instant;

use crate::session::initiator::SessionEnd;
use crate::session::initiator::full_feature::FullFeature;
use crate::session::initiator::task::{Ending, ResetTask, Task, Work};
use crate::wire::lun::Lun;

impl FullFeature {
    /// An abort was not answered in time. It may still be; nobody waits for that.
    pub(super) fn abort_lapsed(&mut self, now: Instant, tag: u32) -> Result<(), SessionEnd> {
        let unanswered = |task: &&Task| matches!(task.work, Work::Lapsed);
        if self.tasks.values().filter(unanswered).count() >= MOST_UNANSWERED {
            return Err(SessionEnd::Silent);
        }
        let Some(Task { work, deadline }) = self.tasks.get_mut(&tag) else {
            return Ok(());
        };
        let Work::Abort(of) = *work else {
            return Ok(());
        };
        (*work, *deadline) = (Work::Lapsed, None);
        if self.management_running == Some(tag) && !self.urgent.contains(&tag) {
            self.management_running = None;
        } else {
            self.take_back(tag);
        }
        if let Some(Task {
            work: Work::Command(command),
            ..
        }) = self.tasks.get_mut(&of)
        {
            // Whoever asked for the abort waits as well.
            command.ending = match command.ending {
                Ending::Running => Ending::Aborting,
                ending => ending,
            };
            let lun = command.lun;
            self.escalate(now, lun);
        }
        self.next_management();
        Ok(())
    }

    /// Resets a unit that does not end a command, before any other task management.
    pub(super) fn escalate(&mut self, now: Instant, lun: Lun) {
        let resets = |task: &Task| matches!(&task.work, Work::Reset(reset) if reset.lun == lun && reset.request.is_none());
        if self.tasks.values().any(resets) {
            return;
        }
        let reset = Work::Reset(ResetTask {
            request: None,
            lun,
            cmd_sn: None,
        });
        let deadline = now + self.limits.management_timeout;
        let tag = self.add(reset, Some(deadline));
        self.management.push_front(tag);
        self.next_management();
    }

    /// Forgets a function that was not sent yet.
    fn take_back(&mut self, tag: u32) {
        self.tasks.remove(&tag);
        self.urgent.retain(|waiting| *waiting != tag);
        self.management.retain(|waiting| *waiting != tag);
        if self.management_running == Some(tag) {
            self.management_running = None;
        }
    }
}

/// Aborts of one session that were never answered while resets were.
const MOST_UNANSWERED: usize = 8;
