//! Write data of a target session: Data-Out in, R2T out, and what becomes of the command.

use bytes::Bytes;

use crate::session::data_out::{DataOutPdu, Fault, ReadyFor, Verdict, WriteTransfer};
use crate::session::target::full_feature::{FullFeature, lun_of};
use crate::session::task::{Kind, Progress, ScsiTask, Task};
use crate::session::{Response, TargetEvent, TaskId};
use crate::wire::bhs::{DataOut, FINAL, RESERVED_TAG, ReadyToTransfer};
use crate::wire::lun::Lun;
use crate::wire::opcode::RejectReason;

impl FullFeature {
    pub(super) fn receive(&mut self, id: TaskId, length: u32) {
        let Some(Task {
            kind: Kind::Scsi(scsi),
            ..
        }) = self.task_mut(id)
        else {
            return;
        };
        if matches!(scsi.progress, Progress::Running) {
            scsi.write.want(length);
            self.advance_command(id.initiator_task_tag);
        }
    }

    pub(super) fn data_out(&mut self, header: DataOut, data: Bytes) {
        self.out.stats.data_out_bytes += data.len() as u64;
        let tag = header.initiator_task_tag.get();
        let stray_lun = self
            .tasks
            .get(&tag)
            .is_some_and(|task| !names_unit(&header, task.lun));
        let data = if stray_lun {
            Err(Fault::WrongAmount)
        } else {
            Ok(data)
        };
        let verdict = self.take_data(&header, data);
        if stray_lun || verdict == Verdict::InvalidField {
            self.reject(RejectReason::INVALID_PDU_FIELD, &header.into());
        }
        self.advance_command(tag);
    }

    /// The data is lost, but it still counts as the end of its sequence.
    pub(super) fn damaged_data_out(&mut self, header: &DataOut) {
        self.take_data(header, Err(Fault::Damaged));
        self.advance_command(header.initiator_task_tag.get());
    }

    /// Gives a PDU to its task, or to what is left of it.
    fn take_data(&mut self, header: &DataOut, data: Result<Bytes, Fault>) -> Verdict {
        let tag = header.initiator_task_tag.get();
        let pdu = DataOutPdu {
            tag: header.target_transfer_tag.get(),
            data_sn: header.data_sn.get(),
            offset: header.buffer_offset.get(),
            is_final: header.flags & FINAL != 0,
            data,
        };
        match self.tasks.get_mut(&tag) {
            Some(Task {
                kind: Kind::Scsi(scsi),
                ..
            }) => scsi.write.accept(pdu),
            _ => self.drain(tag, pdu),
        }
    }

    fn drain(&mut self, tag: u32, pdu: DataOutPdu) -> Verdict {
        let Some(index) = self
            .drains
            .iter()
            .position(|drain| drain.initiator_task_tag == tag)
        else {
            return Verdict::InvalidField;
        };
        let Some(drain) = self.drains.get_mut(index) else {
            return Verdict::InvalidField;
        };
        let verdict = drain.write.accept(pdu);
        let awaited_by = drain.awaited_by;
        if drain.write.is_quiet() {
            self.drains.remove(index);
        }
        if let Some(management) = awaited_by {
            self.try_answer_management(management);
        }
        verdict
    }

    /// Does for a command whatever can be done now: ask for data, hand data over, answer.
    pub(super) fn advance_command(&mut self, tag: u32) {
        self.hand_over_data(tag);
        if self.tasks.get(&tag).is_some_and(Task::wants_data) {
            self.ask_for_data();
        }
        let Some(Task {
            kind: Kind::Scsi(scsi),
            ..
        }) = self.tasks.get_mut(&tag)
        else {
            return;
        };
        if !scsi.write.is_quiet() {
            return;
        }
        if let Some(response) = scsi.take_answer() {
            self.answer_command(tag, response);
        }
    }

    /// Data that is whole goes to the driver; a command whose data is at fault is taken from it, unless it already
    /// works on the data.
    fn hand_over_data(&mut self, tag: u32) {
        let Some(Task {
            kind: Kind::Scsi(scsi),
            id,
            ..
        }) = self.tasks.get_mut(&tag)
        else {
            return;
        };
        match scsi.progress {
            Progress::Running => {}
            Progress::Held(_) if scsi.write.fault().is_some() => {
                scsi.progress = Progress::Withheld;
                return self.begin_held();
            }
            _ => return,
        }
        if scsi.write.fault().is_some() {
            scsi.progress = Progress::Withheld;
            self.out.events.push_back(TargetEvent::Aborted(vec![*id]));
            self.begin_held();
        } else if let Some(data) = scsi.write.take_wanted() {
            scsi.progress = Progress::Writing;
            self.out
                .events
                .push_back(TargetEvent::DataReady { task: *id, data });
        }
    }

    /// Asks for write data, oldest command first, as far as memory allows. The oldest may always ask: else commands
    /// that hold half of their data each could wait for one another.
    pub(super) fn ask_for_data(&mut self) {
        self.starved = false;
        let transfers = || {
            self.tasks
                .values()
                .filter_map(|task| Some((task.id, task.lun, task.transfer()?)))
        };
        let oldest = transfers()
            .filter(|(.., write)| write.is_wanted())
            .map(|(id, ..)| id)
            .min();
        let mut reserved: u64 = transfers().map(|(.., write)| write.reserved()).sum();
        let hungry = transfers().filter(|(.., write)| write.next_request().is_some());
        let mut hungry: Vec<(TaskId, Lun)> = hungry.map(|(id, lun, _)| (id, lun)).collect();
        hungry.sort_unstable_by_key(|&(id, _)| id);
        for (id, lun) in hungry {
            while let Some(request) = self
                .task_mut(id)
                .and_then(|task| task.transfer()?.next_request())
            {
                let after = reserved + u64::from(request.length);
                if Some(id) != oldest && after > self.limits.write_bytes {
                    self.starved = true;
                    return;
                }
                reserved = after;
                self.send_r2t(id, lun, request);
            }
        }
    }

    fn send_r2t(&mut self, id: TaskId, lun: Lun, request: ReadyFor) {
        let tag = self.new_tag();
        let Some(Task {
            kind: Kind::Scsi(scsi),
            ..
        }) = self.task_mut(id)
        else {
            return;
        };
        scsi.write.requested(request, tag);
        let r2t_sn = scsi.input_sn;
        scsi.input_sn = r2t_sn.wrapping_add(1);
        self.out.stats.r2ts += 1;
        self.remark(ReadyToTransfer {
            flags: FINAL,
            lun: lun.0.into(),
            initiator_task_tag: id.initiator_task_tag.into(),
            target_transfer_tag: tag.into(),
            r2t_sn: r2t_sn.into(),
            buffer_offset: request.offset.into(),
            desired_data_transfer_length: request.length.into(),
            ..ReadyToTransfer::default()
        });
    }
}

impl Task {
    fn transfer(&self) -> Option<&WriteTransfer> {
        match &self.kind {
            Kind::Scsi(scsi) => Some(&scsi.write),
            Kind::Text(_) | Kind::Management(_) => None,
        }
    }

    fn wants_data(&self) -> bool {
        self.transfer()
            .is_some_and(|transfer| transfer.next_request().is_some())
    }
}

impl ScsiTask {
    /// The answer that is ready to go, if nothing is awaited from the driver. A fault in the data outweighs what
    /// the driver says.
    fn take_answer(&mut self) -> Option<Response> {
        if self.is_under_way() {
            return None;
        }
        let progress = std::mem::replace(&mut self.progress, Progress::Withheld);
        match (self.write.fault(), progress) {
            (Some(fault), _) => Some(Response::check_condition(fault.sense().to_fixed_bytes())),
            (None, Progress::Answered(response)) => Some(response),
            (None, _) => None,
        }
    }
}

/// A transfer that was asked for repeats the unit of its R2T (RFC 7143 §11.7.4).
fn names_unit(header: &DataOut, lun: Lun) -> bool {
    header.target_transfer_tag == RESERVED_TAG || lun_of(header.lun) == lun
}
