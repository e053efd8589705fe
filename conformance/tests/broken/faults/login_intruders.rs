//! Targets that break the rules of `login_intruders`.

use bytes::Bytes;
use iscsi_proto::wire::bhs::{DataIn, FINAL, NopIn, RESERVED_TAG, STATUS, TextResponse};
use iscsi_proto::wire::{Header, Pdu};

use super::logins::{mute, status};
use crate::broken::{Act, Fault, Kind, Saboteur, Seen, common, edit};

pub(crate) const FAULTS: &[Fault] = &[
    Fault {
        name: "pings are answered before the login",
        trips: "login.first.nop-out",
        behind: Kind::Plain,
        saboteur: || {
            edit::answer(|pdu, _| {
                let tag = common(pdu).initiator_task_tag;
                matches!(pdu.header, Header::NopOut(_)).then(|| {
                    vec![Pdu::bare(NopIn {
                        flags: FINAL,
                        initiator_task_tag: tag,
                        target_transfer_tag: RESERVED_TAG.into(),
                        ..NopIn::default()
                    })]
                })
            })
        },
    },
    Fault {
        name: "what comes before the login is dropped, and the connection kept",
        trips: "login.first.nop-out",
        behind: Kind::Plain,
        saboteur: || edit::swallow_requests(|pdu| matches!(pdu.header, Header::NopOut(_))),
    },
    Fault {
        name: "INQUIRY is answered before the login",
        trips: "login.first.command",
        behind: Kind::Plain,
        saboteur: || {
            edit::answer(|pdu, _| {
                let tag = common(pdu).initiator_task_tag;
                matches!(pdu.header, Header::ScsiCommand(_)).then(|| {
                    let header = DataIn {
                        flags: FINAL | STATUS,
                        initiator_task_tag: tag,
                        target_transfer_tag: RESERVED_TAG.into(),
                        ..DataIn::default()
                    };
                    vec![Pdu::new(header, Bytes::from_static(&[0; 36]))]
                })
            })
        },
    },
    Fault {
        name: "SendTargets is answered before the login",
        trips: "login.first.text",
        behind: Kind::Plain,
        saboteur: || {
            edit::answer(|pdu, _| {
                let tag = common(pdu).initiator_task_tag;
                matches!(pdu.header, Header::TextRequest(_)).then(|| {
                    let header = TextResponse {
                        flags: FINAL,
                        initiator_task_tag: tag,
                        target_transfer_tag: RESERVED_TAG.into(),
                        ..TextResponse::default()
                    };
                    vec![Pdu::new(header, Bytes::from_static(b"TargetName=iqn.a\0"))]
                })
            })
        },
    },
    Fault {
        name: "who sends something else during the login is cut off without a word",
        trips: "login.intruder.nop-out",
        behind: Kind::Plain,
        saboteur: mute,
    },
    Fault {
        name: "a command during the login is an ordinary error of the initiator",
        trips: "login.intruder.command",
        behind: Kind::Plain,
        saboteur: || status(0x0200),
    },
    Fault {
        name: "something else during the login is refused, and the connection kept",
        trips: "login.intruder.closes",
        behind: Kind::Plain,
        saboteur: keep,
    },
    Fault {
        name: "a login that failed leaves its connection open",
        trips: "login.failed.closes",
        behind: Kind::Plain,
        saboteur: keep,
    },
];

/// Keeps every connection that the target closes.
fn keep() -> Saboteur {
    Box::new(|seen, lane| {
        if let Seen::TargetClosed = seen {
            lane.stay();
        }
        Act::Pass
    })
}
