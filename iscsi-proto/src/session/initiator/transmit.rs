//! What the initiator sends in the full feature phase: the next PDU, built when there is room for it.

use bytes::Bytes;

use crate::discovery::{DiscoverScope, SEND_TARGETS};
use crate::params::Params;
use crate::session::ManagementFunction;
use crate::session::initiator::full_feature::{FullFeature, Leaving};
use crate::session::initiator::payload::Sequence;
use crate::session::initiator::task::{
    CommandTask, Payload, Rejected, ResetTask, Task, TextTask, Work,
};
use crate::wire::bhs::{
    FINAL, IMMEDIATE, LogoutRequest, NopIn, NopOut, READ, RESERVED_TAG, ScsiCommand,
    TaskManagementRequest, TextRequest, WRITE,
};
use crate::wire::lun::Lun;
use crate::wire::opcode::LogoutReason;
use crate::wire::serial::Serial;
use crate::wire::{Pdu, text};

impl FullFeature {
    /// The next PDU to send: answers and immediate requests, then commands as the window allows, then data.
    pub(super) fn next_pdu(&mut self) -> Option<Pdu> {
        let pdu = self
            .next_pong()
            .or_else(|| self.next_urgent())
            .or_else(|| self.next_numbered())
            .or_else(|| self.next_data());
        self.stats.pdus_out += u64::from(pdu.is_some());
        pdu
    }

    fn next_pong(&mut self) -> Option<Pdu> {
        let ping = self.pings.pop_front()?;
        Some(pong(
            &ping,
            self.numbers.cmd_sn(),
            self.numbers.exp_stat_sn(),
        ))
    }

    fn next_urgent(&mut self) -> Option<Pdu> {
        loop {
            let tag = self.urgent.pop_front()?;
            let (cmd_sn, exp_stat_sn) = (self.numbers.cmd_sn(), self.numbers.exp_stat_sn());
            let pdu = match self.tasks.get_mut(&tag).map(|task| &mut task.work) {
                Some(Work::Ping) => ping(tag, cmd_sn, exp_stat_sn),
                Some(Work::Logout) => logout(tag, cmd_sn, exp_stat_sn),
                Some(Work::Reset(reset)) => unit_reset(reset, tag, cmd_sn, exp_stat_sn),
                Some(Work::Abort(of)) => {
                    let of = *of;
                    let of = self.aborted(of);
                    abort(tag, of, cmd_sn, exp_stat_sn)
                }
                Some(Work::Plug(rejected)) => abort(tag, *rejected, cmd_sn, exp_stat_sn),
                _ => continue,
            };
            return Some(pdu);
        }
    }

    /// What ABORT TASK is about; also for a command that was answered meanwhile, which the target will say.
    fn aborted(&self, tag: u32) -> Rejected {
        let next = self.numbers.cmd_sn();
        let (lun, cmd_sn) = match self.tasks.get(&tag).map(|task| &task.work) {
            Some(Work::Command(command)) => (command.lun, command.cmd_sn.unwrap_or(next)),
            _ => (Lun::default(), next),
        };
        Rejected { tag, lun, cmd_sn }
    }

    fn next_numbered(&mut self) -> Option<Pdu> {
        if !matches!(self.leaving, Leaving::No) {
            return None;
        }
        while self.numbers.is_open() {
            let tag = self.waiting.pop_front()?;
            let Some(Task { work, .. }) = self.tasks.get_mut(&tag) else {
                continue;
            };
            let exp_stat_sn = self.numbers.exp_stat_sn();
            match work {
                Work::Command(command) => {
                    let cmd_sn = self.numbers.take();
                    let (pdu, sequence) =
                        command_pdu(command, tag, &self.params, cmd_sn, exp_stat_sn);
                    self.sequences.extend(sequence);
                    self.stats.commands += 1;
                    self.stats.data_out_bytes += pdu.data.len() as u64;
                    return Some(pdu);
                }
                Work::Text(task) => {
                    return Some(text_pdu(task, tag, self.numbers.take(), exp_stat_sn));
                }
                _ => {}
            }
        }
        None
    }

    fn next_data(&mut self) -> Option<Pdu> {
        loop {
            let sequence = self.sequences.front_mut()?;
            let Some(Task {
                work:
                    Work::Command(CommandTask {
                        data: Payload::Out(out),
                        ..
                    }),
                ..
            }) = self.tasks.get_mut(&sequence.initiator_task_tag)
            else {
                self.sequences.pop_front();
                continue;
            };
            let (pdu, last) = out.next_pdu(sequence, &self.params, self.numbers.exp_stat_sn());
            if last {
                self.sequences.pop_front();
            }
            self.stats.data_out_bytes += pdu.data.len() as u64;
            return Some(pdu);
        }
    }
}

fn command_pdu(
    command: &mut CommandTask,
    tag: u32,
    params: &Params,
    cmd_sn: Serial,
    exp_stat_sn: Serial,
) -> (Pdu, Option<Sequence>) {
    command.cmd_sn = Some(cmd_sn);
    let (direction, length, immediate, sequence) = match &mut command.data {
        Payload::None => (0, 0, Bytes::new(), None),
        Payload::In(incoming) => (READ, incoming.expected(), Bytes::new(), None),
        Payload::Out(out) => {
            let unasked = out.begin(params, tag, command.lun.0);
            (WRITE, out.total(), unasked.immediate, unasked.sequence)
        }
    };
    let last = if sequence.is_none() { FINAL } else { 0 };
    let header = ScsiCommand {
        flags: last | direction | SIMPLE,
        lun: command.lun.0.into(),
        initiator_task_tag: tag.into(),
        expected_data_transfer_length: length.into(),
        cmd_sn: cmd_sn.0.into(),
        exp_stat_sn: exp_stat_sn.0.into(),
        cdb: command.cdb,
        ..ScsiCommand::default()
    };
    (Pdu::new(header, immediate), sequence)
}

/// The first request asks; those after it are empty and fetch what is left of the answer (RFC 7143 §11.10.4).
fn text_pdu(task: &mut TextTask, tag: u32, cmd_sn: Serial, exp_stat_sn: Serial) -> Pdu {
    task.asked = true;
    let question = match task.request {
        Some(_) if task.is_fresh() => {
            text::encode(&[(SEND_TARGETS, DiscoverScope::All.as_value())])
        }
        _ => Bytes::new(),
    };
    let header = TextRequest {
        flags: FINAL,
        lun: task.lun.into(),
        initiator_task_tag: tag.into(),
        target_transfer_tag: task.target_transfer_tag.into(),
        cmd_sn: cmd_sn.0.into(),
        exp_stat_sn: exp_stat_sn.0.into(),
        ..TextRequest::default()
    };
    Pdu::new(header, question)
}

fn abort(tag: u32, of: Rejected, cmd_sn: Serial, exp_stat_sn: Serial) -> Pdu {
    Pdu::bare(TaskManagementRequest {
        opcode: TaskManagementRequest::OPCODE | IMMEDIATE,
        function: FINAL | ManagementFunction::AbortTask.code(),
        lun: of.lun.0.into(),
        initiator_task_tag: tag.into(),
        referenced_task_tag: of.tag.into(),
        cmd_sn: cmd_sn.0.into(),
        exp_stat_sn: exp_stat_sn.0.into(),
        ref_cmd_sn: of.cmd_sn.0.into(),
        ..TaskManagementRequest::default()
    })
}

fn unit_reset(reset: &mut ResetTask, tag: u32, cmd_sn: Serial, exp_stat_sn: Serial) -> Pdu {
    reset.cmd_sn = Some(cmd_sn);
    Pdu::bare(TaskManagementRequest {
        opcode: TaskManagementRequest::OPCODE | IMMEDIATE,
        function: FINAL | ManagementFunction::LogicalUnitReset.code(),
        lun: reset.lun.0.into(),
        initiator_task_tag: tag.into(),
        referenced_task_tag: RESERVED_TAG.into(),
        cmd_sn: cmd_sn.0.into(),
        exp_stat_sn: exp_stat_sn.0.into(),
        ..TaskManagementRequest::default()
    })
}

/// Our own ping. It is immediate, so that a closed window does not look like a dead target.
fn ping(tag: u32, cmd_sn: Serial, exp_stat_sn: Serial) -> Pdu {
    Pdu::bare(NopOut {
        opcode: NopOut::OPCODE | IMMEDIATE,
        flags: FINAL,
        initiator_task_tag: tag.into(),
        target_transfer_tag: RESERVED_TAG.into(),
        cmd_sn: cmd_sn.0.into(),
        exp_stat_sn: exp_stat_sn.0.into(),
        ..NopOut::default()
    })
}

/// The answer to the target's ping: its tag and its LUN come back (RFC 7143 §11.18.2).
fn pong(ping: &NopIn, cmd_sn: Serial, exp_stat_sn: Serial) -> Pdu {
    Pdu::bare(NopOut {
        opcode: NopOut::OPCODE | IMMEDIATE,
        flags: FINAL,
        lun: ping.lun,
        initiator_task_tag: RESERVED_TAG.into(),
        target_transfer_tag: ping.target_transfer_tag,
        cmd_sn: cmd_sn.0.into(),
        exp_stat_sn: exp_stat_sn.0.into(),
        ..NopOut::default()
    })
}

fn logout(tag: u32, cmd_sn: Serial, exp_stat_sn: Serial) -> Pdu {
    Pdu::bare(LogoutRequest {
        opcode: LogoutRequest::OPCODE | IMMEDIATE,
        reason: FINAL | LogoutReason::CLOSE_SESSION.0,
        initiator_task_tag: tag.into(),
        cmd_sn: cmd_sn.0.into(),
        exp_stat_sn: exp_stat_sn.0.into(),
        ..LogoutRequest::default()
    })
}

/// The task attribute of a SCSI Command: simple (RFC 7143 §11.3.1).
const SIMPLE: u8 = 0x01;
