//! The full feature phase of a target session: which request goes where, and in which order.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::login::Outcome;
use crate::name::IscsiName;
use crate::params::{Params, SessionType};
use crate::session::outbox::{Numbered, Numbers, Outbox};
use crate::session::target::config::{NopPolicy, SessionLimits, TargetConfig};
use crate::session::target::keepalive::Keepalive;
use crate::session::task::{Delivery, Drain, Kind, Task};
use crate::session::window::{CommandWindow, Offer};
use crate::session::{Breach, CloseReason, TaskId};
use crate::wire::bhs::{FINAL, RESERVED_TAG, Reject};
use crate::wire::framer::Framed;
use crate::wire::lun::Lun;
use crate::wire::opcode::RejectReason;
use crate::wire::serial::Serial;
use crate::wire::{Header, Pdu};

/// Everything that a session is once its login is over.
#[derive(Debug)]
pub(super) struct FullFeature {
    pub(super) params: Params,
    pub(super) cid: u16,
    pub(super) target_name: Option<IscsiName>,
    pub(super) limits: SessionLimits,
    pub(super) nop: Option<NopPolicy>,
    pub(super) window: CommandWindow<Pdu>,
    pub(super) stat_sn: Serial,
    /// By initiator task tag.
    pub(super) tasks: BTreeMap<u32, Task>,
    /// The oldest is forgotten first.
    pub(super) drains: VecDeque<Drain>,
    pub(super) keepalive: Keepalive,
    /// Some task management function may wait for commands that did not come.
    pub(super) management_waits: bool,
    /// Some command could not ask for its data for want of memory.
    pub(super) starved: bool,
    /// Some command may have to wait for its place among the others of its unit.
    pub(super) is_ordering: bool,
    pub(super) ending: Option<CloseReason>,
    pub(super) out: Outbox,
    next_serial: u64,
    next_tag: u32,
}

/// A header that asks for something to be done.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    pub(super) initiator_task_tag: u32,
    pub(super) cmd_sn: Serial,
    pub(super) delivery: Delivery,
}

impl Request {
    fn of(header: &Header) -> Option<Self> {
        let (initiator_task_tag, cmd_sn) = match header {
            Header::NopOut(h) => (h.initiator_task_tag, h.cmd_sn),
            Header::ScsiCommand(h) => (h.initiator_task_tag, h.cmd_sn),
            Header::TaskManagementRequest(h) => (h.initiator_task_tag, h.cmd_sn),
            Header::TextRequest(h) => (h.initiator_task_tag, h.cmd_sn),
            Header::LogoutRequest(h) => (h.initiator_task_tag, h.cmd_sn),
            _ => return None,
        };
        let delivery = if header.is_immediate() {
            Delivery::Immediate
        } else {
            Delivery::Numbered
        };
        Some(Self {
            initiator_task_tag: initiator_task_tag.get(),
            cmd_sn: Serial(cmd_sn.get()),
            delivery,
        })
    }
}

impl FullFeature {
    pub(super) fn new(
        config: &TargetConfig,
        window: u32,
        outcome: Outcome,
        out: Outbox,
        now: Instant,
    ) -> Self {
        Self {
            params: outcome.params,
            cid: outcome.identity.cid,
            target_name: outcome.identity.target_name,
            limits: config.limits,
            nop: config.nop,
            window: CommandWindow::new(outcome.next_cmd_sn, window),
            stat_sn: outcome.next_stat_sn,
            tasks: BTreeMap::new(),
            drains: VecDeque::new(),
            keepalive: Keepalive::new(now),
            management_waits: false,
            starved: false,
            is_ordering: false,
            ending: None,
            out,
            next_serial: 0,
            next_tag: 0,
        }
    }

    pub(super) fn is_normal(&self) -> bool {
        self.params.session_type == SessionType::Normal
    }

    pub(super) fn handle_framed(&mut self, now: Instant, framed: Framed) {
        self.keepalive.heard(now);
        match framed {
            Framed::Pdu(pdu) => self.handle_pdu(now, pdu),
            Framed::DataDigestError(header) => self.handle_damaged(&header),
        }
    }

    /// The session is over: what is left to say, and the tasks that the driver still works on.
    pub(super) fn dissolve(self) -> (Outbox, Vec<TaskId>) {
        let concerns_driver = |task: &&Task| match &task.kind {
            Kind::Scsi(scsi) => scsi.is_with_driver(),
            Kind::Text(text) => text.awaits_records,
            Kind::Management(_) => true,
        };
        let mut tasks: Vec<TaskId> = self
            .tasks
            .values()
            .filter(concerns_driver)
            .map(|task| task.id)
            .collect();
        tasks.sort_unstable();
        (self.out, tasks)
    }

    fn handle_pdu(&mut self, now: Instant, pdu: Pdu) {
        match pdu.header {
            Header::DataOut(header) => self.data_out(header, pdu.data),
            Header::NopOut(header)
                if header.initiator_task_tag == RESERVED_TAG && pdu.header.is_immediate() =>
            {
                self.nop_without_ping();
            }
            Header::Unknown(_) => self.reject(RejectReason::COMMAND_NOT_SUPPORTED, &pdu.header),
            header => match Request::of(&header) {
                Some(request) => self.request(now, request, pdu),
                None => self.reject(RejectReason::PROTOCOL_ERROR, &header),
            },
        }
    }

    /// A PDU whose data did not survive the way (RFC 7143 §7.8). A damaged command counts as not received.
    fn handle_damaged(&mut self, header: &Header) {
        self.out.stats.data_digest_errors += 1;
        self.reject(RejectReason::DATA_DIGEST_ERROR, header);
        if let Header::DataOut(header) = header {
            self.damaged_data_out(header);
        }
    }

    /// Whether a task is under way comes first, then the order of commands (RFC 7143 §4.2.2.1).
    fn request(&mut self, now: Instant, request: Request, pdu: Pdu) {
        if let Err(reason) = self.check_fields(request, &pdu) {
            return self.refuse(request, reason, &pdu.header);
        }
        match self.stance_on(request, &pdu.header) {
            Stance::Ignore => self.out.stats.ignored += 1,
            Stance::Reject(reason) => self.refuse(request, reason, &pdu.header),
            Stance::Deliver => {
                self.deliver(now, request, pdu);
                self.deliver_queued(now);
            }
            Stance::Queue => {
                if self.window.offer(request.cmd_sn, pdu) == Offer::Ignored {
                    self.out.stats.ignored += 1;
                }
                self.deliver_queued(now);
            }
        }
    }

    /// Rejects a request. Its number counts as not received, so what comes behind it waits until the initiator fills the
    /// gap: with another command, or with ABORT TASK (RFC 7143 §7.3, §7.11).
    fn refuse(&mut self, request: Request, reason: RejectReason, bad: &Header) {
        if request.delivery == Delivery::Numbered && !self.window.awaits(request.cmd_sn) {
            self.out.stats.ignored += 1;
            return;
        }
        self.reject(reason, bad);
    }

    fn stance_on(&self, request: Request, header: &Header) -> Stance {
        let numbered = request.delivery == Delivery::Numbered;
        if numbered && !self.window.contains(request.cmd_sn) {
            return Stance::Ignore;
        }
        if let Some(task) = self
            .tasks
            .get(&request.initiator_task_tag)
            .filter(|task| !task.continues_with(header))
        {
            let is_retry = task.cmd_sn == request.cmd_sn && task.delivery == request.delivery;
            return if is_retry {
                Stance::Ignore
            } else {
                Stance::Reject(RejectReason::TASK_IN_PROGRESS)
            };
        }
        if numbered {
            Stance::Queue
        } else if self.has_room_for_immediate(header) {
            Stance::Deliver
        } else {
            Stance::Reject(RejectReason::IMMEDIATE_COMMAND_REJECT)
        }
    }

    /// There is always room for a ping, for a logout, for one task management request and for one other request
    /// (RFC 7143 §4.2.2.1).
    fn has_room_for_immediate(&self, header: &Header) -> bool {
        let (management, limit) = match header {
            Header::NopOut(_) | Header::LogoutRequest(_) => return true,
            Header::TaskManagementRequest(_) => (true, self.limits.management_requests),
            _ => (false, self.limits.immediate_commands),
        };
        let immediate = |task: &&Task| task.delivery == Delivery::Immediate;
        let tasks = self.tasks.values().filter(immediate);
        let taken = tasks.filter(|task| task.is_management() == management);
        u32::try_from(taken.count()).is_ok_and(|taken| taken < limit.max(1))
    }

    /// Fields that can be judged before the request's turn.
    fn check_fields(&self, request: Request, pdu: &Pdu) -> Result<(), RejectReason> {
        if request.initiator_task_tag == RESERVED_TAG {
            return Err(RejectReason::INVALID_PDU_FIELD);
        }
        match &pdu.header {
            // Texts and logouts are all that a discovery session takes (RFC 7143 §4.3).
            Header::ScsiCommand(_) | Header::TaskManagementRequest(_) | Header::NopOut(_)
                if !self.is_normal() =>
            {
                Err(RejectReason::PROTOCOL_ERROR)
            }
            Header::ScsiCommand(header) => Self::check_command(header, &pdu.ahs),
            Header::LogoutRequest(header) => self.check_logout(header),
            _ => Ok(()),
        }
    }

    /// Delivers what is next in order, as far as it came. Nothing that is delivered calls this again: the depth of
    /// the window must not become the depth of the stack.
    fn deliver_queued(&mut self, now: Instant) {
        while let Some(pdu) = self.window.next() {
            let Some(request) = Request::of(&pdu.header) else {
                continue;
            };
            let busy = self
                .tasks
                .get(&request.initiator_task_tag)
                .is_some_and(|t| !t.continues_with(&pdu.header));
            if busy {
                self.release(Delivery::Numbered);
                self.reject(RejectReason::TASK_IN_PROGRESS, &pdu.header);
            } else {
                self.deliver(now, request, pdu);
            }
            if self.ending.is_some() {
                return;
            }
        }
        self.limit_early_commands();
        self.resume_management(now);
    }

    fn deliver(&mut self, now: Instant, request: Request, pdu: Pdu) {
        match pdu.header {
            Header::ScsiCommand(header) => self.scsi_command(request, header, &pdu.ahs, pdu.data),
            Header::NopOut(header) => self.ping(request, header, &pdu.data),
            Header::TaskManagementRequest(header) => self.manage(now, request, header),
            Header::TextRequest(header) => self.text(request, header, &pdu.data),
            Header::LogoutRequest(header) => self.logout(request, header),
            _ => {}
        }
    }

    /// Commands that wait for an earlier one hold their immediate data; nobody needs that much of it.
    fn limit_early_commands(&mut self) {
        let held: u64 = self.window.waiting().map(|pdu| pdu.data.len() as u64).sum();
        if held > self.limits.write_bytes {
            self.ending = Some(CloseReason::ProtocolError(Breach::EarlyData));
        }
    }

    /// Names a task.
    pub(super) fn name_task(&mut self, initiator_task_tag: u32) -> TaskId {
        self.next_serial += 1;
        TaskId {
            serial: self.next_serial,
            initiator_task_tag,
        }
    }

    /// A target transfer tag that was not used for a long time.
    pub(super) fn new_tag(&mut self) -> u32 {
        self.next_tag = self.next_tag.wrapping_add(1);
        if self.next_tag == RESERVED_TAG {
            self.next_tag = 0;
        }
        self.next_tag
    }

    /// The task of this very name, if it was not ended meanwhile.
    pub(super) fn task_mut(&mut self, id: TaskId) -> Option<&mut Task> {
        self.tasks
            .get_mut(&id.initiator_task_tag)
            .filter(|task| task.id == id)
    }

    /// A request is done with; its place in the window is free.
    pub(super) fn release(&mut self, delivery: Delivery) {
        if delivery == Delivery::Numbered {
            self.window.release();
        }
    }

    /// Sends a PDU that is numbered as a status.
    pub(super) fn respond(&mut self, header: impl Numbered, data: Bytes) {
        let stat_sn = self.stat_sn;
        self.stat_sn = stat_sn.next();
        self.send_with(stat_sn, header, data);
    }

    /// Sends a PDU that shows the next StatSN without using it (RFC 7143 §11.8.3 and §11.19.2).
    pub(super) fn remark(&mut self, header: impl Numbered) {
        self.send_with(self.stat_sn, header, Bytes::new());
    }

    /// Sends a PDU whose StatSN has no meaning.
    pub(super) fn send_unnumbered(&mut self, header: impl Numbered, data: Bytes) {
        self.send_with(Serial(0), header, data);
    }

    fn send_with(&mut self, stat_sn: Serial, mut header: impl Numbered, data: Bytes) {
        let (exp_cmd_sn, max_cmd_sn) = (self.window.expected(), self.window.max());
        header.stamp(Numbers {
            stat_sn,
            exp_cmd_sn,
            max_cmd_sn,
        });
        self.out.send(header, data);
    }

    /// Says what is wrong with a PDU, and shows its header (RFC 7143 §11.17).
    pub(super) fn reject(&mut self, reason: RejectReason, bad: &Header) {
        self.out.stats.rejects += 1;
        let reject = Reject {
            flags: FINAL,
            reason: reason.0,
            initiator_task_tag: RESERVED_TAG.into(),
            ..Reject::default()
        };
        self.respond(reject, Bytes::copy_from_slice(bad.as_bytes()));
    }
}

/// What is to be done with a request.
enum Stance {
    Ignore,
    Reject(RejectReason),
    Deliver,
    Queue,
}

impl Task {
    fn is_management(&self) -> bool {
        matches!(self.kind, Kind::Management(_))
    }

    /// Text requests go on under the tag of their exchange (RFC 7143 §11.10.3).
    fn continues_with(&self, header: &Header) -> bool {
        matches!(
            (&self.kind, header),
            (Kind::Text(_), Header::TextRequest(_))
        )
    }
}

/// The unit that a header names.
pub(super) fn lun_of(field: zerocopy::byteorder::big_endian::U64) -> Lun {
    Lun(field.get())
}

/// Whole seconds for a field of two bytes, at least one.
pub(super) fn seconds(duration: Duration) -> u16 {
    u16::try_from(duration.as_secs()).unwrap_or(u16::MAX).max(1)
}
