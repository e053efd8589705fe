//! Initiators that abort, come back and leave wrongly.

use bytes::Bytes;
use iscsi_proto::wire::bhs::{FINAL, LogoutResponse, NopOut, RESERVED_TAG, TaskManagementRequest};
use iscsi_proto::wire::{Header, Pdu, text};

use crate::stumbling::faults::notices::logouts;
use crate::stumbling::{Act, Fault, Saboteur, Seen, edit};

pub(crate) const FAULTS: &[Fault] = &[
    Fault {
        name: "a function that is none",
        trips: "management.form",
        saboteur: || aborts(|abort| abort.function = 0x89),
    },
    Fault {
        name: "task management without the F bit",
        trips: "management.form",
        saboteur: || aborts(|abort| abort.function &= 0x7f),
    },
    Fault {
        name: "aborts a command that is not there",
        trips: "management.abort",
        saboteur: || aborts(|abort| abort.referenced_task_tag = 0x0bad_0bad.into()),
    },
    Fault {
        name: "aborts in another unit",
        trips: "management.abort",
        saboteur: || aborts(|abort| abort.lun = (3 << 48).into()),
    },
    Fault {
        name: "a unit reset names a task",
        trips: "management.abort",
        saboteur: || aborts(|abort| abort.function = 0x85),
    },
    Fault {
        name: "RefCmdSN is that of the abort",
        trips: "management.ref-cmd-sn",
        saboteur: || aborts(|abort| abort.ref_cmd_sn = abort.cmd_sn),
    },
    Fault {
        name: "comes back to a session that never was",
        trips: "loss.tsih",
        saboteur: || {
            later_logins(|pdu| {
                if let Header::LoginRequest(login) = &mut pdu.header {
                    login.tsih = 0x7777.into();
                }
            })
        },
    },
    Fault {
        name: "comes back without a name",
        trips: "loss.names",
        saboteur: || {
            later_logins(|pdu| {
                let mut keys = text::parse(&pdu.data).unwrap();
                keys.retain(|(key, _)| key != "InitiatorName");
                pdu.data = text::encode(&keys);
            })
        },
    },
    Fault {
        name: "a logout for no reason",
        trips: "logout.form",
        saboteur: || logouts(|logout| logout.reason = 0x85),
    },
    Fault {
        name: "a logout of another connection",
        trips: "logout.form",
        saboteur: || {
            logouts(|logout| {
                logout.reason = 0x81;
                logout.cid = 9.into();
            })
        },
    },
    Fault {
        name: "a logout with data",
        trips: "logout.form",
        saboteur: || {
            edit::requests(|pdu| {
                if matches!(pdu.header, Header::LogoutRequest(_)) {
                    pdu.data = Bytes::from_static(b"goodbye!");
                }
            })
        },
    },
    Fault {
        name: "a ping behind the logout",
        trips: "logout.last",
        saboteur: || {
            Box::new(|seen, _| match seen {
                Seen::Request(pdu) => match &pdu.header {
                    Header::LogoutRequest(logout) => {
                        let ping = NopOut {
                            opcode: 0x40,
                            flags: FINAL,
                            initiator_task_tag: 0x1111.into(),
                            target_transfer_tag: RESERVED_TAG.into(),
                            cmd_sn: logout.cmd_sn,
                            exp_stat_sn: logout.exp_stat_sn,
                            ..NopOut::default()
                        };
                        Act::Replace(vec![pdu.clone(), Pdu::bare(ping)])
                    }
                    _ => Act::Pass,
                },
                _ => Act::Pass,
            })
        },
    },
    Fault {
        name: "leaves without a word",
        trips: "logout.sent",
        saboteur: || {
            edit::answer(|pdu, lane| match &pdu.header {
                Header::LogoutRequest(logout) => Some(vec![Pdu::bare(LogoutResponse {
                    flags: FINAL,
                    initiator_task_tag: logout.initiator_task_tag,
                    stat_sn: (lane.numbers.0 + 1).into(),
                    exp_cmd_sn: lane.numbers.1.into(),
                    max_cmd_sn: lane.numbers.2.into(),
                    ..LogoutResponse::default()
                })]),
                _ => None,
            })
        },
    },
    Fault {
        name: "stays when it has logged out",
        trips: "logout.closes",
        saboteur: || {
            Box::new(|seen, lane| match seen {
                Seen::Response(pdu) if matches!(pdu.header, Header::LogoutResponse(_)) => {
                    Act::Replace(Vec::new())
                }
                Seen::TargetClosed => {
                    lane.stay();
                    Act::Pass
                }
                _ => Act::Pass,
            })
        },
    },
];

fn aborts(mut edit: impl FnMut(&mut TaskManagementRequest) + Send + 'static) -> Saboteur {
    edit::requests(move |pdu| {
        if let Header::TaskManagementRequest(abort) = &mut pdu.header {
            edit(abort);
        }
    })
}

/// Changes the first Login Request of all connections but the first.
fn later_logins(mut edit: impl FnMut(&mut Pdu) + Send + 'static) -> Saboteur {
    let mut seen_connections = std::collections::HashSet::new();
    Box::new(move |seen, lane| match seen {
        Seen::Request(pdu)
            if matches!(pdu.header, Header::LoginRequest(_))
                && seen_connections.insert(lane.number)
                && lane.number > 1 =>
        {
            let mut pdu = pdu.clone();
            edit(&mut pdu);
            Act::Replace(vec![pdu])
        }
        _ => Act::Pass,
    })
}
