//! What the target sends in the full feature phase: one function for every kind of PDU.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::discovery;
use crate::scsi::Status;
use crate::session::ManagementAnswer;
use crate::session::initiator::full_feature::{FullFeature, Leaving, ended};
use crate::session::initiator::payload::Incoming;
use crate::session::initiator::task::{
    CommandTask, Ending, Payload, Rejected, ResetTask, Task, TextTask, Work,
};
use crate::session::initiator::{
    Completion, DiscoverError, InitiatorEvent, Outcome, ProtocolError, RequestId, Residual,
    SessionEnd,
};
use crate::wire::bhs::{
    AsyncMessage, BHS_BYTES, CONTINUE, DataIn, FINAL, NopIn, OVERFLOW, RESERVED_TAG,
    ReadyToTransfer, Reject, STATUS, ScsiResponse, TaskManagementResponse, TextResponse, UNDERFLOW,
};
use crate::wire::lun::Lun;
use crate::wire::opcode::{AsyncEvent, RejectReason};
use crate::wire::serial::Serial;
use crate::wire::{Header, Pdu};

impl FullFeature {
    /// Acts on a PDU whose numbers were checked.
    pub(super) fn dispatch(&mut self, now: Instant, pdu: Pdu) -> Result<(), SessionEnd> {
        match &pdu.header {
            Header::ScsiResponse(header) => Ok(self.take_response(header, &pdu.data)?),
            Header::ReadyToTransfer(header) => Ok(self.take_r2t(header)?),
            Header::NopIn(header) => Ok(self.take_nop(header)?),
            Header::TextResponse(header) => Ok(self.take_text(header, &pdu.data)?),
            Header::TaskManagementResponse(header) => Ok(self.take_management(now, header)?),
            Header::AsyncMessage(header) => self.take_async(now, header, &pdu.data),
            Header::Reject(header) => self.take_reject(now, header, &pdu.data),
            Header::LogoutResponse(_) => Err(self.take_logout()),
            _ => Err(ProtocolError::UnexpectedPdu.into()),
        }
    }

    /// The data that this header speaks of comes next.
    pub(super) fn announce(&mut self, header: &DataIn) -> Result<(), ProtocolError> {
        if let Some(room) = self.incoming(header)?.announce(header)? {
            let buffer = self.spares.take(room);
            self.incoming(header)?.place(buffer);
        }
        Ok(())
    }

    /// Acts on a Data-In PDU whose data is where it belongs, sound or not; perhaps the status came with it. An error ends
    /// the session.
    pub(super) fn handle_data_in(
        &mut self,
        now: Instant,
        header: &DataIn,
        is_sound: bool,
    ) -> Result<(), SessionEnd> {
        self.hear(now, &Header::DataIn(*header))?;
        match is_sound {
            true => self.stats.data_in_bytes += u64::from(header.data_segment_length.get()),
            false => self.stats.data_digest_errors += 1,
        }
        if header.flags & (FINAL | STATUS) == FINAL | STATUS {
            let residual = residual(header.flags, header.residual_count.get());
            let tag = header.initiator_task_tag.get();
            self.answered(tag, Status(header.status), Bytes::new(), residual);
        }
        self.leave_when_drained(now);
        Ok(())
    }

    /// The data of the command that a Data-In PDU is for.
    pub(super) fn incoming(&mut self, header: &DataIn) -> Result<&mut Incoming, ProtocolError> {
        match &mut self.sent_command(header.initiator_task_tag.get())?.data {
            Payload::In(incoming) => Ok(incoming),
            Payload::None | Payload::Out(_) => Err(ProtocolError::DataBounds),
        }
    }

    /// How much of the data of a Data-In PDU is missing, if its task is still there.
    pub(super) fn left_to_land(&self, header: &DataIn) -> usize {
        match self.tasks.get(&header.initiator_task_tag.get()) {
            Some(Task {
                work:
                    Work::Command(CommandTask {
                        data: Payload::In(incoming),
                        ..
                    }),
                ..
            }) => incoming.left(),
            _ => 0,
        }
    }

    fn take_response(&mut self, header: &ScsiResponse, data: &Bytes) -> Result<(), ProtocolError> {
        let tag = header.initiator_task_tag.get();
        let request = self.sent_command(tag)?.request;
        if header.response == COMPLETED_AT_TARGET {
            let residual = residual(header.flags, header.residual_count.get());
            self.answered(tag, Status(header.status), sense(data), residual);
        } else {
            self.tasks.remove(&tag);
            self.forget_data(tag);
            self.complete(request, Outcome::TargetFailure(header.response));
        }
        Ok(())
    }

    fn answered(&mut self, tag: u32, status: Status, sense: Bytes, residual: Residual) {
        self.forget_data(tag);
        let Some(Task {
            work: Work::Command(command),
            ..
        }) = self.tasks.remove(&tag)
        else {
            return;
        };
        let (data, damaged) = match command.data {
            Payload::In(incoming) => {
                let damaged = incoming.is_damaged();
                let data = incoming.finish();
                self.spares.lend(&data);
                (data, damaged)
            }
            _ => (Bytes::new(), false),
        };
        let outcome = match damaged && status == Status::GOOD {
            true => Outcome::Damaged,
            false => Outcome::Answered(Completion {
                status,
                sense,
                data,
                residual,
            }),
        };
        self.complete(command.request, outcome);
    }

    fn take_r2t(&mut self, header: &ReadyToTransfer) -> Result<(), ProtocolError> {
        self.stats.r2ts += 1;
        let tag = header.initiator_task_tag.get();
        let Some(Task {
            work: Work::Command(command),
            ..
        }) = self.tasks.get_mut(&tag)
        else {
            return Err(ProtocolError::UnknownTask);
        };
        let (Payload::Out(out), Some(_)) = (&mut command.data, command.cmd_sn) else {
            return Err(ProtocolError::R2tBounds);
        };
        // The fields of a task agree in all its PDUs (RFC 7143 §4.2.5.3).
        if header.lun.get() != command.lun.0 {
            return Err(ProtocolError::R2tBounds);
        }
        let sequence = out.ask(header, &self.params)?;
        self.sequences.push_back(sequence);
        Ok(())
    }

    /// A ping of the target's, or the answer to ours, or neither: then it only carries numbers (RFC 7143 §11.19).
    fn take_nop(&mut self, header: &NopIn) -> Result<(), ProtocolError> {
        let tag = header.initiator_task_tag.get();
        if tag == RESERVED_TAG {
            return match header.target_transfer_tag.get() {
                RESERVED_TAG => Ok(()),
                _ => self.answer_ping(*header),
            };
        }
        match self.tasks.get(&tag).map(|task| &task.work) {
            Some(Work::Ping) if !self.urgent.contains(&tag) => self.tasks.remove(&tag),
            _ => return Err(ProtocolError::UnknownTask),
        };
        self.ping_answered(tag);
        Ok(())
    }

    fn take_text(&mut self, header: &TextResponse, data: &Bytes) -> Result<(), ProtocolError> {
        let tag = header.initiator_task_tag.get();
        let Some(Task {
            work: Work::Text(task),
            ..
        }) = self.tasks.get_mut(&tag)
        else {
            return Err(ProtocolError::UnknownTask);
        };
        if !std::mem::take(&mut task.asked) {
            return Err(ProtocolError::UnknownTask);
        }
        let target_transfer_tag = header.target_transfer_tag.get();
        let last = header.flags & FINAL != 0;
        if last != (target_transfer_tag == RESERVED_TAG) || (last && header.flags & CONTINUE != 0) {
            return Err(ProtocolError::UnexpectedPdu);
        }
        task.answers += 1;
        task.target_transfer_tag = target_transfer_tag;
        task.lun = header.lun.get();
        let fits = task.answer.len() + data.len() <= discovery::MAX_ANSWER_BYTES
            && task.answers <= MAX_TEXT_RESPONSES;
        if fits {
            task.answer.extend_from_slice(data);
        }
        if fits && !last {
            self.waiting.push_back(tag);
        } else {
            self.finish_text(tag, fits);
        }
        Ok(())
    }

    fn finish_text(&mut self, tag: u32, complete: bool) {
        if let Some(Task {
            work:
                Work::Text(TextTask {
                    request: Some(request),
                    answer,
                    ..
                }),
            ..
        }) = self.tasks.remove(&tag)
        {
            let records = match complete {
                true => discovery::parse(&answer).map_err(|_| DiscoverError::Malformed),
                false => Err(DiscoverError::TooLong),
            };
            self.events
                .push_back(InitiatorEvent::Discovered { request, records });
        }
        self.text_ended(tag);
    }

    fn take_management(
        &mut self,
        now: Instant,
        header: &TaskManagementResponse,
    ) -> Result<(), ProtocolError> {
        let tag = header.initiator_task_tag.get();
        if let Some(Work::Lapsed) = self.tasks.get(&tag).map(|task| &task.work) {
            self.tasks.remove(&tag);
            return Ok(());
        }
        if self.management_running != Some(tag) || self.urgent.contains(&tag) {
            return Err(ProtocolError::UnknownTask);
        }
        self.management_running = None;
        let answer = ManagementAnswer::from_code(header.response);
        let outcome = match self.tasks.remove(&tag).map(|task| task.work) {
            Some(Work::Abort(of)) => {
                self.finish_abort(now, of, answer);
                Ok(())
            }
            Some(Work::Reset(reset)) => self.finish_reset(&reset, answer),
            Some(Work::Plug(_)) => match answer {
                Some(ManagementAnswer::Complete | ManagementAnswer::NoTask) => Ok(()),
                _ => Err(ProtocolError::AbortRefused),
            },
            _ => Err(ProtocolError::UnknownTask),
        };
        self.next_management();
        outcome
    }

    /// The command is gone, or it never was there, or it goes on because the target will not abort it.
    fn finish_abort(&mut self, now: Instant, of: u32, answer: Option<ManagementAnswer>) {
        let Some(Task {
            work: Work::Command(command),
            ..
        }) = self.tasks.get_mut(&of)
        else {
            return;
        };
        let (request, lun, ending) = (command.request, command.lun, command.ending);
        match (answer, ending) {
            (Some(ManagementAnswer::Complete | ManagementAnswer::NoTask), _) => {
                self.tasks.remove(&of);
                self.forget_data(of);
                self.complete(request, ended(ending));
            }
            (_, Ending::TimedOut) => self.escalate(now, lun),
            _ => command.ending = Ending::Running,
        }
    }

    fn finish_reset(
        &mut self,
        reset: &ResetTask,
        answer: Option<ManagementAnswer>,
    ) -> Result<(), ProtocolError> {
        if answer == Some(ManagementAnswer::Complete) {
            for (tag, request, outcome) in self.lost_by_reset(reset) {
                self.tasks.remove(&tag);
                self.forget_data(tag);
                self.complete(request, outcome);
            }
        }
        match reset.request {
            Some(request) => self
                .events
                .push_back(InitiatorEvent::Managed { request, answer }),
            None if answer == Some(ManagementAnswer::Complete) => {}
            None => return Err(ProtocolError::AbortRefused),
        }
        Ok(())
    }

    /// The commands of the unit that were sent before the reset, oldest first.
    fn lost_by_reset(&self, reset: &ResetTask) -> Vec<(u32, RequestId, Outcome)> {
        let before = |sent: Option<Serial>| matches!((sent, reset.cmd_sn), (Some(sent), Some(reset)) if sent.lt(reset));
        let lost = |(tag, task): (&u32, &Task)| match &task.work {
            Work::Command(command) if command.lun == reset.lun && before(command.cmd_sn) => {
                Some((*tag, command.request, ended(command.ending)))
            }
            _ => None,
        };
        let mut lost: Vec<_> = self.tasks.iter().filter_map(lost).collect();
        lost.sort_by_key(|(_, request, _)| *request);
        lost
    }

    fn take_async(
        &mut self,
        now: Instant,
        header: &AsyncMessage,
        data: &Bytes,
    ) -> Result<(), SessionEnd> {
        match AsyncEvent(header.async_event) {
            AsyncEvent::SCSI => {
                let report = InitiatorEvent::UnitReport {
                    lun: Lun(header.lun.get()),
                    sense: sense(data),
                };
                self.events.push_back(report);
            }
            AsyncEvent::LOGOUT_REQUEST => {
                self.drain(now, Duration::from_secs(header.parameter_3.get().into()));
            }
            AsyncEvent::CONNECTION_DROP | AsyncEvent::SESSION_DROP => {
                let time2wait = Duration::from_secs(header.parameter_2.get().into());
                return Err(SessionEnd::Dropped { time2wait });
            }
            AsyncEvent::NEGOTIATION_REQUEST => self.offer_nothing(now),
            _ => {}
        }
        Ok(())
    }

    /// Sends nothing new, and logs out well before the target's patience ends.
    fn drain(&mut self, now: Instant, patience: Duration) {
        if matches!(self.leaving, Leaving::No) {
            self.leaving = Leaving::Draining(now + patience / 2);
            self.events.push_back(InitiatorEvent::LogoutRequested);
        }
    }

    /// A call for negotiation has to be answered by a text request; an empty one will do (RFC 7143 §11.9.1, event 4).
    fn offer_nothing(&mut self, now: Instant) {
        let under_way =
            |task: &Task| matches!(&task.work, Work::Text(text) if text.request.is_none());
        if !self.tasks.values().any(under_way) {
            self.negotiate(
                TextTask::new(None),
                Some(now + self.limits.management_timeout),
            );
        }
    }

    /// A PDU of ours was rejected (RFC 7143 §11.17). Commands that the target had begun get a response of their own.
    fn take_reject(
        &mut self,
        now: Instant,
        header: &Reject,
        data: &Bytes,
    ) -> Result<(), SessionEnd> {
        self.stats.rejects += 1;
        let bad: &[u8; BHS_BYTES] = data.first_chunk().ok_or(ProtocolError::MalformedReject)?;
        let bad = Header::decode(bad);
        let tag = bad.common().initiator_task_tag.get();
        let reason = header.reason;
        match (bad, self.tasks.get(&tag).map(|task| &task.work)) {
            _ if reason == RejectReason::DATA_DIGEST_ERROR.0
                || reason == RejectReason::TASK_IN_PROGRESS.0 => {}
            (Header::ScsiCommand(_), Some(Work::Command(command))) => {
                let (request, lun) = (command.request, command.lun);
                let Some(cmd_sn) = command.cmd_sn else {
                    return Ok(());
                };
                self.tasks.remove(&tag);
                self.forget_data(tag);
                self.complete(request, Outcome::Rejected(reason));
                // The target need not count it as received, and waits with all that follows (RFC 7143 §7.3).
                if Serial(header.exp_cmd_sn.get()).le(cmd_sn) {
                    self.manage(now, Work::Plug(Rejected { tag, lun, cmd_sn }));
                }
            }
            (Header::TextRequest(_), Some(Work::Text(text))) => {
                let request = text.request;
                self.tasks.remove(&tag);
                self.waiting.retain(|waiting| *waiting != tag);
                self.text_ended(tag);
                let rejected = |request| InitiatorEvent::Discovered {
                    request,
                    records: Err(DiscoverError::Rejected(reason)),
                };
                self.events.extend(request.map(rejected));
            }
            (
                Header::TaskManagementRequest(_),
                Some(Work::Abort(_) | Work::Lapsed | Work::Plug(_) | Work::Reset(_)),
            ) => {
                self.reject_management(now, tag)?;
            }
            (Header::LogoutRequest(_), Some(Work::Logout)) => return Err(self.end_of_logout()),
            (Header::NopOut(_), Some(Work::Ping)) => {
                self.tasks.remove(&tag);
                self.ping_answered(tag);
            }
            _ => {}
        }
        Ok(())
    }

    fn reject_management(&mut self, now: Instant, tag: u32) -> Result<(), ProtocolError> {
        let header = TaskManagementResponse {
            initiator_task_tag: tag.into(),
            response: ManagementAnswer::Rejected.code(),
            ..Default::default()
        };
        self.take_management(now, &header)
    }

    fn take_logout(&self) -> SessionEnd {
        match self.leaving {
            Leaving::LoggingOut(_) => self.end_of_logout(),
            _ => ProtocolError::UnknownTask.into(),
        }
    }

    /// The command of this tag, which must have been sent.
    fn sent_command(&mut self, tag: u32) -> Result<&mut CommandTask, ProtocolError> {
        match self.tasks.get_mut(&tag).map(|task| &mut task.work) {
            Some(Work::Command(command)) if command.cmd_sn.is_some() => Ok(command),
            _ => Err(ProtocolError::UnknownTask),
        }
    }
}

/// The residual that the flags of a response speak of (RFC 7143 §11.4.1).
fn residual(flags: u8, count: u32) -> Residual {
    match (flags & OVERFLOW != 0, flags & UNDERFLOW != 0) {
        (true, _) => Residual::Overflow(count),
        (_, true) => Residual::Underflow(count),
        _ => Residual::None,
    }
}

/// Sense data behind its length (RFC 7143 §11.4.7). Less than was announced is taken for what it is.
fn sense(data: &Bytes) -> Bytes {
    match data.split_first_chunk::<2>() {
        Some((length, rest)) => {
            data.slice(2..2 + rest.len().min(u16::from_be_bytes(*length).into()))
        }
        None => Bytes::new(),
    }
}

/// The response code of a command that the target carried out, well or not (RFC 7143 §11.4.3).
const COMPLETED_AT_TARGET: u8 = 0x00;

/// Text Response PDUs that one answer may take.
const MAX_TEXT_RESPONSES: u32 = 4096;
