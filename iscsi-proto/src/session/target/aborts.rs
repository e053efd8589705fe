//! Task management of a target session (RFC 7143 §4.2.3, §11.5 and §11.6).

use std::time::Instant;

use bytes::Bytes;

use crate::session::management::Requested;
use crate::session::target::full_feature::{FullFeature, Request, lun_of};
use crate::session::task::{Delivery, Drain, Kind, ManagementStage, ManagementTask, Task};
use crate::session::{CloseReason, ManagementAnswer, ManagementFunction, TargetEvent, TaskId};
use crate::wire::bhs::{FINAL, TaskManagementRequest, TaskManagementResponse};
use crate::wire::lun::Lun;
use crate::wire::serial::Serial;

impl FullFeature {
    pub(super) fn manage(&mut self, now: Instant, request: Request, header: TaskManagementRequest) {
        self.out.stats.management += 1;
        let function = match Requested::from_byte(header.function) {
            Requested::Function(function) => function,
            Requested::Reassign => {
                return self.decline(request, ManagementAnswer::ReassignUnsupported);
            }
            Requested::Unknown => return self.decline(request, ManagementAnswer::Unsupported),
        };
        if function == ManagementFunction::AbortTask {
            return self.abort_task(now, request, header);
        }
        let id = self.name_task(request.initiator_task_tag);
        let management = ManagementTask {
            function,
            stage: ManagementStage::Commands,
            places: 0,
        };
        self.insert_management(id, lun_of(header.lun), request, management);
        if function.is_on_target() && self.awaits_commands(request.cmd_sn) {
            self.window.plug_until(request.cmd_sn);
        }
        self.management_waits = true;
        self.resume_management(now);
    }

    pub(super) fn answer_management(&mut self, id: TaskId, said: ManagementAnswer) {
        let Some(Task {
            kind: Kind::Management(management),
            ..
        }) = self.task_mut(id)
        else {
            return;
        };
        if let ManagementStage::Affected { answer, .. } = &mut management.stage {
            answer.get_or_insert(said);
            self.try_answer_management(id.initiator_task_tag);
        }
    }

    /// Starts functions whose commands have all come meanwhile.
    pub(super) fn resume_management(&mut self, now: Instant) {
        if !std::mem::take(&mut self.management_waits) {
            return;
        }
        let ready = |task: &&Task| task.waits_for_commands() && !self.awaits_commands(task.cmd_sn);
        let mut ready: Vec<TaskId> = self
            .tasks
            .values()
            .filter(ready)
            .map(|task| task.id)
            .collect();
        ready.sort_unstable();
        for id in ready {
            self.start_group(now, id);
        }
        self.management_waits = self.tasks.values().any(Task::waits_for_commands);
    }

    /// Answers if nothing is awaited any more.
    pub(super) fn try_answer_management(&mut self, tag: u32) {
        let Some(Task {
            kind: Kind::Management(management),
            ..
        }) = self.tasks.get(&tag)
        else {
            return;
        };
        let ManagementStage::Affected {
            answer: Some(answer),
            ..
        } = management.stage
        else {
            return;
        };
        if self
            .drains
            .iter()
            .any(|drain| drain.awaited_by == Some(tag))
        {
            return;
        }
        let (places, function) = (management.places, management.function);
        if let Some(task) = self.tasks.remove(&tag) {
            self.release(task.delivery);
        }
        for _ in 0..places {
            self.window.release();
        }
        self.send_management_answer(tag, answer);
        if function == ManagementFunction::TargetColdReset && answer == ManagementAnswer::Complete {
            self.ending = Some(CloseReason::Reset);
        }
    }

    /// When a function stops waiting for write data.
    pub(super) fn management_deadline(&self) -> Option<Instant> {
        let waits = |tag: u32| {
            self.drains
                .iter()
                .any(|drain| drain.awaited_by == Some(tag))
        };
        let deadline = |task: &Task| match &task.kind {
            Kind::Management(ManagementTask {
                stage: ManagementStage::Affected { deadline, .. },
                ..
            }) => waits(task.id.initiator_task_tag).then_some(*deadline),
            _ => None,
        };
        self.tasks.values().filter_map(deadline).min()
    }

    /// Write data that did not come in time is awaited no more. Linux stops sending it once it asked for an abort.
    pub(super) fn expire_drains(&mut self, now: Instant) {
        let expired = |task: &Task| match &task.kind {
            Kind::Management(ManagementTask {
                stage: ManagementStage::Affected { deadline, .. },
                ..
            }) => (*deadline <= now).then_some(task.id.initiator_task_tag),
            _ => None,
        };
        let expired: Vec<u32> = self.tasks.values().filter_map(expired).collect();
        for tag in expired {
            for drain in self
                .drains
                .iter_mut()
                .filter(|drain| drain.awaited_by == Some(tag))
            {
                drain.awaited_by = None;
            }
            self.try_answer_management(tag);
        }
    }

    /// One task (RFC 7143 §11.6.1 a to c).
    fn abort_task(&mut self, now: Instant, request: Request, header: TaskManagementRequest) {
        let referenced = header.referenced_task_tag.get();
        let lun = lun_of(header.lun);
        match self
            .tasks
            .get(&referenced)
            .map(|task| (&task.kind, task.lun))
        {
            Some((Kind::Management(_), _)) => self.decline(request, ManagementAnswer::Rejected),
            Some((Kind::Scsi(_), of)) if of != lun => {
                self.decline(request, ManagementAnswer::NoTask);
            }
            Some(_) => {
                let id = self.name_task(request.initiator_task_tag);
                let stage = ManagementStage::Affected {
                    answer: None,
                    deadline: now + self.limits.abort_grace,
                };
                let function = ManagementFunction::AbortTask;
                self.insert_management(
                    id,
                    lun,
                    request,
                    ManagementTask {
                        function,
                        stage,
                        places: 0,
                    },
                );
                self.remove_affected(id, lun, vec![referenced], None);
            }
            None => {
                let (number, answer) =
                    self.fate_of_absent(Serial(header.ref_cmd_sn.get()), request.cmd_sn);
                if let Some(number) = number {
                    self.window.plug(number);
                }
                self.decline(request, answer);
            }
        }
    }

    /// A command that was not seen yet counts as received if its number may still come.
    fn fate_of_absent(
        &self,
        number: Serial,
        request: Serial,
    ) -> (Option<Serial>, ManagementAnswer) {
        if self.window.contains(number) && number.lt(request) {
            (Some(number), ManagementAnswer::Complete)
        } else {
            (None, ManagementAnswer::NoTask)
        }
    }

    /// True if commands that a request with this number acts on may still come. A number beyond the window says
    /// nothing.
    fn awaits_commands(&self, cmd_sn: Serial) -> bool {
        self.window.expected().lt(cmd_sn) && cmd_sn.le(self.window.max().next())
    }

    fn start_group(&mut self, now: Instant, id: TaskId) {
        let deadline = now + self.limits.abort_grace;
        let Some(task) = self.task_mut(id) else {
            return;
        };
        let (lun, cmd_sn) = (task.lun, task.cmd_sn);
        let Kind::Management(management) = &mut task.kind else {
            return;
        };
        management.stage = ManagementStage::Affected {
            answer: None,
            deadline,
        };
        let function = management.function;
        let affected = self
            .tasks
            .values()
            .filter(|task| function.affects(task, lun, cmd_sn));
        let affected = affected.map(|task| task.id.initiator_task_tag).collect();
        self.remove_affected(id, lun, affected, Some(id.initiator_task_tag));
    }

    /// Takes tasks away without an answer, and tells the driver about those that it works on.
    fn remove_affected(&mut self, id: TaskId, lun: Lun, tags: Vec<u32>, awaited_by: Option<u32>) {
        let Taken { places, known } = self.take_away(tags, awaited_by);
        let Some(Task {
            kind: Kind::Management(management),
            ..
        }) = self.task_mut(id)
        else {
            return;
        };
        management.places = places;
        let function = management.function;
        let concerns_driver = function != ManagementFunction::AbortTask || !known.is_empty();
        if concerns_driver {
            self.out.events.push_back(TargetEvent::Management {
                task: id,
                function,
                lun,
                affected: known,
            });
        } else {
            self.answer_management(id, ManagementAnswer::Complete);
        }
    }

    /// Another nexus took tasks of this session away; nobody waits for the write data that still comes for them (RFC
    /// 7143 §4.2.3.3).
    pub(super) fn purge(&mut self, lun: Option<Lun>) -> Vec<TaskId> {
        let before = self.window.max();
        let gone = |task: &&Task| {
            matches!(task.kind, Kind::Scsi(_)) && lun.is_none_or(|lun| task.lun == lun)
        };
        let tags = self.tasks.values().filter(gone);
        let tags = tags.map(|task| task.id.initiator_task_tag).collect();
        let Taken { places, known } = self.take_away(tags, None);
        for _ in 0..places {
            self.window.release();
        }
        self.announce_window(before);
        known
    }

    /// Takes tasks away; their places of the window are the caller's to give back.
    fn take_away(&mut self, tags: Vec<u32>, awaited_by: Option<u32>) -> Taken {
        let (mut places, mut known) = (0, Vec::new());
        for tag in tags {
            let Some(task) = self.tasks.remove(&tag) else {
                continue;
            };
            places += u32::from(task.holds_place());
            self.out.stats.aborted += 1;
            let Kind::Scsi(mut scsi) = task.kind else {
                continue;
            };
            scsi.write.abandon();
            if scsi.is_with_driver() {
                known.push(task.id);
            }
            if !scsi.write.is_quiet() {
                self.drain_later(Drain {
                    initiator_task_tag: tag,
                    write: scsi.write,
                    awaited_by,
                });
            }
        }
        if self.starved {
            self.ask_for_data();
        }
        self.begin_held();
        known.sort_unstable();
        Taken { places, known }
    }

    /// Remembers that data still comes. What is forgotten to make room is rejected when it comes.
    fn drain_later(&mut self, drain: Drain) {
        self.forget_drain(drain.initiator_task_tag);
        let oldest = self.drains.front().map(|oldest| oldest.initiator_task_tag);
        if let Some(oldest) = oldest.filter(|_| self.drains.len() >= MAX_DRAINS) {
            self.forget_drain(oldest);
        }
        self.drains.push_back(drain);
    }

    /// Nothing comes any more for a task that is gone: its tag is in use again, or there is no room to remember it.
    pub(super) fn forget_drain(&mut self, tag: u32) {
        let of_tag = |drain: &Drain| drain.initiator_task_tag == tag;
        let Some(index) = self.drains.iter().position(of_tag) else {
            return;
        };
        let awaited_by = self.drains.remove(index).and_then(|old| old.awaited_by);
        if let Some(management) = awaited_by {
            self.try_answer_management(management);
        }
    }

    fn insert_management(
        &mut self,
        id: TaskId,
        lun: Lun,
        request: Request,
        management: ManagementTask,
    ) {
        let Request {
            initiator_task_tag,
            cmd_sn,
            delivery,
        } = request;
        let task = Task {
            id,
            lun,
            cmd_sn,
            delivery,
            kind: Kind::Management(management),
        };
        self.tasks.insert(initiator_task_tag, task);
    }

    /// Answers a request that changes nothing.
    fn decline(&mut self, request: Request, answer: ManagementAnswer) {
        self.release(request.delivery);
        self.send_management_answer(request.initiator_task_tag, answer);
    }

    fn send_management_answer(&mut self, tag: u32, answer: ManagementAnswer) {
        let header = TaskManagementResponse {
            flags: FINAL,
            response: answer.code(),
            initiator_task_tag: tag.into(),
            ..TaskManagementResponse::default()
        };
        self.respond(header, Bytes::new());
    }
}

/// What became of tasks that were taken away.
struct Taken {
    /// Places of the command window that they held.
    places: u32,
    /// Those that the driver works on.
    known: Vec<TaskId>,
}

impl Task {
    /// An exchange of texts gives its place back with every response.
    fn holds_place(&self) -> bool {
        let between = matches!(&self.kind, Kind::Text(text) if !text.awaits_records);
        self.delivery == Delivery::Numbered && !between
    }

    fn waits_for_commands(&self) -> bool {
        matches!(&self.kind, Kind::Management(management) if management.stage == ManagementStage::Commands)
    }
}

impl ManagementFunction {
    /// True for commands that came before the request, and for resets those after it too. Immediate commands carry
    /// the number of the numbered command that follows them.
    fn affects(self, task: &Task, lun: Lun, cmd_sn: Serial) -> bool {
        let is_command = matches!(task.kind, Kind::Scsi(_));
        let before = task.cmd_sn.lt(cmd_sn)
            || (task.delivery == Delivery::Immediate && task.cmd_sn == cmd_sn);
        let aborts = self != Self::ClearAca;
        is_command
            && aborts
            && (self.is_on_target() || task.lun == lun)
            && (self.is_reset() || before)
    }
}

/// Aborted tasks whose data may still come.
const MAX_DRAINS: usize = 1024;
