//! Targets that break the rules of `login_text`.

use bytes::{Bytes, BytesMut};
use iscsi_proto::wire::bhs::{CONTINUE, FINAL};
use iscsi_proto::wire::{Header, Pdu};

use super::logins::{headers, refuse, request_headers};
use crate::broken::{Act, Fault, Kind, Saboteur, Seen, edit};

pub(crate) const FAULTS: &[Fault] = &[
    Fault {
        name: "half a text is answered at once",
        trips: "login.text.continue-empty",
        behind: Kind::Plain,
        saboteur: || {
            edit::responses(|pdu| {
                if matches!(pdu.header, Header::LoginResponse(_)) && pdu.data.is_empty() {
                    pdu.data = Bytes::from_static(b"TargetPortalGroupTag=1\0");
                }
            })
        },
    },
    Fault {
        name: "texts of several PDUs are a target error",
        trips: "login.text.continue-empty",
        behind: Kind::Plain,
        saboteur: || refuse(0x0300, |request, _| request.flags & CONTINUE != 0),
    },
    Fault {
        name: "the C bit of a request that asks for a transit is not looked at",
        trips: "login.text.continue-and-transit",
        behind: Kind::Plain,
        saboteur: || {
            request_headers(|header| {
                if header.flags & FINAL != 0 {
                    header.flags &= !CONTINUE;
                }
            })
        },
    },
    Fault {
        name: "each piece of a text is a text",
        trips: "login.text.spans-pdus",
        behind: Kind::Plain,
        saboteur: || request_headers(|header| header.flags &= !CONTINUE),
    },
    Fault {
        name: "a piece of a text is forgotten",
        trips: "login.text.spans-pdus-again",
        behind: Kind::Plain,
        saboteur: || {
            edit::requests(|pdu| {
                if matches!(&pdu.header, Header::LoginRequest(header) if header.flags & CONTINUE != 0)
                {
                    pdu.data = Bytes::new();
                }
            })
        },
    },
    Fault {
        name: "a text has room for 4096 bytes",
        trips: "login.text.8192-bytes",
        behind: Kind::Plain,
        saboteur: || room(4096),
    },
    Fault {
        name: "a PDU of the login has room for 4096 bytes",
        trips: "login.text.full-pdu",
        behind: Kind::Plain,
        saboteur: || room(4096),
    },
    Fault {
        name: "a long answer is sent in one PDU",
        trips: "login.text.long-answer",
        behind: Kind::Plain,
        saboteur: in_one_piece,
    },
    Fault {
        name: "a long answer ends with the first PDU",
        trips: "login.text.long-answer",
        behind: Kind::Plain,
        saboteur: || {
            edit::responses(|pdu| {
                if let Header::LoginResponse(header) = &mut pdu.header
                    && header.flags & CONTINUE != 0
                {
                    header.flags &= !CONTINUE;
                    let whole = pdu.data.iter().rposition(|byte| *byte == 0);
                    pdu.data.truncate(whole.map_or(0, |last| last + 1));
                }
            })
        },
    },
    Fault {
        name: "the transit is granted with the first piece of a long answer",
        trips: "login.text.long-answer-transit",
        behind: Kind::Plain,
        saboteur: || {
            headers(|header| {
                if header.flags & CONTINUE != 0 {
                    header.flags |= FINAL | 3;
                }
            })
        },
    },
    Fault {
        name: "the last pair has no null",
        trips: "login.text.one-null",
        behind: Kind::Plain,
        saboteur: || rewrite(|text| text.truncate(text.len().saturating_sub(1))),
    },
    Fault {
        name: "the padding counts as text",
        trips: "login.text.one-null",
        behind: Kind::Plain,
        saboteur: || rewrite(|text| text.extend_from_slice(b"\0\0")),
    },
    Fault {
        name: "keys begin with a small letter",
        trips: "login.text.key-names",
        behind: Kind::Plain,
        saboteur: || {
            rewrite(|text| {
                if let Some(first) = text.first_mut() {
                    first.make_ascii_lowercase();
                }
            })
        },
    },
];

/// Refuses whoever sends more text in one stage of a login.
fn room(bytes: usize) -> Saboteur {
    let mut got = 0;
    Box::new(move |seen, lane| {
        if let Seen::Request(pdu) = &seen
            && let Header::LoginRequest(header) = &pdu.header
        {
            got = if header.flags & FINAL == 0 {
                got + pdu.data.len()
            } else {
                0
            };
            if got > bytes {
                return refuse(0x0302, |_, _| true)(seen, lane);
            }
        }
        Act::Pass
    })
}

/// Rewrites the text of Login Responses that have any.
fn rewrite(mut edit: impl FnMut(&mut BytesMut) + Send + 'static) -> Saboteur {
    edit::responses(move |pdu| {
        if matches!(pdu.header, Header::LoginResponse(_)) && !pdu.data.is_empty() {
            let mut text = BytesMut::from(&pdu.data[..]);
            edit(&mut text);
            pdu.data = text.freeze();
        }
    })
}

/// Puts the pieces of an answer together: the target is asked for the rest in the initiator's place.
fn in_one_piece() -> Saboteur {
    let mut request = None;
    let mut gathered = BytesMut::new();
    Box::new(move |seen, lane| match seen {
        Seen::Request(pdu) => {
            request = Some(pdu.header);
            Act::Pass
        }
        Seen::Response(pdu) => {
            let Header::LoginResponse(header) = &pdu.header else {
                return Act::Pass;
            };
            gathered.extend_from_slice(&pdu.data);
            if header.flags & CONTINUE == 0 {
                let whole = gathered.split().freeze();
                return Act::Replace(vec![Pdu::new(pdu.header, whole)]);
            }
            if let Some(header) = request {
                lane.to_target(Pdu::bare(header));
            }
            Act::Replace(Vec::new())
        }
        Seen::TargetClosed => Act::Pass,
    })
}
