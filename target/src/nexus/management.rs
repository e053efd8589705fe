//! Task management (RFC 7143 §11.5): what a function does beyond the tasks that the session itself gave up.
//!
//! A function that concerns other sessions tells their connections; each takes its tasks away without an answer. The
//! answer waits, but not for ever, until no such task touches the volume any more.

use std::sync::Arc;

use iscsi_proto::scsi::Sense;
use iscsi_proto::session::{ManagementAnswer, ManagementFunction, TaskId};
use iscsi_proto::wire::lun::Lun;
use tokio_util::task::TaskTracker;
use tracing::debug;
use vmthunder_volume::Volume;

use super::Nexus;
use crate::asker::Asker;
use crate::metrics::Counters;
use crate::sessions::Whom;

impl<V: Volume> Nexus<V> {
    pub(super) fn manage(
        &mut self,
        task: TaskId,
        function: ManagementFunction,
        lun: Lun,
        affected: &[TaskId],
    ) {
        let tracker = TaskTracker::new();
        self.tasks.abandon(affected, Some(tracker.token()));
        let answer = self.carry_out(function, lun, &tracker);
        debug!(?function, %lun, affected = affected.len(), ?answer, "task management");
        if answer == ManagementAnswer::Complete && !tracker.is_empty() {
            let purged = self.target.sessions.purged(tracker);
            self.tasks.answer_after(purged, task);
        } else {
            self.session.answer_management(task, answer);
        }
    }

    fn carry_out(
        &self,
        function: ManagementFunction,
        lun: Lun,
        tracker: &TaskTracker,
    ) -> ManagementAnswer {
        let Some(asker) = self.seat.as_ref().and_then(|seat| seat.asker.as_ref()) else {
            return ManagementAnswer::Rejected;
        };
        let unit = lun.number().filter(|unit| asker.units.contains_key(unit));
        match (function, unit) {
            // There is never such a condition: a command that asks for one by its NACA bit is refused (SAM-5 §5.10).
            (ManagementFunction::ClearAca, _) => ManagementAnswer::Unsupported,
            (ManagementFunction::TargetWarmReset, _) => {
                self.reset_all(asker, tracker);
                ManagementAnswer::Complete
            }
            (ManagementFunction::TargetColdReset, _) => {
                self.reset_all(asker, tracker);
                // The own session ends with the answer.
                let target = &asker.export.port.target;
                let others = Whom::Others(&asker.nexus);
                for gone in asker.sessions.close_target(target, others) {
                    let waiter = tracker.token();
                    tokio::spawn(async move {
                        gone.cancelled().await;
                        drop(waiter);
                    });
                }
                ManagementAnswer::Complete
            }
            (_, None) => ManagementAnswer::NoLun,
            (ManagementFunction::LogicalUnitReset, Some(unit)) => {
                self.reset(asker, unit, Sense::DEVICE_RESET, tracker);
                ManagementAnswer::Complete
            }
            (ManagementFunction::ClearTaskSet, Some(unit)) => {
                let others = Whom::Others(&asker.nexus);
                asker.order_purge(unit, others, Some(Sense::COMMANDS_CLEARED), tracker);
                ManagementAnswer::Complete
            }
            (ManagementFunction::AbortTask | ManagementFunction::AbortTaskSet, Some(_)) => {
                ManagementAnswer::Complete
            }
        }
    }

    fn reset_all(&self, asker: &Asker<V>, tracker: &TaskTracker) {
        for unit in asker.units.keys() {
            self.reset(asker, *unit, Sense::POWER_ON_OR_RESET, tracker);
        }
    }

    /// Takes all tasks of a unit away, whoever they are of, and tells everybody (SAM-5 §6.3).
    fn reset(&self, asker: &Asker<V>, unit: u16, sense: Sense, tracker: &TaskTracker) {
        Counters::add(&self.target.counters.resets, 1);
        asker.order_purge(unit, Whom::Others(&asker.nexus), None, tracker);
        if let Some(unit) = asker.units.get(&unit).map(Arc::clone) {
            unit.reset();
        }
        asker.raise(unit, Whom::All, sense);
    }
}
