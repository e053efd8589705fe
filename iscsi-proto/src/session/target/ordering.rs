//! Task attributes: which command begins before which (RFC 7143 §11.3.1; SAM-5 §8.6). ORDERED waits for everything of
//! its unit that is older, everything that is newer waits for ORDERED and for HEAD OF QUEUE, and HEAD OF QUEUE waits for
//! nothing. The order is kept among the commands of a session: every nexus has a task set of its own.

use crate::session::target::full_feature::FullFeature;
use crate::session::task::{Kind, Progress, ScsiTask, Task};
use crate::session::{TargetEvent, TaskAttribute, TaskId};
use crate::wire::lun::Lun;

impl FullFeature {
    /// Hands a command that just came to the driver, unless its attribute or that of an older one forbids it.
    pub(super) fn begin_in_order(&mut self, id: TaskId, lun: Lun, attribute: TaskAttribute) {
        self.is_ordering |= attribute.holds_up();
        if !self.has_to_wait(id, lun, attribute) {
            self.begin(id);
        }
    }

    /// Hands commands to the driver that have nothing to wait for any more.
    pub(super) fn begin_held(&mut self) {
        if !self.is_ordering {
            return;
        }
        let held = self.tasks.values().filter(|task| task.is_held());
        let mut held: Vec<TaskId> = held.map(|task| task.id).collect();
        held.sort_unstable();
        for id in held {
            let Some(Task {
                lun,
                kind: Kind::Scsi(scsi),
                ..
            }) = self.tasks.get(&id.initiator_task_tag)
            else {
                continue;
            };
            if !self.has_to_wait(id, *lun, scsi.attribute) {
                self.begin(id);
            }
        }
        self.is_ordering = self.tasks.values().any(|task| {
            task.command_under_way()
                .is_some_and(|scsi| scsi.attribute.holds_up())
        });
    }

    fn has_to_wait(&self, id: TaskId, lun: Lun, attribute: TaskAttribute) -> bool {
        if !self.is_ordering || attribute == TaskAttribute::HeadOfQueue {
            return false;
        }
        let goes_first = |older: &Task| {
            older.id < id
                && older.lun == lun
                && older.command_under_way().is_some_and(|scsi| {
                    attribute == TaskAttribute::Ordered || scsi.attribute.holds_up()
                })
        };
        self.tasks.values().any(goes_first)
    }

    fn begin(&mut self, id: TaskId) {
        let Some(Task {
            kind: Kind::Scsi(scsi),
            ..
        }) = self.task_mut(id)
        else {
            return;
        };
        if let Progress::Held(command) = scsi.progress {
            scsi.progress = Progress::Running;
            self.out.stats.commands += 1;
            self.out.events.push_back(TargetEvent::Command(command));
        }
    }
}

impl Task {
    fn command_under_way(&self) -> Option<&ScsiTask> {
        match &self.kind {
            Kind::Scsi(scsi) if scsi.is_under_way() => Some(scsi),
            _ => None,
        }
    }

    fn is_held(&self) -> bool {
        matches!(&self.kind, Kind::Scsi(scsi) if matches!(scsi.progress, Progress::Held(_)))
    }
}
