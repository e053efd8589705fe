//! Initiators that do not heed the status of a login.

use iscsi_proto::wire::{Header, Pdu};

use crate::stumbling::faults::login_keys::answered;
use crate::stumbling::{Act, Fault, Saboteur, Seen, edit};

pub(crate) const FAULTS: &[Fault] = &[
    Fault {
        name: "stays when it is refused",
        trips: "login.refused.closes",
        saboteur: stays,
    },
    Fault {
        name: "goes on logging in when it is refused",
        trips: "login.refused.closes",
        saboteur: || {
            let mut request = None;
            Box::new(move |seen, lane| match seen {
                Seen::Request(pdu) => {
                    request = Some(pdu.clone());
                    Act::Pass
                }
                Seen::Response(_) => {
                    let again: Option<Pdu> = request.take();
                    again.into_iter().for_each(|pdu| lane.to_target(pdu));
                    Act::Replace(Vec::new())
                }
                Seen::TargetClosed => Act::Pass,
            })
        },
    },
    Fault {
        name: "knocks for ever",
        trips: "login.refused.again",
        saboteur: nothing,
    },
    Fault {
        name: "stays when the target is not available",
        trips: "login.unavailable.closes",
        saboteur: stays,
    },
    Fault {
        name: "stays when it is redirected",
        trips: "login.redirected.closes",
        saboteur: stays,
    },
    Fault {
        name: "takes a redirection for a refusal",
        trips: "login.moved.temporarily",
        saboteur: || status(0x0203),
    },
    Fault {
        name: "goes somewhere else",
        trips: "login.moved.temporarily",
        saboteur: || answered("TargetAddress", "127.0.0.1:1"),
    },
    Fault {
        name: "does not know what has moved permanently",
        trips: "login.moved.permanently",
        saboteur: || status(0x0203),
    },
];

/// The fault is in how often it comes.
fn nothing() -> Saboteur {
    Box::new(|_, _| Act::Pass)
}

/// The initiator does not hear that its login is over, and waits.
fn stays() -> Saboteur {
    edit::swallow_responses(
        |pdu| matches!(&pdu.header, Header::LoginResponse(login) if login.status_class != 0),
    )
}

/// The initiator hears another status.
fn status(other: u16) -> Saboteur {
    edit::responses(move |pdu| {
        if let Header::LoginResponse(login) = &mut pdu.header
            && login.status_class != 0
        {
            [login.status_class, login.status_detail] = other.to_be_bytes();
        }
    })
}
