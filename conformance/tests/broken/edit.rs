//! Short ways to write a saboteur down.

use bytes::Bytes;
use iscsi_proto::wire::bhs::{FINAL, Reject};
use iscsi_proto::wire::{Header, Pdu, text};

use super::{Act, Lane, Saboteur, Seen};

/// Rewrites PDUs from the target.
pub(crate) fn responses(mut edit: impl FnMut(&mut Pdu) + Send + 'static) -> Saboteur {
    Box::new(move |seen, _| match seen {
        Seen::Response(pdu) => {
            let mut pdu = pdu.clone();
            edit(&mut pdu);
            Act::Replace(vec![pdu])
        }
        _ => Act::Pass,
    })
}

/// Rewrites PDUs from the initiator; what it does not change goes on byte for byte.
pub(crate) fn requests(mut edit: impl FnMut(&mut Pdu) + Send + 'static) -> Saboteur {
    Box::new(move |seen, _| match seen {
        Seen::Request(old) => {
            let mut pdu = old.clone();
            edit(&mut pdu);
            if pdu == *old {
                Act::Pass
            } else {
                Act::Replace(vec![pdu])
            }
        }
        _ => Act::Pass,
    })
}

/// Swallows some PDUs from the target.
pub(crate) fn swallow_responses(mut which: impl FnMut(&Pdu) -> bool + Send + 'static) -> Saboteur {
    Box::new(move |seen, _| match seen {
        Seen::Response(pdu) if which(pdu) => Act::Replace(Vec::new()),
        _ => Act::Pass,
    })
}

/// Swallows some PDUs from the initiator.
pub(crate) fn swallow_requests(mut which: impl FnMut(&Pdu) -> bool + Send + 'static) -> Saboteur {
    Box::new(move |seen, _| match seen {
        Seen::Request(pdu) if which(pdu) => Act::Replace(Vec::new()),
        _ => Act::Pass,
    })
}

/// Answers some requests in the target's place; the target never sees them.
pub(crate) fn answer(
    mut with: impl FnMut(&Pdu, &Lane) -> Option<Vec<Pdu>> + Send + 'static,
) -> Saboteur {
    Box::new(move |seen, lane| match seen {
        Seen::Request(pdu) => match with(pdu, lane) {
            Some(answers) => {
                for answer in answers {
                    lane.to_initiator(answer);
                }
                Act::Replace(Vec::new())
            }
            None => Act::Pass,
        },
        _ => Act::Pass,
    })
}

/// Rewrites the keys of Login Responses and Text Responses.
pub(crate) fn answered_keys(
    mut edit: impl FnMut(&mut Vec<(String, String)>) + Send + 'static,
) -> Saboteur {
    responses(move |pdu| {
        if matches!(
            pdu.header,
            Header::LoginResponse(_) | Header::TextResponse(_)
        ) {
            rewrite(pdu, &mut edit);
        }
    })
}

/// Rewrites the keys of Login Requests and Text Requests, before the target sees them.
pub(crate) fn asked_keys(
    mut edit: impl FnMut(&mut Vec<(String, String)>) + Send + 'static,
) -> Saboteur {
    requests(move |pdu| {
        if matches!(pdu.header, Header::LoginRequest(_) | Header::TextRequest(_)) {
            rewrite(pdu, &mut edit);
        }
    })
}

/// A Reject of a PDU from the initiator (RFC 7143 §11.17).
pub(crate) fn reject(bad: &Pdu, reason: u8, lane: &Lane) -> Pdu {
    let header = Reject {
        flags: FINAL,
        reason,
        initiator_task_tag: u32::MAX.into(),
        stat_sn: lane.numbers.0.wrapping_add(1).into(),
        exp_cmd_sn: lane.numbers.1.into(),
        max_cmd_sn: lane.numbers.2.into(),
        ..Reject::default()
    };
    Pdu::new(header, Bytes::copy_from_slice(bad.header.as_bytes()))
}

fn rewrite(pdu: &mut Pdu, edit: &mut impl FnMut(&mut Vec<(String, String)>)) {
    let Ok(mut pairs) = text::parse(&pdu.data) else {
        return;
    };
    edit(&mut pairs);
    pdu.data = text::encode(&pairs);
}
