//! A session in the full feature phase: an ordinary initiator whose every step can also be done by hand.

use bytes::{Bytes, BytesMut};
use iscsi_proto::scsi::SenseData;
use iscsi_proto::wire::bhs::{
    DataOut, FINAL, IMMEDIATE, LogoutRequest, NopIn, NopOut, READ, RESERVED_TAG, ReadyToTransfer,
    STATUS, ScsiCommand, WRITE,
};
use iscsi_proto::wire::lun::Lun;
use iscsi_proto::wire::{Header, Pdu};

use crate::check::{Finding, ensure, violation};
use crate::keys::Keys;
use crate::login::{Answer, Login, Talk};
use crate::wire::{Heard, Wire};

/// One connection of one session.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) wire: Wire,
    /// How it was logged in.
    pub(crate) login: Login,
    pub(crate) tsih: u16,
    /// What the target answered and declared during the login.
    pub(crate) answers: Keys,
    /// The unit that commands go to.
    pub(crate) lun: Lun,
    /// CmdSN of the next command that is not immediate.
    pub(crate) cmd_sn: u32,
    /// What the next request acknowledges.
    pub(crate) exp_stat_sn: u32,
    /// ExpCmdSN of the last PDU from the target.
    pub(crate) exp_cmd_sn: u32,
    /// MaxCmdSN of the last PDU from the target.
    pub(crate) max_cmd_sn: u32,
    /// The results of the negotiation that bound data transfers.
    pub(crate) terms: Terms,
    /// Asynchronous Messages that came.
    pub(crate) notices: Vec<Pdu>,
    next_tag: u32,
}

/// The results of the negotiation that bound data transfers (RFC 7143 §13).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// What the target takes in one data segment: its MaxRecvDataSegmentLength.
    pub(crate) target_segment: u32,
    /// What the suite declared for itself.
    pub(crate) own_segment: u32,
    pub(crate) max_burst: u32,
    pub(crate) first_burst: u32,
    pub(crate) initial_r2t: bool,
    pub(crate) immediate_data: bool,
}

/// A SCSI command, and the data that goes with it.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub(crate) cdb: [u8; 16],
    pub(crate) flow: Flow,
}

/// Which way the data of a command goes.
#[derive(Clone, Debug)]
pub(crate) enum Flow {
    /// No data.
    None,
    /// At most this many bytes from the target.
    In(u32),
    /// These bytes to the target.
    Out(Bytes),
}

/// What became of a command.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    /// SCSI status (SAM-5 §5.3).
    pub(crate) status: u8,
    /// Sense, if the status came with any.
    pub(crate) sense: Option<SenseData>,
    /// What the command brought.
    pub(crate) data: Bytes,
    /// Byte 1 of the PDU with the status: residual flags 0x02 underflow, 0x04 overflow.
    pub(crate) flags: u8,
    pub(crate) residual: u32,
    /// All that the target sent about the command, in order.
    pub(crate) pdus: Vec<Pdu>,
}

/// CHECK CONDITION.
pub(crate) const CHECK_CONDITION: u8 = 0x02;

impl Task {
    /// A command of 6 to 16 bytes without data.
    pub(crate) fn bare(cdb: &[u8]) -> Self {
        Self::of(cdb, Flow::None)
    }

    /// A command that brings at most this many bytes.
    pub(crate) fn read(cdb: &[u8], bytes: u32) -> Self {
        Self::of(cdb, Flow::In(bytes))
    }

    /// A command that takes these bytes along.
    pub(crate) fn write(cdb: &[u8], data: impl Into<Bytes>) -> Self {
        Self::of(cdb, Flow::Out(data.into()))
    }

    fn of(cdb: &[u8], flow: Flow) -> Self {
        let mut padded = [0; 16];
        padded
            .iter_mut()
            .zip(cdb)
            .for_each(|(byte, given)| *byte = *given);
        Self { cdb: padded, flow }
    }
}

impl Reply {
    /// Sense key, code and qualifier; zeros without sense.
    pub(crate) fn codes(&self) -> (u8, u8, u8) {
        self.sense.map_or((0, 0, 0), |sense| {
            (sense.sense.key, sense.sense.asc, sense.sense.ascq)
        })
    }

    /// "GOOD", or what it was instead, for messages.
    pub(crate) fn outcome(&self) -> String {
        let (key, asc, ascq) = self.codes();
        match self.status {
            0 => "GOOD".to_owned(),
            CHECK_CONDITION => format!("CHECK CONDITION {key:x}/{asc:02x}/{ascq:02x}"),
            0x08 => "BUSY".to_owned(),
            0x18 => "RESERVATION CONFLICT".to_owned(),
            0x28 => "TASK SET FULL".to_owned(),
            other => format!("status {other:#04x}"),
        }
    }

    /// Anything but GOOD is a violation; `what` names the command.
    pub(crate) fn good(self, what: &str) -> Result<Self, Finding> {
        ensure!(
            self.status == 0,
            "{what}: {} instead of GOOD",
            self.outcome()
        );
        Ok(self)
    }

    /// Anything but CHECK CONDITION with these codes is a violation.
    pub(crate) fn fails_with(&self, what: &str, key: u8, asc: u8, ascq: u8) -> Result<(), Finding> {
        ensure!(
            self.status == CHECK_CONDITION && self.codes() == (key, asc, ascq),
            "{what}: {} instead of CHECK CONDITION {key:x}/{asc:02x}/{ascq:02x}",
            self.outcome()
        );
        Ok(())
    }

    /// True if the target does not know the command: ILLEGAL REQUEST, INVALID COMMAND OPERATION CODE.
    pub(crate) fn is_unknown_opcode(&self) -> bool {
        self.status == CHECK_CONDITION && self.codes() == (5, 0x20, 0)
    }
}

impl Session {
    /// The session that a login ended in; `offered` are the operational keys that the suite sent.
    pub(crate) fn begin(talk: Talk, offered: &Keys, last: &Answer, lun: u16) -> Self {
        let terms = Terms::of(offered, &talk.answers);
        let on = |key| talk.answers.get(key) == Some("CRC32C");
        let (header, data) = (on("HeaderDigest"), on("DataDigest"));
        let mut session = Self {
            tsih: last.header.tsih.get(),
            cmd_sn: talk.login.cmd_sn,
            exp_stat_sn: talk.exp_stat_sn,
            exp_cmd_sn: last.header.exp_cmd_sn.get(),
            max_cmd_sn: last.header.max_cmd_sn.get(),
            wire: talk.wire,
            login: talk.login,
            answers: talk.answers,
            lun: Lun::from_number(lun),
            terms,
            notices: Vec::new(),
            next_tag: 1,
        };
        session.wire.set_digests(header, data);
        session.wire.set_max_data_segment(terms.own_segment);
        session
    }

    /// An initiator task tag that is not in use.
    pub(crate) fn tag(&mut self) -> u32 {
        self.next_tag = self.next_tag.wrapping_add(1);
        self.next_tag
    }

    /// Tags from here on: those of several connections must not meet.
    pub(crate) fn tags_from(&mut self, first: u32) {
        self.next_tag = first;
    }

    /// The number of the next command that is not immediate; the one after it is the next.
    pub(crate) fn take_cmd_sn(&mut self) -> u32 {
        let taken = self.cmd_sn;
        self.cmd_sn = taken.wrapping_add(1);
        taken
    }

    /// The header of a command with the next CmdSN, without data: to be sent as it is, or damaged first.
    pub(crate) fn command(&mut self, task: &Task) -> ScsiCommand {
        let (direction, length) = match &task.flow {
            Flow::None => (0, 0),
            Flow::In(bytes) => (READ, *bytes),
            Flow::Out(data) => (WRITE, u32::try_from(data.len()).unwrap_or(u32::MAX)),
        };
        ScsiCommand {
            flags: FINAL | direction | SIMPLE,
            lun: self.lun.0.into(),
            initiator_task_tag: self.tag().into(),
            expected_data_transfer_length: length.into(),
            cmd_sn: self.take_cmd_sn().into(),
            exp_stat_sn: self.exp_stat_sn.into(),
            cdb: task.cdb,
            ..ScsiCommand::default()
        }
    }

    /// A header of a NOP-Out that asks for an answer: immediate, with a tag of its own (RFC 7143 §11.18).
    pub(crate) fn ping(&mut self) -> NopOut {
        NopOut {
            opcode: NopOut::OPCODE | IMMEDIATE,
            flags: FINAL,
            initiator_task_tag: self.tag().into(),
            target_transfer_tag: RESERVED_TAG.into(),
            cmd_sn: self.cmd_sn.into(),
            exp_stat_sn: self.exp_stat_sn.into(),
            ..NopOut::default()
        }
    }

    /// A Logout Request, immediate (RFC 7143 §11.14).
    pub(crate) fn logout(&mut self, reason: u8) -> LogoutRequest {
        LogoutRequest {
            opcode: LogoutRequest::OPCODE | IMMEDIATE,
            reason: FINAL | reason,
            initiator_task_tag: self.tag().into(),
            cid: self.login.cid.into(),
            cmd_sn: self.cmd_sn.into(),
            exp_stat_sn: self.exp_stat_sn.into(),
            ..LogoutRequest::default()
        }
    }

    /// Sends a PDU as it is.
    pub(crate) async fn send(&mut self, pdu: Pdu) {
        self.wire.send(pdu).await;
    }

    /// What comes next. The numbers of the PDU are noted; pings of the target are answered, Asynchronous Messages put
    /// aside and unasked news of the window taken in, and none of them is handed out.
    pub(crate) async fn next(&mut self) -> Heard {
        for _ in 0..MOST_ASIDES {
            let heard = self.wire.next().await;
            let Heard::Pdu(pdu) = &heard else {
                return heard;
            };
            self.note_numbers(&pdu.header);
            match &pdu.header {
                Header::NopIn(nop) if is_ping(nop) => {
                    let mut answer = self.ping();
                    answer.lun = nop.lun;
                    answer.initiator_task_tag = RESERVED_TAG.into();
                    answer.target_transfer_tag = nop.target_transfer_tag;
                    self.wire.send(Pdu::bare(answer)).await;
                }
                Header::AsyncMessage(_) => self.notices.push(pdu.clone()),
                // A change of the window, told unasked (RFC 7143 §11.19).
                Header::NopIn(nop) if nop.initiator_task_tag.get() == RESERVED_TAG => {}
                _ => return heard,
            }
        }
        Heard::Nonsense(format!("{MOST_ASIDES} pings and messages in a row"))
    }

    /// The next PDU; anything else is a violation.
    pub(crate) async fn receive(&mut self) -> Result<Pdu, Finding> {
        match self.next().await {
            Heard::Pdu(pdu) => Ok(pdu),
            other => violation!("{other}"),
        }
    }

    /// Sends a ping and takes what comes up to its answer: what the target had to say before. A target that answers in
    /// order has nothing more to say about what was sent earlier, but for commands that are still running.
    pub(crate) async fn said_before_ping(&mut self) -> Result<Vec<Pdu>, Finding> {
        let ping = self.ping();
        self.send(Pdu::bare(ping)).await;
        let mut said = Vec::new();
        while said.len() < MOST_PDUS {
            let pdu = self.receive().await?;
            match &pdu.header {
                Header::NopIn(nop) if nop.initiator_task_tag == ping.initiator_task_tag => {
                    return Ok(said);
                }
                _ => said.push(pdu),
            }
        }
        violation!("{MOST_PDUS} PDUs, and no answer to a ping among them")
    }

    /// Takes part in a command from the first PDU to the status.
    pub(crate) async fn run(&mut self, task: &Task) -> Result<Reply, Finding> {
        let (header, rest) = self.open(task).await;
        self.follow(header.initiator_task_tag.get(), rest).await
    }

    /// Sends a command with all the unsolicited data that the terms allow; its header, and all of its data.
    pub(crate) async fn open(&mut self, task: &Task) -> (ScsiCommand, Bytes) {
        let mut header = self.command(task);
        let Flow::Out(data) = &task.flow else {
            self.send(Pdu::bare(header)).await;
            return (header, Bytes::new());
        };
        let terms = self.terms;
        let burst = data.len().min(length(terms.first_burst));
        let immediate = if terms.immediate_data {
            burst.min(length(terms.target_segment))
        } else {
            0
        };
        let unsolicited = !terms.initial_r2t && immediate < burst;
        if unsolicited {
            header.flags &= !FINAL;
        }
        self.send(Pdu::new(header, data.slice(..immediate))).await;
        if unsolicited {
            let tags = (header.initiator_task_tag.get(), RESERVED_TAG);
            self.send_data(
                tags,
                header.lun.get(),
                immediate,
                &data.slice(immediate..burst),
            )
            .await;
        }
        (header, data.clone())
    }

    /// Sends one burst of Data-Out: tags of task and transfer, where in the command's data the bytes lie.
    pub(crate) async fn send_data(
        &mut self,
        (task, transfer): (u32, u32),
        lun: u64,
        offset: usize,
        bytes: &Bytes,
    ) {
        let segment = length(self.terms.target_segment).max(1);
        let mut at = 0;
        let mut data_sn = 0u32;
        while at < bytes.len() {
            let end = bytes.len().min(at + segment);
            let header = DataOut {
                flags: if end == bytes.len() { FINAL } else { 0 },
                lun: lun.into(),
                initiator_task_tag: task.into(),
                target_transfer_tag: transfer.into(),
                exp_stat_sn: self.exp_stat_sn.into(),
                data_sn: data_sn.into(),
                buffer_offset: u32::try_from(offset + at).unwrap_or(u32::MAX).into(),
                ..DataOut::default()
            };
            self.send(Pdu::new(header, bytes.slice(at..end))).await;
            at = end;
            data_sn = data_sn.wrapping_add(1);
        }
    }

    /// Does what a target asks for until the status of a command comes. PDUs about other tasks are violations.
    pub(crate) async fn follow(&mut self, tag: u32, data: Bytes) -> Result<Reply, Finding> {
        let mut gathered = BytesMut::new();
        let mut pdus = Vec::new();
        while pdus.len() < MOST_PDUS {
            let pdu = self.receive().await?;
            if let Header::Reject(reject) = pdu.header {
                violation!(
                    "Reject with reason {:#04x} while a command runs",
                    reject.reason
                );
            }
            let about = pdu.header.common().initiator_task_tag.get();
            ensure!(
                about == tag,
                "{} about task {about:08x}, while {tag:08x} is the only one",
                Heard::Pdu(pdu)
            );
            pdus.push(pdu.clone());
            match pdu.header {
                Header::ReadyToTransfer(r2t) => self.obey(&r2t, &data).await?,
                Header::DataIn(header) => {
                    let offset = length(header.buffer_offset.get());
                    ensure!(
                        offset == gathered.len(),
                        "Data-In at offset {offset} where {} is next",
                        gathered.len()
                    );
                    ensure!(
                        gathered.len() <= MOST_BYTES,
                        "Data-In has no end: {} bytes have come",
                        gathered.len()
                    );
                    gathered.extend_from_slice(&pdu.data);
                    if header.flags & STATUS != 0 {
                        return Ok(Reply {
                            status: header.status,
                            sense: None,
                            data: gathered.freeze(),
                            flags: header.flags,
                            residual: header.residual_count.get(),
                            pdus,
                        });
                    }
                }
                Header::ScsiResponse(header) => {
                    ensure!(
                        header.response == 0,
                        "response {:#04x}: not completed at the target",
                        header.response
                    );
                    return Ok(Reply {
                        status: header.status,
                        sense: sense(&pdu.data),
                        data: gathered.freeze(),
                        flags: header.flags,
                        residual: header.residual_count.get(),
                        pdus,
                    });
                }
                _ => violation!("{} while a command runs", Heard::Pdu(pdu)),
            }
        }
        violation!("no status after {MOST_PDUS} PDUs")
    }

    /// Sends what an R2T asks for.
    pub(crate) async fn obey(
        &mut self,
        r2t: &ReadyToTransfer,
        data: &Bytes,
    ) -> Result<(), Finding> {
        let start = length(r2t.buffer_offset.get());
        let end = start.saturating_add(length(r2t.desired_data_transfer_length.get()));
        ensure!(
            start < end && end <= data.len(),
            "an R2T for bytes {start} to {end} of {}",
            data.len()
        );
        let tags = (r2t.initiator_task_tag.get(), r2t.target_transfer_tag.get());
        self.send_data(tags, r2t.lun.get(), start, &data.slice(start..end))
            .await;
        Ok(())
    }

    /// Takes Unit Attentions until TEST UNIT READY succeeds.
    pub(crate) async fn take_attentions(&mut self) -> Result<(), Finding> {
        for _ in 0..MOST_ATTENTIONS {
            let reply = self.run(&Task::bare(&[0; 6])).await?;
            match (reply.status, reply.codes().0) {
                (0, _) => return Ok(()),
                (CHECK_CONDITION, 6) => {}
                _ => violation!("TEST UNIT READY: {}", reply.outcome()),
            }
        }
        violation!("{MOST_ATTENTIONS} Unit Attentions, and still no GOOD from TEST UNIT READY")
    }

    fn note_numbers(&mut self, header: &Header) {
        let numbers = Numbers::of(header);
        if Numbers::uses_stat_sn(header) {
            self.exp_stat_sn = numbers.stat_sn.wrapping_add(1);
        }
        self.exp_cmd_sn = numbers.exp_cmd_sn;
        self.max_cmd_sn = numbers.max_cmd_sn;
    }
}

impl Terms {
    /// What holds after these offers of the suite and these answers of the target; what nobody said has its default.
    fn of(offered: &Keys, answers: &Keys) -> Self {
        let number = |key| answers.number(key).or_else(|| offered.number(key));
        // A boolean offer that decides the outcome by itself needs no answer (§6.2.2).
        let yes = |key, default: &str| {
            let said = answers.get(key).or_else(|| offered.get(key));
            said.unwrap_or(default) == "Yes"
        };
        Self {
            target_segment: answers.number("MaxRecvDataSegmentLength").unwrap_or(8192),
            own_segment: offered.number("MaxRecvDataSegmentLength").unwrap_or(8192),
            max_burst: number("MaxBurstLength").unwrap_or(262_144),
            first_burst: number("FirstBurstLength").unwrap_or(65_536),
            initial_r2t: yes("InitialR2T", "Yes"),
            immediate_data: yes("ImmediateData", "Yes"),
        }
    }
}

/// The numbers that every PDU of a target has in the same places (RFC 7143 §11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Numbers {
    pub(crate) stat_sn: u32,
    pub(crate) exp_cmd_sn: u32,
    pub(crate) max_cmd_sn: u32,
}

impl Numbers {
    pub(crate) fn of(header: &Header) -> Self {
        let bytes = header.as_bytes();
        let word = |at: usize| {
            let four = bytes.get(at..at + 4).and_then(|four| four.try_into().ok());
            four.map_or(0, u32::from_be_bytes)
        };
        Self {
            stat_sn: word(24),
            exp_cmd_sn: word(28),
            max_cmd_sn: word(32),
        }
    }

    /// False in an R2T, a Data-In without status and a ping of the target: their StatSN uses nothing up (§11.7.3,
    /// §11.8.3, §11.19.2).
    pub(crate) fn uses_stat_sn(header: &Header) -> bool {
        match header {
            Header::DataIn(data) => data.flags & STATUS != 0,
            Header::ReadyToTransfer(_) => false,
            Header::NopIn(nop) => nop.initiator_task_tag.get() != RESERVED_TAG,
            _ => true,
        }
    }
}

/// True for a NOP-In that wants an answer, and is none itself (RFC 7143 §11.19.1).
fn is_ping(nop: &NopIn) -> bool {
    nop.initiator_task_tag.get() == RESERVED_TAG && nop.target_transfer_tag.get() != RESERVED_TAG
}

/// The sense data of a SCSI Response: two bytes of length, then sense (RFC 7143 §11.4.7).
pub(crate) fn sense(data: &[u8]) -> Option<SenseData> {
    let (head, rest) = data.split_first_chunk::<2>()?;
    SenseData::parse(rest.get(..usize::from(u16::from_be_bytes(*head)))?)
}

fn length(bytes: u32) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// Task attribute SIMPLE (RFC 7143 §11.3.1).
const SIMPLE: u8 = 1;
/// The most PDUs of one command.
const MOST_PDUS: usize = 4096;
/// The most bytes that one command brings before that counts as endless.
const MOST_BYTES: usize = 64 * 1024 * 1024;
/// The most pings and Asynchronous Messages in a row.
const MOST_ASIDES: usize = 32;
/// The most Unit Attentions that a login may leave.
const MOST_ATTENTIONS: usize = 8;
