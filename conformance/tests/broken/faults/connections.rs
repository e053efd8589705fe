//! Targets that keep the connections of a session apart, or mix them up.

use iscsi_proto::wire::bhs::{LoginRequest, ScsiResponse};
use iscsi_proto::wire::{Header, Pdu};

use crate::broken::{Act, Fault, Kind, Post, Saboteur, Seen, edit};

pub(crate) const FAULTS: &[Fault] = &[
    Fault {
        name: "a further connection begins a session of its own",
        trips: "connections.join",
        behind: Kind::Several,
        saboteur: || {
            edit::requests(|pdu| {
                if let Header::LoginRequest(login) = &mut pdu.header
                    && login.cid.get() != 0
                {
                    *login = LoginRequest {
                        tsih: 0.into(),
                        isid: [0x80, 1, 2, 3, 4, 5],
                        ..*login
                    };
                }
            })
        },
    },
    Fault {
        name: "two connections are agreed to, and the second refused",
        trips: "connections.join",
        behind: Kind::Plain,
        saboteur: || {
            edit::answered_keys(|pairs| {
                for (key, value) in pairs {
                    if key == "MaxConnections" {
                        "2".clone_into(value);
                    }
                }
            })
        },
    },
    Fault {
        name: "StatSN counts the session",
        trips: "connections.stat-sn",
        behind: Kind::Several,
        saboteur: count_together,
    },
    Fault {
        name: "CmdSN counts the connection",
        trips: "connections.cmd-sn",
        behind: Kind::Several,
        saboteur: answer_out_of_order,
    },
    Fault {
        name: "the status of a WRITE comes on the first connection",
        trips: "connections.allegiance",
        behind: Kind::Several,
        saboteur: || {
            Box::new(|seen, lane| match seen {
                Seen::Response(pdu) => match &pdu.header {
                    Header::ScsiResponse(_) if is_far(pdu) => {
                        lane.post(lane.number - 1, Post::ToInitiator(pdu.clone()));
                        Act::Pass
                    }
                    _ => Act::Pass,
                },
                _ => Act::Pass,
            })
        },
    },
    Fault {
        name: "the logout of one connection closes the session",
        trips: "connections.logout",
        behind: Kind::Several,
        saboteur: || {
            Box::new(|seen, lane| match seen {
                Seen::Response(pdu) if matches!(pdu.header, Header::LogoutResponse(_)) => {
                    lane.post(lane.number - 1, Post::HangUp);
                    Act::Pass
                }
                _ => Act::Pass,
            })
        },
    },
];

/// Tasks of the second connection have tags of their own.
fn is_far(pdu: &Pdu) -> bool {
    (0x0100_0000..0x0200_0000).contains(&pdu.header.common().initiator_task_tag.get())
}

/// NOP-Ins are numbered one after the other, whichever connection they go to.
fn count_together() -> Saboteur {
    let mut highest = None;
    edit::responses(move |pdu| {
        if let Header::NopIn(nop) = &mut pdu.header {
            let next: &mut u32 = highest.get_or_insert_with(|| nop.stat_sn.get());
            nop.stat_sn = (*next).into();
            *next = next.wrapping_add(1);
        }
    })
}

/// A command of the second connection is answered at once.
fn answer_out_of_order() -> Saboteur {
    edit::answer(|pdu, lane| match &pdu.header {
        Header::ScsiCommand(command) if is_far(pdu) => Some(vec![Pdu::bare(ScsiResponse {
            flags: 0x80,
            initiator_task_tag: command.initiator_task_tag,
            stat_sn: lane.numbers.0.wrapping_add(1).into(),
            exp_cmd_sn: command.cmd_sn.get().wrapping_add(1).into(),
            max_cmd_sn: lane.numbers.2.into(),
            ..ScsiResponse::default()
        })]),
        _ => None,
    })
}
