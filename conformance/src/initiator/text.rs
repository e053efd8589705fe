//! Text Requests in the full feature phase: SendTargets above all (RFC 7143 §11.10, §11.11, appendix C).

use bytes::Bytes;
use iscsi_proto::wire::Pdu;
use iscsi_proto::wire::bhs::{CONTINUE, FINAL, RESERVED_TAG, TextRequest, TextResponse};

use crate::initiator::caller::Caller;
use crate::initiator::negotiate::numeral;
use crate::initiator::terms::length;
use crate::keys::Keys;

/// The text exchange under way.
#[derive(Clone, Debug, Default)]
pub(crate) struct Texts {
    /// What is left of an answer, and the tag that fetches it.
    pub(crate) rest: Option<(u32, Rest)>,
    /// Target records that a drill adds to the list.
    pub(crate) more: Keys,
}

/// What is left of an answer.
#[derive(Clone, Debug)]
pub(crate) enum Rest {
    /// Bytes, cut wherever it suits: the C bit says that they go on.
    Bytes(Bytes),
    /// Whole pairs.
    Pairs(Vec<(String, String)>),
}

impl Caller {
    /// A Text Request came.
    pub(crate) async fn take_text(&mut self, request: &TextRequest, text: &Bytes) {
        let fetches = request.target_transfer_tag.get();
        let rest = match self.texts.rest.take() {
            Some((tag, rest)) if tag == fetches => rest,
            _ => {
                let keys = Keys::parse(text).unwrap_or_default();
                let answer = self.answers(&keys);
                match self.manner.text_pairs {
                    0 => Rest::Bytes(answer.encode()),
                    _ => Rest::Pairs(answer.0),
                }
            }
        };
        self.send_text(request, rest).await;
    }

    async fn send_text(&mut self, request: &TextRequest, rest: Rest) {
        let (part, rest, flags) = self.cut(rest);
        let tag = match rest {
            Some(rest) => {
                let tag = self.transfer_tag();
                self.texts.rest = Some((tag, rest));
                tag
            }
            None => RESERVED_TAG,
        };
        let header = TextResponse {
            flags,
            initiator_task_tag: request.initiator_task_tag,
            target_transfer_tag: tag.into(),
            ..TextResponse::default()
        };
        self.tell_pdu(Pdu::new(header, part)).await;
    }

    /// The next part of an answer, what is left behind it, and the flags of its PDU.
    fn cut(&self, rest: Rest) -> (Bytes, Option<Rest>, u8) {
        let limit = length(self.terms.initiator_segment);
        match rest {
            Rest::Bytes(mut bytes) => {
                let most = match self.manner.text_part {
                    0 => limit,
                    part => part.min(limit),
                };
                if bytes.len() <= most {
                    return (bytes, None, FINAL);
                }
                let part = bytes.split_to(most);
                (part, Some(Rest::Bytes(bytes)), CONTINUE)
            }
            Rest::Pairs(mut pairs) => {
                let rest = pairs.split_off(self.manner.text_pairs.min(pairs.len()));
                let part = Keys(pairs).encode();
                match rest.is_empty() {
                    true => (part, None, FINAL),
                    false => (part, Some(Rest::Pairs(rest)), 0),
                }
            }
        }
    }

    fn answers(&mut self, keys: &Keys) -> Keys {
        let mut answers = Keys::default();
        for (key, value) in &keys.0 {
            match key.as_str() {
                "SendTargets" => self.list(value, &mut answers),
                "MaxRecvDataSegmentLength" => {
                    if let Some(segment) = numeral(value) {
                        self.terms.initiator_segment = segment;
                    }
                }
                // All others are for the login only, or unknown.
                other if KNOWN.contains(&other) => answers.set(key, "Reject"),
                _ => answers.set(key, "NotUnderstood"),
            }
        }
        answers
    }

    /// The targets that a SendTargets is about: all of them in a discovery session, else the session's own.
    fn list(&self, value: &str, answers: &mut Keys) {
        let address = self.scene.advertised(&self.wire.local_address());
        let address = format!("{address},1");
        let names = match self.record.is_discovery() {
            true => self.scene.names.as_slice(),
            false => std::slice::from_ref(&self.scene.target),
        };
        let wanted = |name: &&String| matches!(value, "All" | "") || value == name.as_str();
        answers.0.extend(self.texts.more.0.iter().cloned());
        for name in names.iter().filter(wanted) {
            let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
            answers.0.push(pair("TargetName", name));
            answers.0.push(pair("TargetAddress", &address));
        }
    }
}

/// Keys that cannot be negotiated outside the login.
const KNOWN: &[&str] = &[
    "HeaderDigest",
    "DataDigest",
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
    "TaskReporting",
    "iSCSIProtocolLevel",
];
