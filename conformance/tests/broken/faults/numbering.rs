//! Targets that keep the command window wrongly.

use std::collections::{BTreeMap, BTreeSet};

use iscsi_proto::wire::bhs::{FINAL, Reject, STATUS, ScsiResponse, WRITE};
use iscsi_proto::wire::{Header, Pdu};

use crate::broken::{Act, Fault, Kind, Lane, Saboteur, Seen, edit};

pub(crate) const FAULTS: &[Fault] = &[
    plain(
        "the login uses a CmdSN up",
        "numbering.window.begin",
        || {
            edit::responses(|pdu| {
                if matches!(pdu.header, Header::LoginResponse(_)) {
                    add(pdu, EXP_CMD_SN, 1);
                }
            })
        },
    ),
    plain(
        "numbering begins at 1 whatever the login says",
        "numbering.window.begin",
        begin_at_one,
    ),
    plain(
        "pings are answered with a window that reaches back",
        "numbering.window.sane",
        || {
            edit::responses(|pdu| {
                if matches!(pdu.header, Header::NopIn(_)) {
                    set(pdu, MAX_CMD_SN, word(pdu, EXP_CMD_SN).wrapping_sub(2));
                }
            })
        },
    ),
    plain(
        "the last place of the window is not served",
        "numbering.window.whole",
        || {
            let mut last = None;
            Box::new(move |seen, lane| match seen {
                Seen::Request(pdu) if is_command(pdu, 0) => {
                    let last = *last.get_or_insert(lane.numbers.2);
                    if word(pdu, CMD_SN) == last {
                        Act::Replace(Vec::new())
                    } else {
                        Act::Pass
                    }
                }
                _ => Act::Pass,
            })
        },
    ),
    plain("MaxCmdSN never moves", "numbering.window.whole", || {
        let mut first = None;
        edit::responses(move |pdu| {
            let max = *first.get_or_insert_with(|| word(pdu, MAX_CMD_SN));
            set(pdu, MAX_CMD_SN, max);
        })
    }),
    plain(
        "R2Ts come with a window that reaches back",
        "numbering.window.r2t",
        || {
            edit::responses(|pdu| {
                if matches!(pdu.header, Header::ReadyToTransfer(_)) {
                    set(pdu, MAX_CMD_SN, word(pdu, EXP_CMD_SN).wrapping_sub(2));
                }
            })
        },
    ),
    plain(
        "data that was asked for takes a CmdSN",
        "numbering.window.r2t",
        || {
            let mut writes = BTreeSet::new();
            Box::new(move |seen, _| match seen {
                Seen::Request(pdu) => {
                    if matches!(&pdu.header, Header::ScsiCommand(c) if c.flags & WRITE != 0) {
                        writes.insert(word(pdu, TAG));
                    }
                    Act::Pass
                }
                Seen::Response(pdu) if writes.contains(&word(pdu, TAG)) && is_status(pdu) => {
                    let mut pdu = pdu.clone();
                    add(&mut pdu, EXP_CMD_SN, 1);
                    Act::Replace(vec![pdu])
                }
                _ => Act::Pass,
            })
        },
    ),
    plain(
        "the status comes before the acknowledgment",
        "numbering.exp-cmdsn.acknowledges",
        || {
            edit::responses(|pdu| {
                if matches!(pdu.header, Header::ScsiResponse(_)) {
                    add(pdu, EXP_CMD_SN, u32::MAX);
                }
            })
        },
    ),
    plain(
        "a command acknowledges the next one too",
        "numbering.exp-cmdsn.acknowledges",
        || {
            edit::responses(|pdu| {
                if matches!(pdu.header, Header::ScsiResponse(_)) {
                    add(pdu, EXP_CMD_SN, 1);
                }
            })
        },
    ),
    plain(
        "Data-In with status does not acknowledge",
        "numbering.exp-cmdsn.data-in",
        || {
            edit::responses(|pdu| {
                if matches!(&pdu.header, Header::DataIn(data) if data.flags & STATUS != 0) {
                    add(pdu, EXP_CMD_SN, u32::MAX);
                }
            })
        },
    ),
    plain(
        "acknowledges beyond a gap",
        "numbering.exp-cmdsn.gap",
        acknowledge_the_highest,
    ),
    plain(
        "carries commands out from beyond the window",
        "numbering.cmdsn.above-window",
        || take_strays(|ahead| (1 << 9..1 << 31).contains(&ahead)),
    ),
    plain(
        "carries old numbers out",
        "numbering.cmdsn.below-window",
        || take_strays(|ahead| ahead >= 1 << 31),
    ),
    plain(
        "rejects old numbers",
        "numbering.cmdsn.below-window",
        reject_strays,
    ),
    plain(
        "compares 16 bits of the number",
        "numbering.cmdsn.far-below-window",
        || take_strays(|ahead| (1 << 31..u32::MAX - (1 << 16)).contains(&ahead)),
    ),
    plain(
        "a duplicate is carried out as the next command",
        "numbering.cmdsn.duplicate",
        renumber_doubles,
    ),
    plain(
        "a command does not wait for its predecessor",
        "numbering.cmdsn.gap",
        || {
            edit::answer(|pdu, lane| {
                let early =
                    is_command(pdu, 0) && word(pdu, CMD_SN) == lane.numbers.1.wrapping_add(1);
                early.then(|| vec![good(pdu, lane)])
            })
        },
    ),
    plain(
        "commands run in the order in which they come",
        "numbering.cmdsn.order",
        || {
            let mut next = None;
            Box::new(move |seen, lane| match seen {
                Seen::Request(pdu) if matches!(&pdu.header, Header::ScsiCommand(c) if c.flags & 7 == 2) =>
                {
                    let number = next.unwrap_or(lane.numbers.1);
                    next = Some(number.wrapping_add(1));
                    let mut pdu = pdu.clone();
                    set(&mut pdu, CMD_SN, number);
                    Act::Replace(vec![pdu])
                }
                _ => Act::Pass,
            })
        },
    ),
    plain(
        "0 counts as less than ffffffff",
        "numbering.cmdsn.wrap",
        || {
            let mut high = BTreeMap::new();
            Box::new(move |seen, lane| match seen {
                Seen::Request(pdu) if is_command(pdu, 0) => {
                    let number = word(pdu, CMD_SN);
                    let highest = high.entry(lane.number).or_insert(number);
                    if number < *highest {
                        return Act::Replace(Vec::new());
                    }
                    *highest = number;
                    Act::Pass
                }
                _ => Act::Pass,
            })
        },
    ),
    plain("ExpCmdSN stays at ffffffff", "numbering.cmdsn.wrap", || {
        let mut wrapping = BTreeSet::new();
        Box::new(move |seen, lane| match seen {
            Seen::Response(pdu) => {
                let number = word(pdu, EXP_CMD_SN);
                if number > 1 << 31 {
                    wrapping.insert(lane.number);
                } else if wrapping.contains(&lane.number) {
                    let mut pdu = pdu.clone();
                    set(&mut pdu, EXP_CMD_SN, u32::MAX);
                    set(&mut pdu, MAX_CMD_SN, u32::MAX);
                    return Act::Replace(vec![pdu]);
                }
                Act::Pass
            }
            _ => Act::Pass,
        })
    }),
    plain(
        "0 does not wait for ffffffff",
        "numbering.cmdsn.wrap-in-window",
        || {
            edit::answer(|pdu, lane| {
                (is_command(pdu, 0) && word(pdu, CMD_SN) == 0).then(|| vec![good(pdu, lane)])
            })
        },
    ),
    plain(
        "a numbered NOP-Out is not acknowledged",
        "numbering.cmdsn.numbered-ping",
        || {
            edit::responses(|pdu| {
                if matches!(pdu.header, Header::NopIn(_)) {
                    add(pdu, EXP_CMD_SN, u32::MAX);
                }
            })
        },
    ),
];

/// Offsets of numbers in the header (RFC 7143 §11).
pub(super) const TAG: usize = 16;
pub(super) const CMD_SN: usize = 24;
pub(super) const STAT_SN: usize = 24;
pub(super) const EXP_CMD_SN: usize = 28;
pub(super) const MAX_CMD_SN: usize = 32;

/// A fault of the target that everybody may log in to.
pub(super) const fn plain(
    name: &'static str,
    trips: &'static str,
    saboteur: fn() -> Saboteur,
) -> Fault {
    Fault {
        name,
        trips,
        behind: Kind::Plain,
        saboteur,
    }
}

/// Four bytes of a header as a number.
pub(super) fn word(pdu: &Pdu, at: usize) -> u32 {
    u32::from_be_bytes(pdu.header.as_bytes()[at..at + 4].try_into().unwrap())
}

/// Rewrites four bytes of a header.
pub(super) fn set(pdu: &mut Pdu, at: usize, value: u32) {
    let mut bytes: [u8; 48] = pdu.header.as_bytes().try_into().unwrap();
    bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
    pdu.header = Header::decode(&bytes);
}

pub(super) fn add(pdu: &mut Pdu, at: usize, value: u32) {
    set(pdu, at, word(pdu, at).wrapping_add(value));
}

/// True for a SCSI Command with this operation code that is not immediate.
pub(super) fn is_command(pdu: &Pdu, opcode: u8) -> bool {
    matches!(&pdu.header, Header::ScsiCommand(command) if command.cdb[0] == opcode)
        && !pdu.header.is_immediate()
}

pub(super) fn is_status(pdu: &Pdu) -> bool {
    match &pdu.header {
        Header::ScsiResponse(_) => true,
        Header::DataIn(data) => data.flags & STATUS != 0,
        _ => false,
    }
}

/// GOOD for a command that the target does not see.
pub(super) fn good(command: &Pdu, lane: &Lane) -> Pdu {
    Pdu::bare(ScsiResponse {
        flags: FINAL,
        initiator_task_tag: word(command, TAG).into(),
        stat_sn: lane.numbers.0.wrapping_add(1).into(),
        exp_cmd_sn: lane.numbers.1.into(),
        max_cmd_sn: lane.numbers.2.into(),
        ..ScsiResponse::default()
    })
}

fn begin_at_one() -> Saboteur {
    Box::new(|seen, _| match seen {
        Seen::Response(pdu) if word(pdu, EXP_CMD_SN) == 123 => {
            let mut pdu = pdu.clone();
            set(&mut pdu, EXP_CMD_SN, 1);
            Act::Replace(vec![pdu])
        }
        _ => Act::Pass,
    })
}

fn acknowledge_the_highest() -> Saboteur {
    let mut highest = BTreeMap::new();
    Box::new(move |seen, lane| match seen {
        Seen::Request(pdu) if is_command(pdu, 0) => {
            highest.insert(lane.number, word(pdu, CMD_SN).wrapping_add(1));
            Act::Pass
        }
        Seen::Response(pdu) if matches!(pdu.header, Header::NopIn(_)) => {
            let mut pdu = pdu.clone();
            set(&mut pdu, EXP_CMD_SN, highest[&lane.number]);
            Act::Replace(vec![pdu])
        }
        _ => Act::Pass,
    })
}

/// Gives commands that are so far ahead of ExpCmdSN, or behind it, the number of the next one.
fn take_strays(which: fn(u32) -> bool) -> Saboteur {
    Box::new(move |seen, lane| match seen {
        Seen::Request(pdu) if is_command(pdu, 0) => {
            let expected = lane.numbers.1;
            if !which(word(pdu, CMD_SN).wrapping_sub(expected)) {
                return Act::Pass;
            }
            let mut pdu = pdu.clone();
            set(&mut pdu, CMD_SN, expected);
            Act::Replace(vec![pdu])
        }
        _ => Act::Pass,
    })
}

fn reject_strays() -> Saboteur {
    edit::answer(|pdu, lane| {
        let ahead = word(pdu, CMD_SN).wrapping_sub(lane.numbers.1);
        (is_command(pdu, 0) && ahead >= 1 << 31).then(|| {
            let header = Reject {
                flags: FINAL,
                reason: 4,
                initiator_task_tag: u32::MAX.into(),
                stat_sn: lane.numbers.0.wrapping_add(1).into(),
                exp_cmd_sn: lane.numbers.1.into(),
                max_cmd_sn: lane.numbers.2.into(),
                ..Reject::default()
            };
            vec![Pdu::new(header, pdu.header.as_bytes().to_vec().into())]
        })
    })
}

fn renumber_doubles() -> Saboteur {
    let mut seen_numbers = BTreeSet::new();
    edit::requests(move |pdu| {
        if is_command(pdu, 0) && !seen_numbers.insert(word(pdu, CMD_SN)) {
            add(pdu, CMD_SN, 1);
        }
    })
}
