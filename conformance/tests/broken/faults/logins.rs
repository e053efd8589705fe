//! What the faults of the login share: requests and responses of a login, taken apart, refused or made up.

use bytes::Bytes;
use iscsi_proto::wire::bhs::{LoginRequest, LoginResponse};
use iscsi_proto::wire::{Header, Pdu, text};

use crate::broken::{Act, Saboteur, Seen, edit};

/// The pairs of a text.
pub(crate) type Pairs = Vec<(String, String)>;

/// Rewrites the headers of Login Responses.
pub(crate) fn headers(mut edit: impl FnMut(&mut LoginResponse) + Send + 'static) -> Saboteur {
    edit::responses(move |pdu| {
        if let Header::LoginResponse(header) = &mut pdu.header {
            edit(header);
        }
    })
}

/// Rewrites the headers of Login Requests.
pub(crate) fn request_headers(
    mut edit: impl FnMut(&mut LoginRequest) + Send + 'static,
) -> Saboteur {
    edit::requests(move |pdu| {
        if let Header::LoginRequest(header) = &mut pdu.header {
            edit(header);
        }
    })
}

/// Rewrites a key that the target answers.
pub(crate) fn value(key: &'static str, value: &'static str) -> Saboteur {
    edit::answered_keys(move |pairs| {
        let same = |(name, _): &&mut (String, String)| name == key;
        pairs
            .iter_mut()
            .filter(same)
            .for_each(|pair| value.clone_into(&mut pair.1));
    })
}

/// Changes the value of a key before the target sees it.
pub(crate) fn asked(
    key: &'static str,
    mut change: impl FnMut(&str) -> String + Send + 'static,
) -> Saboteur {
    edit::asked_keys(move |pairs| {
        for (_, value) in pairs.iter_mut().filter(|(name, _)| name == key) {
            *value = change(value);
        }
    })
}

/// Answers a key by what was proposed, whatever the target says.
pub(crate) fn echo(key: &'static str) -> Saboteur {
    let mut proposed = None;
    let same = move |pair: &&(String, String)| pair.0 == key;
    Box::new(move |seen, _| {
        let (Seen::Request(pdu) | Seen::Response(pdu)) = seen else {
            return Act::Pass;
        };
        let mut pairs = pairs(&pdu.data);
        let value = pairs.iter().find(same).map(|(_, value)| value.clone());
        match (&pdu.header, &proposed) {
            (Header::LoginRequest(_), _) if value.is_some() => proposed = value,
            (Header::LoginResponse(_), Some(proposed)) if value.is_some() => {
                for (_, value) in pairs.iter_mut().filter(|(name, _)| name == key) {
                    proposed.clone_into(value);
                }
                return Act::Replace(vec![Pdu::new(pdu.header, text::encode(&pairs))]);
            }
            _ => {}
        }
        Act::Pass
    })
}

/// Leaves a key out of what the target answers.
pub(crate) fn without(key: &'static str) -> Saboteur {
    edit::answered_keys(move |pairs| pairs.retain(|(name, _)| name != key))
}

/// Refuses some Login Requests, given header and keys, with a status, and closes the connection.
pub(crate) fn refuse(
    status: u16,
    mut which: impl FnMut(&LoginRequest, &Pairs) -> bool + Send + 'static,
) -> Saboteur {
    Box::new(move |seen, lane| {
        let Seen::Request(pdu) = seen else {
            return Act::Pass;
        };
        match &pdu.header {
            Header::LoginRequest(request) if which(request, &pairs(&pdu.data)) => {
                lane.to_initiator(refusal(request, status));
                lane.hang_up();
                Act::Replace(Vec::new())
            }
            _ => Act::Pass,
        }
    })
}

/// Answers some Login Requests in the target's place: with this byte 1 and this text.
pub(crate) fn grant(
    mut how: impl FnMut(&LoginRequest, &Pairs) -> Option<(u8, Bytes)> + Send + 'static,
) -> Saboteur {
    edit::answer(move |pdu, lane| {
        let Header::LoginRequest(request) = &pdu.header else {
            return None;
        };
        let (flags, text) = how(request, &pairs(&pdu.data))?;
        let response = LoginResponse {
            flags,
            stat_sn: lane.numbers.0.wrapping_add(1).into(),
            max_cmd_sn: request.cmd_sn,
            ..response(request)
        };
        Some(vec![Pdu::new(response, text)])
    })
}

/// Replaces the status of refusals.
pub(crate) fn status(wrong: u16) -> Saboteur {
    headers(move |header| {
        if header.status_class != 0 {
            [header.status_class, header.status_detail] = wrong.to_be_bytes();
        }
    })
}

/// Closes the connection where the target refuses a login, without a word.
pub(crate) fn mute() -> Saboteur {
    Box::new(|seen, lane| match seen {
        Seen::Response(pdu) if matches!(&pdu.header, Header::LoginResponse(header) if header.status_class != 0) =>
        {
            lane.hang_up();
            Act::Replace(Vec::new())
        }
        _ => Act::Pass,
    })
}

/// A Login Response to a request that says nothing yet.
fn response(request: &LoginRequest) -> LoginResponse {
    LoginResponse {
        isid: request.isid,
        tsih: request.tsih,
        initiator_task_tag: request.initiator_task_tag,
        exp_cmd_sn: request.cmd_sn,
        ..LoginResponse::default()
    }
}

fn refusal(request: &LoginRequest, status: u16) -> Pdu {
    let [status_class, status_detail] = status.to_be_bytes();
    Pdu::bare(LoginResponse {
        status_class,
        status_detail,
        ..response(request)
    })
}

/// The pairs of a text, whatever their keys look like.
pub(crate) fn pairs(data: &[u8]) -> Pairs {
    let text = String::from_utf8_lossy(data);
    let pairs = text.split('\0').filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// True if a request or a response names a key.
pub(crate) fn names(pairs: &Pairs, key: &str) -> bool {
    pairs.iter().any(|(name, _)| name == key)
}
