//! Task management (RFC 7143 §11.5), and a command that surely runs while it comes.

use bytes::Bytes;
use iscsi_proto::wire::bhs::{
    FINAL, IMMEDIATE, RESERVED_TAG, ReadyToTransfer, ScsiCommand, TaskManagementRequest,
    TaskManagementResponse,
};
use iscsi_proto::wire::{Header, Pdu};

use crate::bench::Bench;
use crate::check::{Finding, ensure, skip, violation};
use crate::session::{Reply, Session, Task};
use crate::wire::Heard;

/// ABORT TASK.
pub(crate) const ABORT_TASK: u8 = 1;
/// ABORT TASK SET.
pub(crate) const ABORT_TASK_SET: u8 = 2;
/// CLEAR ACA.
pub(crate) const CLEAR_ACA: u8 = 3;
/// CLEAR TASK SET.
pub(crate) const CLEAR_TASK_SET: u8 = 4;
/// LOGICAL UNIT RESET.
pub(crate) const UNIT_RESET: u8 = 5;
/// TARGET WARM RESET.
pub(crate) const WARM_RESET: u8 = 6;
/// TARGET COLD RESET.
pub(crate) const COLD_RESET: u8 = 7;
/// TASK REASSIGN.
pub(crate) const TASK_REASSIGN: u8 = 8;

/// Function complete.
pub(crate) const COMPLETE: u8 = 0;
/// Task does not exist.
pub(crate) const NO_TASK: u8 = 1;
/// Function rejected.
pub(crate) const REJECTED: u8 = 255;

/// Keys that make the target ask for every byte of write data.
pub(crate) const SOLICITED: &[(&str, &str)] = &[("InitialR2T", "Yes"), ("ImmediateData", "No")];

/// A WRITE that waits for the data that its target has asked for.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) header: ScsiCommand,
    pub(crate) r2t: ReadyToTransfer,
    pub(crate) data: Bytes,
}

impl Held {
    /// The task's tag.
    pub(crate) fn tag(&self) -> u32 {
        self.header.initiator_task_tag.get()
    }

    /// True for what the target says about the task itself. A Reject names no task.
    pub(crate) fn is_about(&self, pdu: &Pdu) -> bool {
        pdu.header.common().initiator_task_tag == self.header.initiator_task_tag
    }
}

/// What became of a task management request.
#[derive(Clone, Debug)]
pub(crate) enum Managed {
    /// It was answered, after all this.
    Answered(TaskManagementResponse, Vec<Pdu>),
    /// The request itself was rejected, with this reason.
    Rejected(u8),
    /// The connection was closed.
    Closed,
}

impl Managed {
    /// The answer, and all that came before it; anything else is a violation.
    fn answer(self, function: u8) -> Result<(TaskManagementResponse, Vec<Pdu>), Finding> {
        match self {
            Self::Answered(response, before) => Ok((response, before)),
            Self::Rejected(reason) => violation!(
                "task management function {function} is rejected with reason {reason:#04x} instead of answered"
            ),
            Self::Closed => violation!(
                "the target closes the connection instead of answering task management function {function}"
            ),
        }
    }
}

impl Bench {
    /// A session in which the target asks for every byte of write data.
    pub(crate) async fn solicited(&self) -> Result<Session, Finding> {
        self.session_with(SOLICITED).await
    }

    /// Sends a WRITE (10) of one block, filled with `fill`, and takes the R2T for its data.
    pub(crate) async fn hold(
        &self,
        session: &mut Session,
        block: u32,
        fill: u8,
    ) -> Result<Held, Finding> {
        let bytes = usize::try_from(self.facts.block_bytes).unwrap_or(0);
        let data = Bytes::from(vec![fill; bytes]);
        let (header, data) = session.open(&Task::write(&write_10(block), data)).await;
        let pdu = match session.next().await {
            Heard::Pdu(pdu) => pdu,
            other => skip!("a WRITE of one block without data brings no R2T: {other}"),
        };
        match pdu.header {
            Header::ReadyToTransfer(r2t) if r2t.initiator_task_tag == header.initiator_task_tag => {
                Ok(Held { header, r2t, data })
            }
            Header::ScsiResponse(answer) if answer.status != 0 => {
                skip!("the unit takes no WRITE: status {:#04x}", answer.status)
            }
            _ => skip!(
                "a WRITE of one block without data brings no R2T but {}",
                Heard::Pdu(pdu)
            ),
        }
    }

    /// What is in one block.
    pub(crate) async fn block(&self, session: &mut Session, block: u32) -> Result<Bytes, Finding> {
        let [a, b, c, d] = block.to_be_bytes();
        let read = Task::read(&[0x28, 0, a, b, c, d, 0, 0, 1], self.facts.block_bytes);
        Ok(session.run(&read).await?.good("READ (10)")?.data)
    }
}

impl Session {
    /// A request for immediate delivery that acts on the session's unit, and on all commands so far.
    pub(crate) fn management(&mut self, function: u8) -> TaskManagementRequest {
        TaskManagementRequest {
            opcode: TaskManagementRequest::OPCODE | IMMEDIATE,
            function: FINAL | function,
            lun: self.lun.0.into(),
            initiator_task_tag: self.tag().into(),
            referenced_task_tag: RESERVED_TAG.into(),
            cmd_sn: self.cmd_sn.into(),
            exp_stat_sn: self.exp_stat_sn.into(),
            ..TaskManagementRequest::default()
        }
    }

    /// ABORT TASK of a command that was sent.
    pub(crate) fn abortion(&mut self, of: &ScsiCommand) -> TaskManagementRequest {
        TaskManagementRequest {
            referenced_task_tag: of.initiator_task_tag,
            ref_cmd_sn: of.cmd_sn,
            ..self.management(ABORT_TASK)
        }
    }

    /// Sends a request and takes its answer; anything else that ends it is a violation.
    pub(crate) async fn manage(
        &mut self,
        request: TaskManagementRequest,
    ) -> Result<(TaskManagementResponse, Vec<Pdu>), Finding> {
        self.send(Pdu::bare(request)).await;
        self.managed(&request).await
    }

    /// The answer to a request that was sent, and all that comes before it.
    pub(crate) async fn managed(
        &mut self,
        request: &TaskManagementRequest,
    ) -> Result<(TaskManagementResponse, Vec<Pdu>), Finding> {
        let function = request.function & !FINAL;
        self.outcome(request).await?.answer(function)
    }

    /// Whatever becomes of a request that was sent; only silence is a violation.
    pub(crate) async fn outcome(
        &mut self,
        request: &TaskManagementRequest,
    ) -> Result<Managed, Finding> {
        match self.heard_of(request).await? {
            Some(managed) => Ok(managed),
            None => violation!(
                "no answer in time to task management function {}",
                request.function & !FINAL
            ),
        }
    }

    /// Sends a request, and the data of a held command if the answer does not come before: a target may wait for it.
    /// The answer, all that comes before it, and whether it was waited for.
    pub(crate) async fn manage_beside(
        &mut self,
        request: TaskManagementRequest,
        held: &Held,
        holder: Option<&mut Self>,
    ) -> Result<(TaskManagementResponse, Vec<Pdu>, bool), Finding> {
        self.send(Pdu::bare(request)).await;
        let patience = self.wire.patience;
        self.wire.patience = patience / 4;
        let soon = self.heard_of(&request).await;
        self.wire.patience = patience;
        if let Some(managed) = soon? {
            let (response, before) = managed.answer(request.function & !FINAL)?;
            return Ok((response, before, false));
        }
        match holder {
            Some(holder) => holder.satisfy(held).await?,
            None => self.satisfy(held).await?,
        }
        let (response, before) = self.managed(&request).await?;
        Ok((response, before, true))
    }

    /// Whatever becomes of a request that was sent; none if nothing comes in time.
    async fn heard_of(
        &mut self,
        request: &TaskManagementRequest,
    ) -> Result<Option<Managed>, Finding> {
        let tag = request.initiator_task_tag.get();
        let function = request.function & !FINAL;
        let mut before = Vec::new();
        while before.len() < MOST_BEFORE {
            let pdu = match self.next().await {
                Heard::Pdu(pdu) => pdu,
                Heard::Closed => return Ok(Some(Managed::Closed)),
                Heard::Silence => return Ok(None),
                other => violation!("{other} to task management function {function}"),
            };
            match pdu.header {
                Header::TaskManagementResponse(response) => {
                    let about = response.initiator_task_tag.get();
                    ensure!(
                        about == tag,
                        "a Task Management Function Response for tag {about:08x}; the request has {tag:08x}"
                    );
                    return Ok(Some(Managed::Answered(response, before)));
                }
                Header::Reject(reject) if is_copy(&pdu.data, request) => {
                    return Ok(Some(Managed::Rejected(reject.reason)));
                }
                _ => before.push(pdu),
            }
        }
        violation!("{MOST_BEFORE} PDUs, and no answer to task management function {function}")
    }

    /// Sends the data that a held command waits for.
    pub(crate) async fn satisfy(&mut self, held: &Held) -> Result<(), Finding> {
        self.obey(&held.r2t, &held.data).await
    }

    /// Sends the data of a held command and takes its status.
    pub(crate) async fn conclude(&mut self, held: &Held) -> Result<Reply, Finding> {
        self.satisfy(held).await?;
        self.follow(held.tag(), held.data.clone()).await
    }
}

/// Whether the data of a Reject is the header of this request. Its lengths are set when it is sent.
fn is_copy(data: &[u8], request: &TaskManagementRequest) -> bool {
    let tag = request.initiator_task_tag.get().to_be_bytes();
    data.first()
        .is_some_and(|byte| byte & 0x3f == TaskManagementRequest::OPCODE)
        && data.get(16..20) == Some(&tag[..])
}

/// WRITE (10) of one block.
pub(crate) fn write_10(block: u32) -> [u8; 10] {
    let [a, b, c, d] = block.to_be_bytes();
    [0x2a, 0, a, b, c, d, 0, 0, 1, 0]
}

/// The most PDUs before the answer to a task management request.
const MOST_BEFORE: usize = 256;
