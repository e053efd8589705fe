//! Logging in, step by step, so that a check can do each step wrongly (RFC 7143 §6 and §11.12).

use bytes::Bytes;
use iscsi_proto::wire::bhs::{CONTINUE, FINAL, LoginRequest, LoginResponse};
use iscsi_proto::wire::{Header, Pdu};

use crate::chap;
use crate::check::{Finding, ensure, violation};
use crate::keys::Keys;
use crate::session::Session;
use crate::subject::{Credentials, Subject};
use crate::wire::{Heard, Wire};
use crate::words;

/// The security negotiation stage.
pub(crate) const SECURITY: u8 = 0;
/// The login operational negotiation stage.
pub(crate) const OPERATIONAL: u8 = 1;
/// The full feature phase.
pub(crate) const FULL_FEATURE: u8 = 3;

/// What a login says about itself, in the header and in the first request.
#[derive(Clone, Debug)]
pub(crate) struct Login {
    /// InitiatorName.
    pub(crate) initiator: String,
    /// TargetName; without one it is a discovery session.
    pub(crate) target: Option<String>,
    /// A discovery session, even if it names a target.
    pub(crate) discovers: bool,
    pub(crate) isid: [u8; 6],
    /// Zero for a new session.
    pub(crate) tsih: u16,
    pub(crate) cid: u16,
    /// CmdSN of the login, and of the first command.
    pub(crate) cmd_sn: u32,
    /// The initiator task tag of the login.
    pub(crate) tag: u32,
}

impl Login {
    /// An ordinary login to the subject's target.
    pub(crate) fn new(subject: &Subject, isid: [u8; 6]) -> Self {
        Self {
            initiator: subject.initiator.clone(),
            target: Some(subject.target.clone()),
            discovers: false,
            isid,
            tsih: 0,
            cid: 0,
            cmd_sn: 1,
            tag: 0x1000,
        }
    }

    /// The keys that the first request of a login has to hold (RFC 7143 §6.3).
    pub(crate) fn names(&self) -> Keys {
        let mut keys = Keys::of(&[("InitiatorName", &self.initiator)]);
        let discovers = self.discovers || self.target.is_none();
        // Only the first connection of a session may carry it (RFC 7143 §13.21).
        if self.tsih == 0 {
            let kind = if discovers { "Discovery" } else { "Normal" };
            keys.set("SessionType", kind);
        }
        if let Some(target) = &self.target {
            keys.set("TargetName", target);
        }
        keys
    }
}

/// A login under way.
#[derive(Debug)]
pub(crate) struct Talk {
    pub(crate) wire: Wire,
    pub(crate) login: Login,
    pub(crate) exp_stat_sn: u32,
    /// Status class and detail of the last Login Response.
    pub(crate) status: u16,
    /// The headers of all Login Responses, in order.
    pub(crate) responses: Vec<LoginResponse>,
    /// All that the target has answered, in order.
    pub(crate) answers: Keys,
    /// All that was asked, in order.
    asked: Keys,
    chap: Option<Credentials>,
    lun: u16,
}

/// A Login Response; the text of one that came in several is put together.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) header: LoginResponse,
    pub(crate) keys: Keys,
}

impl Answer {
    /// Status class and detail as one number: 0x0201 is "authentication failure" (RFC 7143 §11.13.5).
    pub(crate) fn status(&self) -> u16 {
        u16::from_be_bytes([self.header.status_class, self.header.status_detail])
    }

    /// True if the target moves on to this stage.
    pub(crate) fn moves_to(&self, stage: u8) -> bool {
        self.header.flags & FINAL != 0 && self.header.flags & 3 == stage
    }
}

/// What the target did with a login request that it should not like.
#[derive(Clone, Debug)]
pub(crate) enum Refusal {
    /// Went on with the login.
    None(Answer),
    /// Answered with a status that is not success.
    Status(u16),
    /// Closed the connection without a word.
    Closed,
}

impl Talk {
    pub(crate) fn new(wire: Wire, login: Login, subject: &Subject) -> Self {
        Self {
            wire,
            login,
            exp_stat_sn: 0,
            status: 0,
            responses: Vec::new(),
            answers: Keys::default(),
            asked: Keys::default(),
            chap: subject.chap.clone(),
            lun: subject.lun,
        }
    }

    /// A Login Request of a stage; with `next` it asks to move on there. To be sent as it is, or damaged first.
    pub(crate) fn request(&self, stage: u8, next: Option<u8>, keys: &Keys) -> Pdu {
        let transit = next.map_or(0, |next| FINAL | next);
        let header = LoginRequest {
            opcode: LoginRequest::OPCODE | 0x40,
            flags: transit | stage << 2,
            isid: self.login.isid,
            tsih: self.login.tsih.into(),
            initiator_task_tag: self.login.tag.into(),
            cid: self.login.cid.into(),
            cmd_sn: self.login.cmd_sn.into(),
            exp_stat_sn: self.exp_stat_sn.into(),
            ..LoginRequest::default()
        };
        Pdu::new(header, keys.encode())
    }

    /// Sends a request and takes the whole answer; anything but a Login Response is a violation.
    pub(crate) async fn ask(
        &mut self,
        stage: u8,
        next: Option<u8>,
        keys: &Keys,
    ) -> Result<Answer, Finding> {
        self.wire.send(self.request(stage, next, keys)).await;
        self.asked.0.extend(keys.0.iter().cloned());
        self.answer(stage).await
    }

    /// The answer to a request that was sent: asks on while the target says that its text continues.
    pub(crate) async fn answer(&mut self, stage: u8) -> Result<Answer, Finding> {
        let mut text = Vec::new();
        for _ in 0..MOST_PARTS {
            let (header, part) = self.part().await?;
            text.extend_from_slice(&part);
            if header.flags & CONTINUE == 0 || header.status_class != 0 {
                let keys = Keys::parse(&text)?;
                self.answers.0.extend(keys.0.iter().cloned());
                return Ok(Answer { header, keys });
            }
            self.wire
                .send(self.request(stage, None, &Keys::default()))
                .await;
        }
        violation!("the text of a Login Response has no end after {MOST_PARTS} PDUs")
    }

    /// One Login Response as it is.
    pub(crate) async fn part(&mut self) -> Result<(LoginResponse, Bytes), Finding> {
        let pdu = self.wire.receive().await?;
        let Header::LoginResponse(header) = pdu.header else {
            violation!("{} instead of a Login Response", Heard::Pdu(pdu));
        };
        self.exp_stat_sn = header.stat_sn.get().wrapping_add(1);
        self.status = u16::from_be_bytes([header.status_class, header.status_detail]);
        self.responses.push(header);
        Ok((header, pdu.data))
    }

    /// What the target does with what was sent last, if it should refuse it: a Reject counts as a refusal too.
    pub(crate) async fn refusal(&mut self) -> Result<Refusal, Finding> {
        match self.wire.next().await {
            Heard::Closed => Ok(Refusal::Closed),
            Heard::Pdu(Pdu {
                header: Header::LoginResponse(header),
                data,
                ..
            }) => {
                let keys = Keys::parse(&data).unwrap_or_default();
                let answer = Answer { header, keys };
                Ok(match answer.status() {
                    0 => Refusal::None(answer),
                    status => Refusal::Status(status),
                })
            }
            other => violation!("{other} instead of a Login Response or a closed connection"),
        }
    }

    /// The security stage as an ordinary initiator goes through it: the names, then CHAP if the subject has an account
    /// for it, else no authentication. Ends in the operational stage.
    pub(crate) async fn authenticate(&mut self) -> Result<(), Finding> {
        let mut keys = self.login.names();
        let chap = self.chap.clone();
        keys.set(
            "AuthMethod",
            if chap.is_some() { "CHAP,None" } else { "None" },
        );
        let first = self.ask(SECURITY, Some(OPERATIONAL), &keys).await?;
        self.expect_success(&first)?;
        match (first.keys.get("AuthMethod"), chap) {
            // Whatever the method: who moves on wants no proof.
            _ if first.moves_to(OPERATIONAL) => Ok(()),
            (Some("CHAP"), Some(account)) => chap::prove(self, &account).await,
            (Some("None"), _) => self.insist().await,
            (Some(method), _) => {
                let method = words::quoted(method);
                violation!("AuthMethod={method} is the answer, and the login does not move on")
            }
            (None, _) => violation!("AuthMethod is not answered, and the login does not move on"),
        }
    }

    /// Asks to leave the security stage until the target does: it may take its time (RFC 7143 §6.3.3).
    pub(crate) async fn insist(&mut self) -> Result<(), Finding> {
        for _ in 0..MOST_PARTS {
            let answer = self
                .ask(SECURITY, Some(OPERATIONAL), &Keys::default())
                .await?;
            self.expect_success(&answer)?;
            if answer.moves_to(OPERATIONAL) {
                return Ok(());
            }
        }
        violation!("AuthMethod=None is settled, and the login does not move on")
    }

    /// The operational stage with these keys, into the full feature phase.
    pub(crate) async fn finish(mut self, keys: Keys) -> Result<Session, Finding> {
        let mut next = keys.clone();
        for _ in 0..MOST_PARTS {
            let answer = self.ask(OPERATIONAL, Some(FULL_FEATURE), &next).await?;
            self.expect_success(&answer)?;
            if answer.moves_to(FULL_FEATURE) {
                let lun = self.lun;
                return Ok(Session::begin(self, &keys, &answer, lun));
            }
            next = self.replies(&answer.keys);
        }
        violation!("the login is not over after {MOST_PARTS} requests that ask for it")
    }

    /// What an ordinary initiator says to keys that the target proposes of its own accord (RFC 7143 §6.2): takes the
    /// value, which every result function allows; of a list None, else the first; and understands what RFC 7143 has.
    pub(crate) fn replies(&mut self, said: &Keys) -> Keys {
        let mut replies = Keys::default();
        for (key, value) in &said.0 {
            let is_an_answer = self.asked.get(key).is_some()
                || ["NotUnderstood", "Reject", "Irrelevant"].contains(&value.as_str());
            let reply = match key.as_str() {
                _ if is_an_answer => continue,
                "TargetAlias" | "TargetAddress" | "TargetName" | "TargetPortalGroupTag" => continue,
                "MaxRecvDataSegmentLength" | "X#NodeArchitecture" => continue,
                "HeaderDigest" | "DataDigest" | "TaskReporting" => {
                    let mut list = value.split(',');
                    list.clone()
                        .find(|choice| *choice == "None")
                        .or_else(|| list.next())
                        .unwrap_or("Reject")
                }
                "IFMarker" | "OFMarker" | "IFMarkInt" | "OFMarkInt" => "Reject",
                name if PROPOSABLE.contains(&name) => value,
                _ => "NotUnderstood",
            };
            replies.set(key, reply);
        }
        for (key, reply) in &replies.0 {
            self.answers.set(key, reply);
        }
        replies
    }

    /// Any status but success is a violation.
    pub(crate) fn expect_success(&self, answer: &Answer) -> Result<(), Finding> {
        ensure!(
            answer.status() == 0,
            "the login is refused with status {:#06x}",
            answer.status()
        );
        Ok(())
    }
}

/// Numbers and booleans that a target may propose in a login (RFC 7143 §13).
const PROPOSABLE: &[&str] = &[
    "MaxConnections",
    "InitialR2T",
    "ImmediateData",
    "MaxBurstLength",
    "FirstBurstLength",
    "DefaultTime2Wait",
    "DefaultTime2Retain",
    "MaxOutstandingR2T",
    "DataPDUInOrder",
    "DataSequenceInOrder",
    "ErrorRecoveryLevel",
    "iSCSIProtocolLevel",
];
/// The most Login Responses that a text may be spread over, and requests that a login may take.
const MOST_PARTS: usize = 16;
