//! One connection of an initiator in the full feature phase, and the sound target that serves it.
//!
//! A drill takes requests with [`Caller::hear`] or one of its kin and either has them served soundly by
//! [`Caller::serve`] or does something of its own about them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use iscsi_proto::wire::bhs::{
    AsyncMessage, FINAL, IMMEDIATE, LogoutResponse, NopIn, NopOut, RESERVED_TAG, Reject, STATUS,
    ScsiCommand, ScsiResponse, TaskManagementResponse,
};
use iscsi_proto::wire::{Header, Pdu};
use tokio::time::{Instant, timeout, timeout_at};

use crate::initiator::login::{Entry, Record};
use crate::initiator::manner::Manner;
use crate::initiator::negotiate::Negotiation;
use crate::initiator::scsi::{self, Answer};
use crate::initiator::stage::{Presence, Scene};
use crate::initiator::terms::Terms;
use crate::initiator::text::Texts;
use crate::initiator::write::Write;
use crate::keys::Keys;
use crate::wire::{Heard, Wire};

/// One connection in the full feature phase.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(crate) wire: Wire,
    pub(crate) scene: Arc<Scene>,
    /// How it was logged in.
    pub(crate) record: Record,
    pub(crate) manner: Manner,
    pub(crate) terms: Terms,
    /// What the initiator answered to keys of the target.
    pub(crate) replies: Keys,
    pub(crate) tsih: u16,
    /// StatSN of the next status.
    pub(crate) stat_sn: u32,
    /// CmdSN of the next command that is not immediate.
    pub(crate) exp_cmd_sn: u32,
    /// The highest MaxCmdSN that the initiator was told.
    pub(crate) told_max: u32,
    /// How many commands may be under way.
    pub(crate) window: u32,
    /// Tags of commands that took a place in the window and are not answered.
    pub(crate) running: BTreeSet<u32>,
    /// Tags of all commands that are not answered.
    pub(crate) open: BTreeSet<u32>,
    /// When the last status was sent.
    pub(crate) last_status: Instant,
    pub(crate) writes: BTreeMap<u32, Write>,
    pub(crate) texts: Texts,
    /// True once the initiator has logged out.
    pub(crate) logged_out: bool,
    /// While it is set, SCSI commands are put here instead of being carried out.
    pub(crate) held: Option<Vec<Pdu>>,
    next_transfer_tag: u32,
    presence: Presence,
}

impl Caller {
    /// The full feature phase begins.
    pub(crate) fn begin(entry: Entry, negotiation: Negotiation, tsih: u16) -> Self {
        let cmd_sn = entry
            .record
            .first()
            .map_or(1, |first| first.request.cmd_sn.get());
        let terms = Terms::of(&negotiation);
        let mut wire = entry.wire;
        wire.set_digests(terms.header_digest, terms.data_digest);
        Self {
            wire,
            scene: entry.scene,
            record: entry.record,
            manner: negotiation.manner,
            terms,
            replies: negotiation.replies,
            tsih,
            stat_sn: entry.stat_sn,
            exp_cmd_sn: cmd_sn,
            told_max: cmd_sn.wrapping_add(entry.window).wrapping_sub(1),
            window: entry.window,
            running: BTreeSet::new(),
            open: BTreeSet::new(),
            last_status: Instant::now(),
            writes: BTreeMap::new(),
            texts: Texts::default(),
            logged_out: false,
            held: None,
            next_transfer_tag: 0x7000_0000,
            presence: entry.presence,
        }
    }

    /// What the initiator says next, however long it takes.
    pub(crate) async fn hear(&mut self) -> Heard {
        let lasting = !self.logged_out && !self.wire.broken;
        let hearing = self.presence.hear(&mut self.wire);
        if lasting {
            return hearing.await;
        }
        // Either side may close the connection then.
        timeout(AFTER_LOGOUT, hearing)
            .await
            .unwrap_or(Heard::Closed)
    }

    /// Serves until a request comes that is wanted; that one is not served. `None` if the initiator goes away first.
    pub(crate) async fn serve_until(
        &mut self,
        mut wanted: impl FnMut(&Pdu) -> bool,
    ) -> Option<Pdu> {
        while let Heard::Pdu(pdu) = self.hear().await {
            if wanted(&pdu) {
                return Some(pdu);
            }
            self.serve(pdu).await;
        }
        None
    }

    /// Serves for at most this time, until a request comes that is wanted; that one is not served.
    pub(crate) async fn reaction(
        &mut self,
        time: Duration,
        mut wanted: impl FnMut(&Pdu) -> bool,
    ) -> Heard {
        let deadline = Instant::now() + time;
        loop {
            let heard = timeout_at(deadline, self.hear())
                .await
                .unwrap_or(Heard::Silence);
            match heard {
                Heard::Pdu(pdu) if !wanted(&pdu) => self.serve(pdu).await,
                other => return other,
            }
        }
    }

    /// Serves all requests until the initiator is gone.
    pub(crate) async fn serve_to_the_end(&mut self) {
        self.serve_until(|_| false).await;
    }

    /// Does what a sound target does about a request.
    pub(crate) async fn serve(&mut self, pdu: Pdu) {
        self.acknowledge(&pdu);
        if self.wire.broken {
            // Nobody would hear of it; what is left to be read is only looked at.
            return;
        }
        match pdu.header {
            Header::ScsiCommand(header) => {
                self.open.insert(header.initiator_task_tag.get());
                match &mut self.held {
                    Some(held) => held.push(pdu),
                    None => self.carry_out(&header, &pdu.data).await,
                }
            }
            Header::DataOut(header) => self.take_data(&header, &pdu.data).await,
            Header::NopOut(header) => self.echo(&header, pdu.data).await,
            Header::TextRequest(header) => self.take_text(&header, &pdu.data).await,
            Header::TaskManagementRequest(header) => {
                let aborted = header.referenced_task_tag.get();
                self.forget(aborted);
                self.tell(TaskManagementResponse {
                    flags: FINAL,
                    initiator_task_tag: header.initiator_task_tag,
                    ..TaskManagementResponse::default()
                })
                .await;
            }
            Header::LogoutRequest(header) => {
                self.logged_out = true;
                self.scene.logged_out.store(true, Ordering::Release);
                self.tell(LogoutResponse {
                    flags: FINAL,
                    initiator_task_tag: header.initiator_task_tag,
                    ..LogoutResponse::default()
                })
                .await;
            }
            _ => self.reject(&pdu, PROTOCOL_ERROR).await,
        }
    }

    /// Counts a request that is not immediate.
    pub(crate) fn acknowledge(&mut self, pdu: &Pdu) {
        let Some(cmd_sn) = cmd_sn(pdu) else {
            return;
        };
        if !pdu.header.is_immediate() {
            self.exp_cmd_sn = cmd_sn.wrapping_add(1);
            let tag = pdu.header.common().initiator_task_tag.get();
            self.running.insert(tag);
        }
    }

    /// A task is over without an answer.
    pub(crate) fn forget(&mut self, tag: u32) {
        self.running.remove(&tag);
        self.open.remove(&tag);
        self.writes.remove(&tag);
    }

    /// Serves what was held back.
    pub(crate) async fn release(&mut self) {
        for pdu in self.held.take().unwrap_or_default() {
            if let Header::ScsiCommand(header) = pdu.header {
                self.carry_out(&header, &pdu.data).await;
            }
        }
    }

    async fn carry_out(&mut self, command: &ScsiCommand, data: &Bytes) {
        if command.flags & WRITE != 0 {
            self.begin_write(command, data).await;
            return;
        }
        let answer = self.execute(command, &Bytes::new());
        self.bring(command, &answer).await;
    }

    /// Carries a command out on the disk, without saying so.
    pub(crate) fn execute(&self, command: &ScsiCommand, data: &Bytes) -> Answer {
        scsi::execute(&self.scene.disk, command.lun.get(), &command.cdb, data)
    }

    /// Sends what a command brings, then its status.
    pub(crate) async fn bring(&mut self, command: &ScsiCommand, answer: &Answer) {
        let pdus = self.data_ins(command, answer);
        let sent = u32::try_from(pdus.len()).unwrap_or(u32::MAX);
        let mut over = false;
        for pdu in pdus {
            over = pdu.header.common().flags & STATUS != 0;
            self.tell_pdu(pdu).await;
            if self.wire.broken {
                return;
            }
        }
        if !over {
            self.respond(command, answer, sent).await;
        }
    }

    /// The SCSI Response to a command; `sent` counts its Data-In or R2T PDUs.
    pub(crate) async fn respond(&mut self, command: &ScsiCommand, answer: &Answer, sent: u32) {
        let (flags, residual) = self.residual(command, answer);
        let header = ScsiResponse {
            flags: FINAL | flags,
            status: answer.status,
            initiator_task_tag: command.initiator_task_tag,
            exp_data_sn: sent.into(),
            residual_count: residual.into(),
            ..ScsiResponse::default()
        };
        self.tell_pdu(Pdu::new(header, behind_its_length(&answer.sense)))
            .await;
    }

    async fn echo(&mut self, ping: &NopOut, data: Bytes) {
        if ping.initiator_task_tag.get() == RESERVED_TAG {
            return;
        }
        let header = NopIn {
            flags: FINAL,
            lun: ping.lun,
            initiator_task_tag: ping.initiator_task_tag,
            target_transfer_tag: RESERVED_TAG.into(),
            ..NopIn::default()
        };
        self.tell_pdu(Pdu::new(header, data)).await;
    }

    /// Pings the initiator under a fresh tag.
    pub(crate) async fn ping(&mut self, lun: u64) -> u32 {
        let tag = self.transfer_tag();
        self.tell(NopIn {
            lun: lun.into(),
            target_transfer_tag: tag.into(),
            ..quiet_nop()
        })
        .await;
        tag
    }

    /// A NOP-In that wants no answer and only carries numbers.
    pub(crate) async fn tell_numbers(&mut self) {
        self.tell(quiet_nop()).await;
    }

    /// An Asynchronous Message with these parameters.
    pub(crate) async fn announce(&mut self, event: u8, parameters: [u16; 3], data: Bytes) {
        let [first, second, third] = parameters;
        let header = AsyncMessage {
            flags: FINAL,
            initiator_task_tag: RESERVED_TAG.into(),
            async_event: event,
            parameter_1: first.into(),
            parameter_2: second.into(),
            parameter_3: third.into(),
            ..AsyncMessage::default()
        };
        self.tell_pdu(Pdu::new(header, data)).await;
    }

    /// Rejects a request.
    pub(crate) async fn reject(&mut self, pdu: &Pdu, reason: u8) {
        let reject = self.rejection(pdu, reason);
        self.wire.send(reject).await;
    }

    /// Rejects a request and pings, both at once: who answers the ping, whose tag this is, has seen the Reject.
    pub(crate) async fn reject_and_ping(&mut self, pdu: &Pdu, reason: u8) -> u32 {
        let reject = self.rejection(pdu, reason);
        let tag = self.transfer_tag();
        let ping = self.numbered(Pdu::bare(NopIn {
            target_transfer_tag: tag.into(),
            ..quiet_nop()
        }));
        self.wire.send_together(vec![reject, ping]).await;
        tag
    }

    fn rejection(&mut self, pdu: &Pdu, reason: u8) -> Pdu {
        self.forget(pdu.header.common().initiator_task_tag.get());
        let header = Reject {
            flags: FINAL,
            reason,
            initiator_task_tag: RESERVED_TAG.into(),
            ..Reject::default()
        };
        let bad = Bytes::copy_from_slice(pdu.header.as_bytes());
        self.numbered(Pdu::new(header, bad))
    }

    /// Sends a PDU without data, with the numbers of now.
    pub(crate) async fn tell(&mut self, header: impl Into<Header>) {
        self.tell_pdu(Pdu::bare(header)).await;
    }

    /// Sends a PDU with the numbers of now.
    pub(crate) async fn tell_pdu(&mut self, pdu: Pdu) {
        let pdu = self.numbered(pdu);
        self.wire.send(pdu).await;
    }

    /// A PDU with the numbers of now; the counters go on as if it were sent.
    pub(crate) fn numbered(&mut self, mut pdu: Pdu) -> Pdu {
        let tag = pdu.header.common().initiator_task_tag.get();
        let (counts, carries) = counted(&pdu.header);
        if counts && !matches!(pdu.header, Header::TextResponse(text) if text.flags & FINAL == 0) {
            self.running.remove(&tag);
            self.open.remove(&tag);
        }
        let stat_sn = if carries { self.stat_sn } else { 0 };
        if counts {
            self.stat_sn = self.stat_sn.wrapping_add(1);
            self.last_status = Instant::now();
        }
        let max_cmd_sn = self.max_cmd_sn();
        if after(max_cmd_sn, self.told_max) {
            self.told_max = max_cmd_sn;
        }
        pdu.header = with_numbers(&pdu.header, [stat_sn, self.exp_cmd_sn, max_cmd_sn]);
        pdu
    }

    /// MaxCmdSN of now.
    pub(crate) fn max_cmd_sn(&self) -> u32 {
        let running = u32::try_from(self.running.len()).unwrap_or(u32::MAX);
        let free = self.window.saturating_sub(running);
        self.exp_cmd_sn.wrapping_add(free).wrapping_sub(1)
    }

    /// A Target Transfer Tag that is not in use.
    pub(crate) fn transfer_tag(&mut self) -> u32 {
        self.next_transfer_tag = self.next_transfer_tag.wrapping_add(1);
        self.next_transfer_tag
    }
}

/// The CmdSN of a request that has one.
pub(crate) fn cmd_sn(pdu: &Pdu) -> Option<u32> {
    match &pdu.header {
        Header::ScsiCommand(h) => Some(h.cmd_sn.get()),
        Header::NopOut(h) => Some(h.cmd_sn.get()),
        Header::TextRequest(h) => Some(h.cmd_sn.get()),
        Header::TaskManagementRequest(h) => Some(h.cmd_sn.get()),
        Header::LogoutRequest(h) => Some(h.cmd_sn.get()),
        _ => None,
    }
}

/// The ExpStatSN of a request; all of them have one at the same place.
pub(crate) fn exp_stat_sn(pdu: &Pdu) -> u32 {
    let bytes = pdu.header.as_bytes().get(28..32);
    let four = bytes.and_then(|four| four.try_into().ok());
    four.map_or(0, u32::from_be_bytes)
}

/// True if the request takes a place in the numbering of commands.
pub(crate) fn is_numbered(pdu: &Pdu) -> bool {
    cmd_sn(pdu).is_some() && pdu.header.common().opcode & IMMEDIATE == 0
}

/// True if a serial number comes after another one (RFC 1982).
pub(crate) fn after(later: u32, earlier: u32) -> bool {
    let ahead = later.wrapping_sub(earlier);
    ahead != 0 && ahead < 0x8000_0000
}

/// A NOP-In that is no ping and no answer to one.
pub(crate) fn quiet_nop() -> NopIn {
    NopIn {
        flags: FINAL,
        initiator_task_tag: RESERVED_TAG.into(),
        target_transfer_tag: RESERVED_TAG.into(),
        ..NopIn::default()
    }
}

/// A header with these values as StatSN, ExpCmdSN and MaxCmdSN, which stand at the same place in all of a target's.
pub(crate) fn with_numbers(header: &Header, numbers: [u32; 3]) -> Header {
    let mut bytes = [0; 48];
    for (byte, old) in bytes.iter_mut().zip(header.as_bytes()) {
        *byte = *old;
    }
    let new = numbers.into_iter().flat_map(u32::to_be_bytes);
    for (byte, new) in bytes.iter_mut().skip(24).zip(new) {
        *byte = new;
    }
    Header::decode(&bytes)
}

/// Sense data behind its length (RFC 7143 §11.4.7).
pub(crate) fn behind_its_length(sense: &Bytes) -> Bytes {
    match u16::try_from(sense.len()) {
        Ok(1..) | Err(_) => {
            let length = u16::try_from(sense.len()).unwrap_or(u16::MAX).to_be_bytes();
            [&length, sense.as_ref()].concat().into()
        }
        Ok(0) => Bytes::new(),
    }
}

/// Whether a PDU advances StatSN, and whether it carries one at all (RFC 7143 §4.2.2.2, §11.7.3, §11.8.3, §11.19.2).
fn counted(header: &Header) -> (bool, bool) {
    match header {
        Header::DataIn(data) => {
            let status = data.flags & STATUS != 0;
            (status, status)
        }
        Header::ReadyToTransfer(_) => (false, true),
        Header::NopIn(nop) => (nop.initiator_task_tag.get() != RESERVED_TAG, true),
        _ => (true, true),
    }
}

/// How long an initiator may take to close the connection after its logout, or when it takes nothing any more.
const AFTER_LOGOUT: Duration = Duration::from_millis(300);
/// W of a SCSI Command.
const WRITE: u8 = 0x20;
/// Reject reason (RFC 7143 §11.17.1).
pub(crate) const PROTOCOL_ERROR: u8 = 0x04;
