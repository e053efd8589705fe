//! A login as the scripted target lives it (RFC 7143 §6.3, §11.12, §11.13): soundly, or step by step for a drill.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use iscsi_proto::wire::bhs::{CONTINUE, FINAL, LoginRequest, LoginResponse};
use iscsi_proto::wire::{Header, Pdu};

use crate::check::Finding;
use crate::initiator::caller::Caller;
use crate::initiator::manner::Manner;
use crate::initiator::negotiate::Negotiation;
use crate::initiator::stage::{Presence, Scene};
use crate::keys::Keys;
use crate::login::{FULL_FEATURE, OPERATIONAL};
use crate::wire::{Heard, Wire};

/// A connection on which a login begins.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) wire: Wire,
    pub(crate) scene: Arc<Scene>,
    pub(crate) record: Record,
    /// StatSN of the next response.
    pub(crate) stat_sn: u32,
    /// How many commands may be under way after the login.
    pub(crate) window: u32,
    text_part: usize,
    pub(crate) presence: Presence,
}

/// What was said during a login.
#[derive(Clone, Debug, Default)]
pub(crate) struct Record {
    /// Every Login Request, and what it was answered.
    pub(crate) exchanges: Vec<Exchange>,
    /// The keys of the first request.
    pub(crate) opening: Keys,
    /// All keys that the initiator sent, in order, with the stage in which it did.
    pub(crate) staged: Vec<(u8, String)>,
    /// All keys that the initiator sent, in order.
    pub(crate) keys: Keys,
}

/// A Login Request PDU and its answer.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    pub(crate) request: LoginRequest,
    /// Bytes of its text.
    pub(crate) text: usize,
    pub(crate) answer: Option<LoginResponse>,
}

/// A request whose text is whole.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) header: LoginRequest,
    pub(crate) keys: Keys,
}

impl Asked {
    /// The stage that the request belongs to.
    pub(crate) fn stage(&self) -> u8 {
        self.header.flags >> 2 & 3
    }

    /// The stage that it asks to move on to, if it does.
    pub(crate) fn next(&self) -> Option<u8> {
        (self.header.flags & FINAL != 0).then_some(self.header.flags & 3)
    }
}

impl Record {
    /// The first request.
    pub(crate) fn first(&self) -> Option<&Exchange> {
        self.exchanges.first()
    }

    /// True if the login is for a discovery session.
    pub(crate) fn is_discovery(&self) -> bool {
        self.keys.get("SessionType") == Some("Discovery")
    }

    /// The target session identifying handle that the login was begun with.
    pub(crate) fn tsih(&self) -> u16 {
        self.first().map_or(0, |first| first.request.tsih.get())
    }
}

impl Entry {
    pub(crate) fn new(wire: Wire, scene: Arc<Scene>) -> Self {
        let mut wire = wire;
        // What is too long is for the drills to judge.
        wire.set_max_data_segment(LONGEST_SEGMENT);
        Self {
            wire,
            presence: Presence::new(&scene),
            scene,
            record: Record::default(),
            stat_sn: Manner::PLAIN.stat_sn,
            window: Manner::PLAIN.window,
            text_part: 0,
        }
    }

    /// The next Login Request; one whose text continues is taken together with those after it. Anything else gives
    /// the login up.
    pub(crate) async fn ask(&mut self) -> Result<Asked, Heard> {
        let mut text = Vec::new();
        for _ in 0..MOST_PARTS {
            let (header, part) = self.part().await?;
            text.extend_from_slice(&part);
            if header.flags & CONTINUE == 0 {
                let keys = Keys::parse(&text).map_err(|_| {
                    Heard::Nonsense("the text of a Login Request is not key=value pairs".into())
                })?;
                if self.record.keys.0.is_empty() {
                    self.record.opening = keys.clone();
                }
                let stage = header.flags >> 2 & 3;
                let staged = keys.0.iter().map(|(key, _)| (stage, key.clone()));
                self.record.staged.extend(staged);
                self.record.keys.0.extend(keys.0.iter().cloned());
                return Ok(Asked { header, keys });
            }
            self.send(&header, header.flags & 0x0c, 0, Bytes::new())
                .await;
        }
        Err(Heard::Nonsense(format!(
            "the text of a Login Request has no end after {MOST_PARTS} PDUs"
        )))
    }

    /// One Login Request PDU as it is.
    pub(crate) async fn part(&mut self) -> Result<(LoginRequest, Bytes), Heard> {
        let heard = self.presence.hear(&mut self.wire).await;
        let Heard::Pdu(pdu) = heard else {
            return Err(heard);
        };
        let Header::LoginRequest(header) = pdu.header else {
            return Err(Heard::Pdu(pdu));
        };
        self.record.exchanges.push(Exchange {
            request: header,
            text: pdu.data.len(),
            answer: None,
        });
        Ok((header, pdu.data))
    }

    /// Answers: `next` moves on to a stage. A text that is too long for the manner goes out in parts; what comes
    /// in between is on record.
    pub(crate) async fn answer(
        &mut self,
        asked: &Asked,
        next: Option<u8>,
        tsih: u16,
        keys: &Keys,
    ) -> Result<(), Heard> {
        let mut text = keys.encode();
        let mut header = asked.header;
        let stage = header.flags & 0x0c;
        while self.text_part > 0 && text.len() > self.text_part {
            let part = text.split_to(self.text_part);
            self.send(&header, stage | CONTINUE, 0, part).await;
            (header, _) = self.part().await?;
        }
        // What the initiator asks for behind the last part counts.
        let moves = next.filter(|_| header.flags & FINAL != 0);
        let transit = moves.map_or(0, |next| FINAL | next);
        self.send(&header, stage | transit, tsih, text).await;
        Ok(())
    }

    /// Sends a Login Response with these flags to a request.
    pub(crate) async fn send(&mut self, to: &LoginRequest, flags: u8, tsih: u16, text: Bytes) {
        let header = LoginResponse {
            flags,
            isid: to.isid,
            tsih: tsih.into(),
            initiator_task_tag: to.initiator_task_tag,
            stat_sn: self.stat_sn.into(),
            exp_cmd_sn: to.cmd_sn,
            max_cmd_sn: to
                .cmd_sn
                .get()
                .wrapping_add(self.window)
                .wrapping_sub(1)
                .into(),
            ..LoginResponse::default()
        };
        self.stat_sn = self.stat_sn.wrapping_add(1);
        if let Some(last) = self.record.exchanges.last_mut() {
            last.answer = Some(header);
        }
        self.wire.send(Pdu::new(header, text)).await;
    }

    /// Ends the login with a status; the connection stays open, since closing it is the initiator's duty too.
    pub(crate) async fn refuse(&mut self, to: &Asked, status: u16, keys: &[(&str, &str)]) {
        let [class, detail] = status.to_be_bytes();
        let header = LoginResponse {
            isid: to.header.isid,
            initiator_task_tag: to.header.initiator_task_tag,
            stat_sn: self.stat_sn.into(),
            status_class: class,
            status_detail: detail,
            ..LoginResponse::default()
        };
        let text = Keys::of(keys).encode();
        self.wire.send(Pdu::new(header, text)).await;
    }

    /// A sound login in this manner.
    pub(crate) async fn log_in(mut self, manner: &Manner) -> Result<Caller, Box<GivenUp>> {
        self.stat_sn = manner.stat_sn;
        self.settle(Negotiation::new(*manner)).await
    }

    /// The sound rest of a login whose first responses a drill has given.
    pub(crate) async fn go_on(self, manner: &Manner) -> Result<Caller, Box<GivenUp>> {
        self.settle(Negotiation::introduced(*manner)).await
    }

    async fn settle(mut self, negotiation: Negotiation) -> Result<Caller, Box<GivenUp>> {
        match self.negotiate(negotiation).await {
            Ok((negotiation, tsih)) => Ok(Caller::begin(self, negotiation, tsih)),
            Err(instead) => Err(Box::new(GivenUp {
                entry: self,
                instead,
            })),
        }
    }

    async fn negotiate(
        &mut self,
        mut negotiation: Negotiation,
    ) -> Result<(Negotiation, u16), Heard> {
        let manner = negotiation.manner;
        self.window = manner.window;
        self.text_part = manner.text_part;
        for _ in 0..MOST_REQUESTS {
            let asked = self.ask().await?;
            if manner.dawdles
                && let Heard::Pdu(early) = self.wire.next_within(DAWDLES).await
            {
                return Err(Heard::Pdu(early));
            }
            if self.record.tsih() != 0 {
                // No session outlives its connection here.
                self.refuse(&asked, 0x020a, &[]).await;
                return Err(self.presence.hear(&mut self.wire).await);
            }
            let keys = negotiation.answer(&asked, self.record.is_discovery());
            let next = asked.next().filter(|_| negotiation.may_move(asked.stage()));
            let next = match next {
                Some(FULL_FEATURE) if !negotiation.is_over() => Some(OPERATIONAL),
                other => other,
            };
            let next = next.filter(|next| *next > asked.stage());
            let tsih = match next {
                Some(FULL_FEATURE) => self.scene.new_tsih(),
                _ => 0,
            };
            self.answer(&asked, next, tsih, &keys).await?;
            let last = self.record.exchanges.last();
            let moved = last.and_then(|last| last.answer).map(|answer| answer.flags);
            if moved == Some(FINAL | asked.stage() << 2 | FULL_FEATURE) {
                return Ok((negotiation, tsih));
            }
        }
        Err(Heard::Nonsense(format!(
            "the login is not over after {MOST_REQUESTS} requests"
        )))
    }
}

/// A login that ended before its time.
#[derive(Debug)]
pub(crate) struct GivenUp {
    pub(crate) entry: Entry,
    /// What came instead of the next request.
    pub(crate) instead: Heard,
}

impl From<Box<GivenUp>> for Finding {
    /// Where a lawful login was due.
    fn from(given_up: Box<GivenUp>) -> Self {
        Self::Violation(format!(
            "the login is not brought to its end: {}",
            given_up.instead
        ))
    }
}

/// Far more than a target here ever takes in one segment: what announces more has lost its way in the stream.
const LONGEST_SEGMENT: u32 = 0x0010_0000;
/// Time for an initiator that does not wait for an answer.
const DAWDLES: Duration = Duration::from_millis(40);
/// The most PDUs that the text of one request may take.
const MOST_PARTS: usize = 64;
/// The most requests of a login.
const MOST_REQUESTS: usize = 64;
