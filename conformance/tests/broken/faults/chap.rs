//! Targets that break the rules of `chap`.

use bytes::Bytes;
use iscsi_proto::wire::bhs::{FINAL, LoginRequest, LoginResponse};
use iscsi_proto::wire::{Header, Pdu, text};

use crate::broken::{Act, Fault, Kind, Lane, Saboteur, Seen, edit};

pub(crate) const FAULTS: &[Fault] = &[
    fault("chap.md5", "MD5 goes wrong", || damaged_response(16)),
    fault("chap.sha1", "SHA-1 goes wrong", || damaged_response(20)),
    fault("chap.sha256", "SHA-1 has the number of SHA-256", || {
        renumbered("7", "6")
    }),
    fault(
        "chap.sha3-256",
        "SHA-256 has the number of SHA3-256",
        || renumbered("8", "7"),
    ),
    fault(
        "chap.algorithms.order",
        "the target's own order decides",
        || {
            ask("CHAP_A", |list| {
                let mut numbers: Vec<&str> = list.split(',').collect();
                numbers.reverse();
                numbers.join(",")
            })
        },
    ),
    fault(
        "chap.algorithms.unknown",
        "the first algorithm is taken unread",
        || say("CHAP_A", |_| "99".to_owned()),
    ),
    fault(
        "chap.algorithms.unknown",
        "an unknown algorithm spoils the list",
        || refused_if("CHAP_A", |list| list.contains("99"), 0x0200),
    ),
    fault(
        "chap.algorithms.none",
        "nothing known is taken for MD5",
        || ask("CHAP_A", |list| list.replace("99,100", "5")),
    ),
    fault(
        "chap.algorithms.none",
        "nothing known is the target's error",
        || restated(0x0201, 0x0300),
    ),
    fault("chap.response.wrong", "every proof will do", || {
        let_in(&[0x0201])
    }),
    fault(
        "chap.response.wrong",
        "a wrong proof has the wrong status",
        || restated(0x0201, 0x0202),
    ),
    fault(
        "chap.response.wrong",
        "a wrong proof may be sent again",
        || {
            Box::new(|seen, lane| {
                if matches!(seen, Seen::TargetClosed) {
                    lane.stay();
                }
                Act::Pass
            })
        },
    ),
    fault(
        "chap.response.length",
        "a proof of any length will do",
        || let_in(&[0x0200, 0x0201, 0x0207]),
    ),
    fault("chap.response.encoding", "base64 is not read", || {
        unread("0b")
    }),
    fault(
        "chap.response.encoding",
        "capital letters are not read",
        || unread("0X"),
    ),
    fault("chap.name.wrong", "the name is not looked at", || {
        ask("CHAP_N", |_| "initiator".to_owned())
    }),
    fault("chap.name.wrong", "a long name is cut", || {
        ask("CHAP_N", |name| name.trim_end_matches('x').to_owned())
    }),
    fault("chap.keys.missing", "who proves nothing is let in", || {
        let_in(&[0x0207])
    }),
    fault(
        "chap.keys.missing",
        "a missing key is a failure like others",
        || restated(0x0207, 0x0201),
    ),
    fault("chap.challenge.form", "the challenge is too long", || {
        say("CHAP_C", |_| format!("0x{}", "ab".repeat(1025)))
    }),
    fault(
        "chap.challenge.form",
        "the identifier has two bytes",
        || say("CHAP_I", |_| "300".to_owned()),
    ),
    fault(
        "chap.challenge.new",
        "the challenge is always the same",
        || say("CHAP_C", |_| "0x0123456789abcdef".to_owned()),
    ),
    fault(
        "chap.transit.premature",
        "the stage is over with the method",
        || moving_on("AuthMethod"),
    ),
    fault(
        "chap.transit.premature",
        "the stage is over with the challenge",
        || moving_on("CHAP_C"),
    ),
    fault(
        "chap.stage.skipped",
        "who skips the stage is let in",
        || {
            edit::answer(|pdu, lane| {
                let Header::LoginRequest(request) = &pdu.header else {
                    return None;
                };
                let operational = request.flags & 0x0c == 4;
                operational.then(|| vec![answer(request, lane, request.flags, 0, &[])])
            })
        },
    ),
    fault(
        "chap.method",
        "CHAP is chosen although None is all there is",
        || {
            said_if(
                "AuthMethod",
                |list| list == "None",
                &[("AuthMethod", "CHAP")],
            )
        },
    ),
    fault("chap.method", "an unknown method spoils the list", || {
        refused_if("AuthMethod", |list| list.contains("Z-"), 0x0200)
    }),
];

const fn fault(trips: &'static str, name: &'static str, saboteur: fn() -> Saboteur) -> Fault {
    Fault {
        name,
        trips,
        behind: Kind::Chap,
        saboteur,
    }
}

/// Rewrites one key that the initiator sends.
pub(crate) fn ask(key: &'static str, edit: fn(&str) -> String) -> Saboteur {
    edit::asked_keys(move |pairs| rewrite(pairs, key, edit))
}

/// Rewrites one key that the target sends.
pub(crate) fn say(key: &'static str, edit: fn(&str) -> String) -> Saboteur {
    edit::answered_keys(move |pairs| rewrite(pairs, key, edit))
}

fn rewrite(pairs: &mut [(String, String)], key: &str, edit: fn(&str) -> String) {
    for (_, value) in pairs.iter_mut().filter(|(name, _)| name == key) {
        *value = edit(value);
    }
}

/// Logins that end with one of these statuses go on instead.
pub(crate) fn let_in(statuses: &'static [u16]) -> Saboteur {
    edit::responses(|pdu| {
        if let Header::LoginResponse(response) = &mut pdu.header
            && statuses.contains(&status(response))
        {
            (response.status_class, response.status_detail) = (0, 0);
            response.flags = FINAL | 1;
            pdu.data = Bytes::new();
        }
    })
}

/// One status is sent in the place of another.
pub(crate) fn restated(old: u16, new: u16) -> Saboteur {
    edit::responses(move |pdu| {
        if let Header::LoginResponse(response) = &mut pdu.header
            && status(response) == old
        {
            [response.status_class, response.status_detail] = new.to_be_bytes();
        }
    })
}

fn status(response: &LoginResponse) -> u16 {
    u16::from_be_bytes([response.status_class, response.status_detail])
}

/// CHAP_R of so many bytes arrives with another first byte.
fn damaged_response(bytes: usize) -> Saboteur {
    edit::asked_keys(move |pairs| {
        for (_, value) in pairs.iter_mut().filter(|(name, _)| name == "CHAP_R") {
            if value.len() == 2 + 2 * bytes {
                let flipped = u8::from_str_radix(&value[2..4], 16).unwrap() ^ 1;
                value.replace_range(2..4, &format!("{flipped:02x}"));
            }
        }
    })
}

/// An algorithm goes by the number of another one.
fn renumbered(number: &'static str, meant: &'static str) -> Saboteur {
    let mut ask = edit::asked_keys(move |pairs| exchange(pairs, number, meant));
    let mut say = edit::answered_keys(move |pairs| exchange(pairs, meant, number));
    Box::new(move |seen, lane| match seen {
        Seen::Request(_) => ask(seen, lane),
        _ => say(seen, lane),
    })
}

fn exchange(pairs: &mut [(String, String)], from: &str, to: &str) {
    for (_, value) in pairs.iter_mut().filter(|(name, _)| name == "CHAP_A") {
        if value == from {
            to.clone_into(value);
        }
    }
}

/// CHAP_R with this prefix arrives as nonsense.
fn unread(prefix: &'static str) -> Saboteur {
    edit::asked_keys(move |pairs| {
        for (_, value) in pairs.iter_mut().filter(|(name, _)| name == "CHAP_R") {
            if value.starts_with(prefix) {
                *value = "0x00".to_owned();
            }
        }
    })
}

/// The answer that holds this key moves on, if the initiator wants to.
fn moving_on(key: &'static str) -> Saboteur {
    let mut wish = 0;
    Box::new(move |seen, _| match seen {
        Seen::Request(pdu) => {
            if let Header::LoginRequest(request) = &pdu.header {
                wish = request.flags & 0x83;
            }
            Act::Pass
        }
        Seen::Response(pdu) => {
            let mut pdu = pdu.clone();
            let pairs = text::parse(&pdu.data).unwrap_or_default();
            if let Header::LoginResponse(response) = &mut pdu.header
                && wish & FINAL != 0
                && pairs.iter().any(|(name, _)| name == key)
            {
                response.flags |= wish;
            }
            Act::Replace(vec![pdu])
        }
        Seen::TargetClosed => Act::Pass,
    })
}

/// A login whose key has such a value is refused.
fn refused_if(key: &'static str, which: fn(&str) -> bool, status: u16) -> Saboteur {
    in_place(key, which, move |request, lane| {
        lane.hang_up();
        answer(request, lane, 0, status, &[])
    })
}

/// A login whose key has such a value is told these keys.
fn said_if(
    key: &'static str,
    which: fn(&str) -> bool,
    keys: &'static [(&'static str, &'static str)],
) -> Saboteur {
    in_place(key, which, move |request, lane| {
        answer(request, lane, 0, 0, keys)
    })
}

fn in_place(
    key: &'static str,
    which: fn(&str) -> bool,
    with: impl Fn(&LoginRequest, &mut Lane) -> Pdu + Send + 'static,
) -> Saboteur {
    Box::new(move |seen, lane| {
        if let Seen::Request(pdu) = seen
            && let Header::LoginRequest(request) = &pdu.header
            && text::parse(&pdu.data)
                .unwrap_or_default()
                .iter()
                .any(|(name, value)| name == key && which(value))
        {
            let answer = with(request, lane);
            lane.to_initiator(answer);
            return Act::Replace(Vec::new());
        }
        Act::Pass
    })
}

/// A Login Response in the target's place.
pub(crate) fn answer(
    request: &LoginRequest,
    lane: &Lane,
    flags: u8,
    status: u16,
    keys: &[(&str, &str)],
) -> Pdu {
    let [status_class, status_detail] = status.to_be_bytes();
    let response = LoginResponse {
        flags,
        isid: request.isid,
        tsih: 1.into(),
        initiator_task_tag: request.initiator_task_tag,
        stat_sn: lane.numbers.0.wrapping_add(1).into(),
        exp_cmd_sn: request.cmd_sn,
        max_cmd_sn: request.cmd_sn,
        status_class,
        status_detail,
        ..LoginResponse::default()
    };
    Pdu::new(response, text::encode(keys))
}
