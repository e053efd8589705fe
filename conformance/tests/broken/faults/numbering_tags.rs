//! Targets that mistake retries, tags and immediate commands.

use std::collections::{BTreeMap, BTreeSet};

use iscsi_proto::wire::bhs::{IMMEDIATE, NopOut, WRITE};
use iscsi_proto::wire::{Header, Pdu};

use crate::broken::{Act, Fault, Saboteur, Seen, edit};

use super::numbering::{
    CMD_SN, EXP_CMD_SN, TAG, add, good, is_command, is_status, plain, set, word,
};

pub(crate) const FAULTS: &[Fault] = &[
    plain(
        "a retry is answered again",
        "numbering.retry.answered",
        || {
            let mut answered = BTreeSet::new();
            edit::answer(move |pdu, lane| {
                let again =
                    is_command(pdu, 0) && !answered.insert((lane.number, word(pdu, CMD_SN)));
                again.then(|| vec![good(pdu, lane)])
            })
        },
    ),
    plain(
        "a command that came twice is answered twice",
        "numbering.retry.waiting",
        answer_twice,
    ),
    plain(
        "a retry of a WRITE is answered with another R2T",
        "numbering.retry.in-progress",
        || {
            let mut asked = BTreeMap::new();
            Box::new(move |seen, lane| match seen {
                Seen::Response(pdu) if matches!(pdu.header, Header::ReadyToTransfer(_)) => {
                    asked.insert(word(pdu, TAG), pdu.clone());
                    Act::Pass
                }
                Seen::Request(pdu) if is_command(pdu, 0x2a) => {
                    if let Some(r2t) = asked.get(&word(pdu, TAG)) {
                        lane.to_initiator(r2t.clone());
                    }
                    Act::Pass
                }
                _ => Act::Pass,
            })
        },
    ),
    plain(
        "a tag that is in use may name another task",
        "numbering.tag.in-use",
        share_tags,
    ),
    plain(
        "immediate commands advance ExpCmdSN",
        "numbering.immediate.no-number",
        || {
            edit::responses(|pdu| {
                if matches!(pdu.header, Header::NopIn(_)) {
                    add(pdu, EXP_CMD_SN, 1);
                }
            })
        },
    ),
    plain(
        "immediate task management takes a CmdSN",
        "numbering.immediate.no-number",
        || {
            edit::requests(|pdu| {
                if let Header::TaskManagementRequest(request) = &mut pdu.header {
                    request.opcode &= !IMMEDIATE;
                }
            })
        },
    ),
    plain(
        "an immediate command takes a CmdSN",
        "numbering.immediate.command",
        || {
            edit::requests(|pdu| {
                if let Header::ScsiCommand(command) = &mut pdu.header {
                    command.opcode &= !IMMEDIATE;
                }
            })
        },
    ),
    plain(
        "one immediate request at a time",
        "numbering.immediate.two-at-once",
        || {
            let mut managed = false;
            edit::answer(move |pdu, lane| {
                let rejected = managed && matches!(pdu.header, Header::NopOut(_));
                managed = matches!(pdu.header, Header::TaskManagementRequest(_));
                rejected.then(|| vec![edit::reject(pdu, 6, lane)])
            })
        },
    ),
    plain(
        "nothing is taken while the window is full",
        "numbering.immediate.full-window",
        || reject_pings(1),
    ),
    plain(
        "immediate requests have to be in the window",
        "numbering.immediate.beyond-window",
        || reject_pings(1),
    ),
    plain(
        "answers go to whoever spoke last",
        "numbering.allegiance",
        swap_connections,
    ),
];

/// The status of a command that was sent twice comes twice.
fn answer_twice() -> Saboteur {
    let (mut once, mut twice) = (BTreeSet::new(), BTreeSet::new());
    Box::new(move |seen, _| match seen {
        Seen::Request(pdu) if is_command(pdu, 0) => {
            let tag = word(pdu, TAG);
            if !once.insert(tag) {
                twice.insert(tag);
            }
            Act::Pass
        }
        Seen::Response(pdu) if is_status(pdu) && twice.remove(&word(pdu, TAG)) => {
            Act::Replace(vec![pdu.clone(), pdu.clone()])
        }
        _ => Act::Pass,
    })
}

/// An INQUIRY under the tag of a WRITE is carried out under another one, and its answer renamed.
fn share_tags() -> Saboteur {
    const ALIAS: u32 = 0x7777_7777;
    let mut writing = None;
    Box::new(move |seen, _| match seen {
        Seen::Request(pdu) => {
            if matches!(&pdu.header, Header::ScsiCommand(c) if c.flags & WRITE != 0) {
                writing = Some(word(pdu, TAG));
            }
            if is_command(pdu, 0x12) && writing == Some(word(pdu, TAG)) {
                let mut pdu = pdu.clone();
                set(&mut pdu, TAG, ALIAS);
                return Act::Replace(vec![pdu]);
            }
            Act::Pass
        }
        Seen::Response(pdu) if word(pdu, TAG) == ALIAS => {
            let mut pdu = pdu.clone();
            set(&mut pdu, TAG, writing.unwrap());
            Act::Replace(vec![pdu])
        }
        _ => Act::Pass,
    })
}

/// Rejects a ping so far beyond the window.
fn reject_pings(beyond: u32) -> Saboteur {
    edit::answer(move |pdu, lane| {
        let is_ping =
            matches!(&pdu.header, Header::NopOut(nop) if nop.opcode == NopOut::OPCODE | IMMEDIATE);
        let too_far = word(pdu, CMD_SN) == lane.numbers.2.wrapping_add(beyond);
        (is_ping && too_far).then(|| vec![edit::reject(pdu, 6, lane)])
    })
}

/// What the second session is told goes to the first one.
fn swap_connections() -> Saboteur {
    let mut kept: Vec<Pdu> = Vec::new();
    let (mut second_began, mut both) = (false, false);
    Box::new(move |seen, lane| match seen {
        Seen::Request(_) => {
            second_began |= lane.number == 2;
            both |= second_began && lane.number == 1;
            Act::Pass
        }
        Seen::Response(pdu) if both && is_status(pdu) => {
            if lane.number == 2 {
                kept.push(pdu.clone());
                return Act::Replace(Vec::new());
            }
            let mut all = std::mem::take(&mut kept);
            all.push(pdu.clone());
            Act::Replace(all)
        }
        _ => Act::Pass,
    })
}
