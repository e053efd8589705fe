//! Text requests in the full feature phase (RFC 7143 §11.10, §11.11 and §6.4): SendTargets, and refusing to negotiate
//! anew what the login settled.

use std::collections::BTreeSet;

use bytes::{Bytes, BytesMut};

use crate::discovery::DiscoverScope;
use crate::name::IscsiName;
use crate::params::{Key, Kind, SessionType, parse_number};
use crate::wire::bhs::RESERVED_TAG;
use crate::wire::text;

/// An exchange of text requests and responses under one task tag.
#[derive(Debug)]
pub(crate) struct TextExchange {
    /// What the next request has to carry; reserved while a response is due.
    pub(crate) tag: u32,
    /// Text of a request that is not complete.
    pub(crate) gathered: BytesMut,
    /// Text that was not sent yet.
    pub(crate) reply: Bytes,
    /// The last request had the final bit.
    pub(crate) is_final: bool,
    /// The driver was asked for target records.
    pub(crate) awaits_records: bool,
    /// Keys that were said so far; each may be negotiated once (RFC 7143 §6.2).
    pub(crate) said: BTreeSet<String>,
    /// Bytes of complete requests, all together.
    pub(crate) taken: usize,
    /// The initiator's new MaxRecvDataSegmentLength. It holds from the end of the exchange on: one that is begun anew
    /// or fails changes nothing (RFC 7143 §6.4).
    pub(crate) segment: Option<u32>,
}

impl TextExchange {
    /// An exchange that begins.
    pub(crate) fn new() -> Self {
        Self {
            tag: RESERVED_TAG,
            gathered: BytesMut::new(),
            reply: Bytes::new(),
            is_final: false,
            awaits_records: false,
            said: BTreeSet::new(),
            taken: 0,
            segment: None,
        }
    }
}

/// What a complete text request comes to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The answers that can be given at once.
    pub(crate) text: Bytes,
    /// Target records that were asked for.
    pub(crate) scope: Option<DiscoverScope>,
    /// The initiator takes longer or shorter data segments from now on.
    pub(crate) max_send_data_segment_length: Option<u32>,
}

/// A text request that is none, or that breaks the rules of negotiation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadText;

/// Answers a complete text request of an exchange in which the keys of `said` had their turn.
pub(crate) fn answer(
    request: &[u8],
    session: SessionType,
    own: Option<&IscsiName>,
    said: &mut BTreeSet<String>,
) -> Result<Answer, BadText> {
    let pairs = text::parse(request).map_err(|_| BadText)?;
    let (mut answers, mut scope, mut segment) = (Vec::new(), None, None);
    for (key, value) in &pairs {
        if !said.insert(key.as_str().to_owned()) {
            return Err(BadText);
        }
        match settle(key, value, session, own) {
            Settled::Said(said) => answers.push((key.as_str(), said)),
            Settled::Noted => {}
            Settled::Segment(length) => segment = Some(length),
            Settled::Scope(asked) => scope = Some(asked),
        }
    }
    Ok(Answer {
        text: text::encode(&answers),
        scope,
        max_send_data_segment_length: segment,
    })
}

enum Settled {
    Said(&'static str),
    Noted,
    Segment(u32),
    Scope(DiscoverScope),
}

fn settle(key: &str, value: &str, session: SessionType, own: Option<&IscsiName>) -> Settled {
    let Some(key) = Key::from_name(key) else {
        return Settled::Said("NotUnderstood");
    };
    match (key, key.rule().kind) {
        (Key::SendTargets, _) => match DiscoverScope::parse(value) {
            // An answer without targets: it may hold no other keys (RFC 7143 appendix C).
            Ok(asked) => scope(asked, session, own).map_or(Settled::Noted, Settled::Scope),
            Err(_) => Settled::Said("Reject"),
        },
        (Key::MaxRecvDataSegmentLength, Kind::DeclaredNumber(least, most)) => {
            segment(value, least, most).map_or(Settled::Said("Reject"), Settled::Segment)
        }
        (Key::InitiatorAlias, _) => Settled::Noted,
        (_, Kind::Obsolete(said)) => Settled::Said(said),
        _ => Settled::Said("Reject"),
    }
}

/// "All" is for discovery sessions, the session's own target for normal ones (RFC 7143 appendix C).
fn scope(
    asked: DiscoverScope,
    session: SessionType,
    own: Option<&IscsiName>,
) -> Option<DiscoverScope> {
    match (asked, session) {
        (DiscoverScope::All, SessionType::Normal)
        | (DiscoverScope::Own, SessionType::Discovery) => None,
        (DiscoverScope::Name(name), SessionType::Normal) => {
            (Some(&name) == own).then_some(DiscoverScope::Own)
        }
        (scope, _) => Some(scope),
    }
}

fn segment(value: &str, least: u32, most: u32) -> Option<u32> {
    parse_number(value)
        .and_then(|length| u32::try_from(length).ok())
        .filter(|length| (least..=most).contains(length))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Answer, BadText, answer};
    use crate::discovery::DiscoverScope;
    use crate::params::SessionType;

    fn said(request: &[u8], session: SessionType) -> Answer {
        let own = "iqn.2026-01.org.example:disk".parse().ok();
        answer(request, session, own.as_ref(), &mut BTreeSet::new()).expect("a lawful request")
    }

    #[test]
    fn keys_of_the_login_are_rejected_and_foreign_keys_not_understood() {
        let request = b"HeaderDigest=CRC32C\0X-org.example.key=1\0OFMarkInt=1\0InitiatorAlias=me\0";
        let answer = said(request, SessionType::Normal);
        assert_eq!(
            answer.text.as_ref(),
            b"HeaderDigest=Reject\0X-org.example.key=NotUnderstood\0OFMarkInt=Reject\0"
        );
        assert_eq!(
            (answer.scope, answer.max_send_data_segment_length),
            (None, None)
        );
    }

    #[test]
    fn a_declared_segment_length_is_noted_in_silence() {
        let answer = said(b"MaxRecvDataSegmentLength=65536\0", SessionType::Normal);
        assert_eq!(
            (answer.text.len(), answer.max_send_data_segment_length),
            (0, Some(65_536))
        );
        let answer = said(b"MaxRecvDataSegmentLength=511\0", SessionType::Normal);
        assert_eq!(answer.text.as_ref(), b"MaxRecvDataSegmentLength=Reject\0");
    }

    #[test]
    fn all_is_for_discovery_and_nothing_is_for_normal_sessions() {
        let cases: [(&[u8], SessionType, Option<DiscoverScope>); 6] = [
            (
                b"SendTargets=All\0",
                SessionType::Discovery,
                Some(DiscoverScope::All),
            ),
            (b"SendTargets=All\0", SessionType::Normal, None),
            (b"SendTargets=\0", SessionType::Discovery, None),
            (
                b"SendTargets=\0",
                SessionType::Normal,
                Some(DiscoverScope::Own),
            ),
            (
                b"SendTargets=iqn.2026-01.org.example:disk\0",
                SessionType::Normal,
                Some(DiscoverScope::Own),
            ),
            (
                b"SendTargets=iqn.2026-01.org.example:other\0",
                SessionType::Normal,
                None,
            ),
        ];
        for (request, session, scope) in cases {
            let answer = said(request, session);
            assert!(
                answer.text.is_empty(),
                "no other keys than those of targets"
            );
            assert_eq!(answer.scope, scope, "{session:?}");
        }
        let answer = said(b"SendTargets=all\0", SessionType::Discovery);
        assert_eq!(answer.text.as_ref(), b"SendTargets=Reject\0");
    }

    #[test]
    fn what_is_said_twice_or_is_no_text_is_refused() {
        for request in [
            &b"SendTargets=\0SendTargets=\0"[..],
            b"X=1\0X=2\0",
            b"no text",
        ] {
            assert_eq!(
                answer(request, SessionType::Normal, None, &mut BTreeSet::new()),
                Err(BadText)
            );
        }
    }
}
