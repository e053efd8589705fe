//! Initiators that do not heed what the target has to say by itself.

use iscsi_proto::wire::bhs::{LogoutRequest, TextRequest};
use iscsi_proto::wire::{Header, Pdu};

use crate::stumbling::faults::numbering::change;
use crate::stumbling::{Act, Fault, Saboteur, Seen, edit};

pub(crate) const FAULTS: &[Fault] = &[
    Fault {
        name: "a request to log out is not heeded",
        trips: "notice.logout",
        saboteur: || {
            // Nor does it have much to say after that.
            let mut noticed = false;
            Box::new(move |seen, _| match seen {
                Seen::Response(pdu) if matches!(pdu.header, Header::AsyncMessage(_)) => {
                    noticed = true;
                    Act::Replace(vec![misheard(pdu)])
                }
                Seen::Request(_) if noticed => Act::Replace(Vec::new()),
                _ => Act::Pass,
            })
        },
    },
    Fault {
        name: "the connection is dropped instead of logged out",
        trips: "notice.logout",
        saboteur: drops_at_notices,
    },
    Fault {
        name: "logs out for recovery",
        trips: "notice.logout.reason",
        saboteur: || logouts(|logout| logout.reason = 0x82),
    },
    Fault {
        name: "works on although it is asked to log out",
        trips: "notice.logout.no-more",
        saboteur: deaf,
    },
    Fault {
        name: "comes back at once when the connection is dropped",
        trips: "notice.connection-dropped",
        saboteur: deaf,
    },
    Fault {
        name: "comes back at once when the session is dropped",
        trips: "notice.session-dropped",
        saboteur: deaf,
    },
    Fault {
        name: "drops the connection for a SCSI event",
        trips: "notice.scsi",
        saboteur: drops_at_notices,
    },
    Fault {
        name: "drops the connection for an event that it does not know",
        trips: "notice.vendor",
        saboteur: drops_at_notices,
    },
    Fault {
        name: "does not negotiate when it is asked to",
        trips: "notice.negotiation",
        saboteur: || {
            edit::swallow_requests(|pdu| {
                matches!(pdu.header, Header::TextRequest(TextRequest { .. }))
            })
        },
    },
    Fault {
        name: "Asynchronous Messages are not counted",
        trips: "notice.counts",
        saboteur: || {
            let mut notices = 0_u32;
            Box::new(move |seen, _| match seen {
                Seen::Response(pdu) => {
                    notices += u32::from(matches!(pdu.header, Header::AsyncMessage(_)));
                    Act::Pass
                }
                Seen::Request(pdu) if notices > 0 => {
                    let mut pdu = pdu.clone();
                    change(&mut pdu, 28, |number| number.wrapping_sub(notices));
                    Act::Replace(vec![pdu])
                }
                _ => Act::Pass,
            })
        },
    },
    Fault {
        name: "the gap that a Reject leaves stays open",
        trips: "reject.command",
        saboteur: || {
            edit::swallow_requests(|pdu| matches!(pdu.header, Header::TaskManagementRequest(_)))
        },
    },
];

/// Asynchronous Messages are counted, but not understood.
fn deaf() -> Saboteur {
    edit::responses(|pdu| *pdu = misheard(pdu))
}

/// An Asynchronous Message that asks for nothing, in place of one.
fn misheard(pdu: &Pdu) -> Pdu {
    match pdu.header {
        Header::AsyncMessage(mut message) => {
            message.async_event = 250;
            Pdu::bare(message)
        }
        _ => pdu.clone(),
    }
}

/// An Asynchronous Message ends the connection.
fn drops_at_notices() -> Saboteur {
    Box::new(|seen, lane| {
        if let Seen::Response(pdu) = seen
            && matches!(pdu.header, Header::AsyncMessage(_))
        {
            lane.hang_up();
            return Act::Replace(Vec::new());
        }
        Act::Pass
    })
}

/// Changes Logout Requests.
pub(crate) fn logouts(mut edit: impl FnMut(&mut LogoutRequest) + Send + 'static) -> Saboteur {
    edit::requests(move |pdu: &mut Pdu| {
        if let Header::LogoutRequest(logout) = &mut pdu.header {
            edit(logout);
        }
    })
}
