//! Targets that break the rules of `logout`.

use bytes::Bytes;
use iscsi_proto::wire::bhs::{FINAL, LogoutRequest, LogoutResponse, ScsiResponse};
use iscsi_proto::wire::{Header, Pdu};

use crate::broken::faults::chap::answer;
use crate::broken::{Act, Fault, Kind, Saboteur, Seen, edit};

pub(crate) const FAULTS: &[Fault] = &[
    fault("logout.session", "a logout fails for no reason", || {
        responses(|response, _| response.response = 3)
    }),
    fault("logout.session", "the response is for another task", || {
        responses(|response, _| response.initiator_task_tag = 1.into())
    }),
    fault("logout.session.closes", "the connection stays open", stay),
    fault(
        "logout.connection",
        "connections cannot be logged out",
        || {
            edit::answer(|pdu, lane| {
                let Header::LogoutRequest(request) = &pdu.header else {
                    return None;
                };
                let connection = request.reason & 0x7f == 1;
                connection.then(|| vec![edit::reject(pdu, 0x05, lane)])
            })
        },
    ),
    fault("logout.connection", "the connection stays open", stay),
    fault("logout.recovery", "recovery is promised", || {
        responses(|response, _| response.response = 0)
    }),
    fault(
        "logout.unknown-connection",
        "every CID is the own one",
        || requests(|request| request.cid = 0.into()),
    ),
    fault(
        "logout.unknown-connection",
        "an unknown CID is a failure",
        || responses(|response, _| response.response = 3),
    ),
    fault("logout.session.cid", "the CID is looked for", || {
        requests(|request| request.reason = FINAL | 1)
    }),
    fault("logout.reserved-reason", "every reason is good", || {
        requests(|request| request.reason = FINAL)
    }),
    fault(
        "logout.response.form",
        "there is data in the response",
        || responses(|_, data| *data = Bytes::from_static(b"goodbye")),
    ),
    fault("logout.response.form", "the final bit is missing", || {
        responses(|response, _| response.flags = 0)
    }),
    fault("logout.immediate", "immediate logouts are counted", || {
        responses(|response, _| {
            response.exp_cmd_sn = response.exp_cmd_sn.get().wrapping_add(1).into();
        })
    }),
    fault("logout.numbered", "logouts are taken as immediate", || {
        requests(|request| request.opcode |= 0x40)
    }),
    fault("logout.stat-sn", "the logout has no StatSN", || {
        responses(|response, _| response.stat_sn = 0.into())
    }),
    fault(
        "logout.with-commands",
        "a command is answered behind the logout",
        || {
            Box::new(|seen, _| match seen {
                Seen::Response(pdu) => {
                    let Header::LogoutResponse(logout) = &pdu.header else {
                        return Act::Pass;
                    };
                    let late = ScsiResponse {
                        flags: FINAL,
                        initiator_task_tag: 2.into(),
                        stat_sn: logout.stat_sn.get().wrapping_add(1).into(),
                        exp_cmd_sn: logout.exp_cmd_sn,
                        max_cmd_sn: logout.max_cmd_sn,
                        ..ScsiResponse::default()
                    };
                    Act::Replace(vec![pdu.clone(), Pdu::bare(late)])
                }
                _ => Act::Pass,
            })
        },
    ),
    fault(
        "logout.session.is-over",
        "who knew a session gets a new one",
        || {
            edit::requests(|pdu| {
                if let Header::LoginRequest(request) = &mut pdu.header {
                    request.tsih = 0.into();
                }
            })
        },
    ),
    fault(
        "logout.session.may-begin-anew",
        "an ISID is good for one session",
        || {
            let mut over = false;
            edit::answer(move |pdu, lane| match &pdu.header {
                Header::LogoutRequest(_) => {
                    over = true;
                    None
                }
                Header::LoginRequest(request) if over => {
                    Some(vec![answer(request, lane, 0, 0x0200, &[])])
                }
                _ => None,
            })
        },
    ),
];

const fn fault(trips: &'static str, name: &'static str, saboteur: fn() -> Saboteur) -> Fault {
    Fault {
        name,
        trips,
        behind: Kind::Plain,
        saboteur,
    }
}

/// Rewrites Logout Requests before the target sees them.
fn requests(edit: fn(&mut LogoutRequest)) -> Saboteur {
    edit::requests(move |pdu| {
        if let Header::LogoutRequest(request) = &mut pdu.header {
            edit(request);
        }
    })
}

/// Rewrites Logout Responses.
fn responses(edit: fn(&mut LogoutResponse, &mut Bytes)) -> Saboteur {
    edit::responses(move |pdu| {
        if let Header::LogoutResponse(response) = &mut pdu.header {
            edit(response, &mut pdu.data);
        }
    })
}

/// The connection outlives the session.
fn stay() -> Saboteur {
    Box::new(|seen, lane| {
        if matches!(seen, Seen::TargetClosed) {
            lane.stay();
        }
        Act::Pass
    })
}
