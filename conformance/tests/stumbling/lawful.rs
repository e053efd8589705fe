//! Initiators with habits that are lawful, however odd: nobody may be accused for them.

use iscsi_proto::wire::{Header, Pdu};

use super::faults::{login::value, login_keys::hangs_up, numbering::exp_stat_sns};
use super::{Act, Saboteur, Seen, edit};

/// What an initiator may do.
pub(crate) struct Habit {
    /// What it does, in a word or three.
    pub(crate) name: &'static str,
    /// The drill that must not take it for a violation.
    pub(crate) drill: &'static str,
    /// Makes the initiator do it.
    pub(crate) saboteur: fn() -> Saboteur,
}

pub(crate) const HABITS: &[Habit] = &[
    Habit {
        name: "sends nothing more once a command is rejected",
        drill: "reject.command",
        saboteur: || {
            let mut rejected = false;
            Box::new(move |seen, _| match seen {
                Seen::Response(pdu) => {
                    rejected |= matches!(pdu.header, Header::Reject(_));
                    Act::Pass
                }
                Seen::Request(_) if rejected => Act::Replace(Vec::new()),
                _ => Act::Pass,
            })
        },
    },
    Habit {
        name: "sends a command that it had under way before it saw the Reject",
        drill: "reject.command",
        saboteur: || {
            let mut rejected = false;
            let mut first: Option<Pdu> = None;
            Box::new(move |seen, lane| match seen {
                Seen::Response(pdu) => {
                    if matches!(pdu.header, Header::Reject(_))
                        && !std::mem::replace(&mut rejected, true)
                        && let Some(mut late) = first.clone()
                        && let Header::ScsiCommand(command) = &mut late.header
                    {
                        command.cmd_sn = command.cmd_sn.get().wrapping_add(1).into();
                        command.initiator_task_tag = 0x0bad_cafe.into();
                        lane.to_target(late);
                    }
                    Act::Pass
                }
                Seen::Request(_) if rejected => Act::Replace(Vec::new()),
                Seen::Request(pdu) => {
                    if matches!(&pdu.header, Header::ScsiCommand(_)) {
                        first = Some(pdu.clone());
                    }
                    Act::Pass
                }
                Seen::TargetClosed => Act::Pass,
            })
        },
    },
    Habit {
        name: "is late with every other acknowledgement",
        drill: "numbering.exp-stat-sn.keeps-up",
        saboteur: || {
            let mut requests = 0_u32;
            exp_stat_sns(move |number| {
                requests += 1;
                number.wrapping_sub(requests % 2)
            })
        },
    },
    Habit {
        name: "ends a login at any key that it does not know",
        drill: "login.keys.long",
        saboteur: || hangs_up(|keys, _| keys.iter().any(|(key, _)| key.starts_with("X-"))),
    },
    Habit {
        name: "has no account",
        drill: "chap.response",
        saboteur: || value("AuthMethod", |_| "None".to_owned()),
    },
    Habit {
        name: "prefers RFC3720",
        drill: "login.keys.answered",
        saboteur: || {
            edit::asked_keys(|keys| {
                for (key, value) in keys {
                    if key == "TaskReporting" && value == "ResponseFence" {
                        "RFC3720".clone_into(value);
                    }
                }
            })
        },
    },
];
