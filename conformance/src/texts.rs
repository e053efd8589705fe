//! Text Requests and Responses in the full feature phase (RFC 7143 §11.10 and §11.11).

use bytes::{Bytes, BytesMut};
use iscsi_proto::wire::bhs::{CONTINUE, FINAL, IMMEDIATE, RESERVED_TAG, TextRequest, TextResponse};
use iscsi_proto::wire::{Header, Pdu};

use crate::check::{Finding, ensure, violation};
use crate::keys::Keys;
use crate::session::Session;
use crate::wire::{Heard, NO_ANSWER};
use crate::words;

/// What comes back on a Text Request.
#[derive(Clone, Debug)]
pub(crate) enum Said {
    /// A Text Response and its text.
    Text(TextResponse, Bytes),
    /// A Reject with this reason.
    Reject(u8),
    /// Nothing; the target hangs up. How that came about, `the target hangs up on ..`.
    Closed(String),
}

impl Session {
    /// The header of a Text Request: immediate, final, the first of its sequence.
    pub(crate) fn text(&mut self) -> TextRequest {
        TextRequest {
            opcode: TextRequest::OPCODE | IMMEDIATE,
            flags: FINAL,
            initiator_task_tag: self.tag().into(),
            target_transfer_tag: RESERVED_TAG.into(),
            cmd_sn: self.cmd_sn.into(),
            exp_stat_sn: self.exp_stat_sn.into(),
            ..TextRequest::default()
        }
    }

    /// The header of the next, empty, final request of the sequence that a response belongs to.
    pub(crate) fn text_after(&self, response: &TextResponse) -> TextRequest {
        TextRequest {
            opcode: TextRequest::OPCODE | IMMEDIATE,
            flags: FINAL,
            lun: response.lun,
            initiator_task_tag: response.initiator_task_tag,
            target_transfer_tag: response.target_transfer_tag,
            cmd_sn: self.cmd_sn.into(),
            exp_stat_sn: self.exp_stat_sn.into(),
            ..TextRequest::default()
        }
    }

    /// Sends a Text Request and takes what comes back; anything else than an answer to it is a violation.
    pub(crate) async fn say(
        &mut self,
        request: TextRequest,
        text: impl Into<Bytes>,
    ) -> Result<Said, Finding> {
        self.send(Pdu::new(request, text.into())).await;
        let (heard, pinged) = self.text_or_ping().await;
        let pdu = match heard {
            Heard::Pdu(pdu) => pdu,
            Heard::Closed if pinged => {
                let waited = words::time(self.wire.patience / 4);
                return Ok(Said::Closed(format!(
                    "the target hangs up on a NOP-Out, {waited} of silence after a Text Request"
                )));
            }
            Heard::Closed => {
                return Ok(Said::Closed(
                    "the target hangs up on a Text Request".to_owned(),
                ));
            }
            Heard::Silence => violation!("{NO_ANSWER} to a Text Request"),
            other => violation!("{other} on a Text Request"),
        };
        match pdu.header {
            Header::TextResponse(response) => {
                ensure!(
                    response.initiator_task_tag == request.initiator_task_tag,
                    "the Text Request has the Initiator Task Tag {:08x}, the Text Response {:08x}",
                    request.initiator_task_tag.get(),
                    response.initiator_task_tag.get()
                );
                Ok(Said::Text(response, pdu.data))
            }
            Header::Reject(reject) => Ok(Said::Reject(reject.reason)),
            _ => violation!("{} on a Text Request", Heard::Pdu(pdu)),
        }
    }

    /// What comes next, and whether a ping went before it. A target that drops Text Requests answers a ping that is sent
    /// behind one: then there is no use in waiting long. In a discovery session a ping is an offence (RFC 7143 §4.3).
    async fn text_or_ping(&mut self) -> (Heard, bool) {
        if self.login.discovers || self.login.target.is_none() {
            return (self.next().await, false);
        }
        let patience = self.wire.patience;
        self.wire.patience = patience / 4;
        let mut heard = self.next().await;
        self.wire.patience = patience;
        let pinged = heard == Heard::Silence;
        if pinged {
            let ping = self.ping();
            self.send(Pdu::bare(ping)).await;
            heard = self.next().await;
            let echoes = |heard: &Heard| matches!(heard, Heard::Pdu(pdu) if pdu.header.common().initiator_task_tag == ping.initiator_task_tag);
            if echoes(&heard) {
                self.wire.patience = patience / 4;
                heard = self.next().await;
                self.wire.patience = patience;
            } else if matches!(heard, Heard::Pdu(_)) {
                // It was slow; the echo is still to come.
                self.next().await;
            }
        }
        (heard, pinged)
    }

    /// Like [`Self::say`]; anything but a Text Response is a violation.
    pub(crate) async fn hear(
        &mut self,
        request: TextRequest,
        text: impl Into<Bytes>,
    ) -> Result<(TextResponse, Bytes), Finding> {
        self.say(request, text).await?.text()
    }

    /// Asks something in a sequence of its own, and asks on until the answer is whole.
    pub(crate) async fn ask_text(&mut self, keys: &[(&str, &str)]) -> Result<Keys, Finding> {
        let request = self.text();
        let first = self.hear(request, Keys::of(keys).encode()).await?;
        Keys::parse(&self.rest_of_text(first).await?)
    }

    /// The whole text of an answer whose first part has come.
    pub(crate) async fn rest_of_text(
        &mut self,
        (mut response, part): (TextResponse, Bytes),
    ) -> Result<Bytes, Finding> {
        let mut text = BytesMut::from(part.as_ref());
        for _ in 0..MOST_PARTS {
            if response.flags & FINAL != 0 {
                ensure!(
                    response.flags & CONTINUE == 0,
                    "a Text Response with both the F bit and the C bit"
                );
                return Ok(text.freeze());
            }
            ensure!(
                response.target_transfer_tag.get() != RESERVED_TAG,
                "a Text Response that is not final without a Target Transfer Tag"
            );
            let request = self.text_after(&response);
            let (next, part) = self.hear(request, Bytes::new()).await?;
            response = next;
            text.extend_from_slice(&part);
        }
        violation!("an answer has no end after {MOST_PARTS} Text Responses")
    }
}

impl Said {
    /// The Text Response; anything else is a violation.
    pub(crate) fn text(self) -> Result<(TextResponse, Bytes), Finding> {
        match self {
            Self::Text(response, text) => Ok((response, text)),
            Self::Reject(reason) => {
                violation!("the Text Request is rejected with reason {reason:#04x}")
            }
            Self::Closed(how) => violation!("{how}"),
        }
    }
}

/// The most Text Responses that an answer may be spread over.
const MOST_PARTS: usize = 256;
