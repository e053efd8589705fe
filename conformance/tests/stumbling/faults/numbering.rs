//! Initiators that count wrongly.

use iscsi_proto::wire::bhs::{IMMEDIATE, RESERVED_TAG};
use iscsi_proto::wire::{Header, Pdu};

use crate::stumbling::{Act, Fault, Saboteur, Seen, edit};

pub(crate) const FAULTS: &[Fault] = &[
    Fault {
        name: "the login counts as a command",
        trips: "numbering.first-command",
        saboteur: || cmd_sns(|_, number| number.wrapping_add(1)),
    },
    Fault {
        name: "the third command skips a number",
        trips: "numbering.steps",
        saboteur: || {
            let mut commands = 0;
            cmd_sns(move |pdu, number| {
                commands += u32::from(is_numbered(pdu));
                number.wrapping_add(u32::from(commands > 2))
            })
        },
    },
    Fault {
        name: "the second command has the number of the first",
        trips: "numbering.steps",
        saboteur: || {
            let mut commands = 0;
            cmd_sns(move |pdu, number| {
                commands += u32::from(is_numbered(pdu));
                number.wrapping_sub(u32::from(commands > 1))
            })
        },
    },
    Fault {
        name: "immediate requests take a number",
        trips: "numbering.immediate",
        saboteur: || {
            let mut taken = 0;
            cmd_sns(move |pdu, number| {
                let numbered = number.wrapping_add(taken);
                taken += u32::from(!is_numbered(pdu));
                numbered
            })
        },
    },
    Fault {
        name: "immediate requests have CmdSN 0",
        trips: "numbering.immediate",
        saboteur: || cmd_sns(|pdu, number| if is_numbered(pdu) { number } else { 0 }),
    },
    Fault {
        name: "ExpStatSN is ahead of what was sent",
        trips: "numbering.exp-stat-sn",
        saboteur: || exp_stat_sns(|number| number.wrapping_add(7)),
    },
    Fault {
        name: "ExpStatSN goes back to zero after a while",
        trips: "numbering.exp-stat-sn",
        saboteur: || {
            let mut requests = 0;
            exp_stat_sns(move |number| {
                requests += 1;
                if requests > 4 { 0 } else { number }
            })
        },
    },
    Fault {
        name: "ExpStatSN is one behind for ever",
        trips: "numbering.exp-stat-sn.keeps-up",
        saboteur: || exp_stat_sns(|number| number.wrapping_sub(1)),
    },
    Fault {
        name: "ExpStatSN does not wrap",
        trips: "numbering.stat-sn.wraps",
        saboteur: || exp_stat_sns(|number| if number < 0x1000 { u32::MAX } else { number }),
    },
    Fault {
        name: "a closed window does not stop commands",
        trips: "numbering.window.closed",
        saboteur: || max_cmd_sns(|number| number.wrapping_add(8)),
    },
    Fault {
        name: "an open window is not noticed",
        trips: "numbering.window.closed",
        saboteur: || edit::swallow_responses(|pdu| matches!(pdu.header, Header::NopIn(_))),
    },
    Fault {
        name: "a window of one is taken for one of eight",
        trips: "numbering.window.one",
        saboteur: || max_cmd_sns(|number| number.wrapping_add(8)),
    },
    Fault {
        name: "the last MaxCmdSN counts, however old",
        trips: "numbering.window.older",
        saboteur: || held_up_by_smaller_max(),
    },
    Fault {
        name: "absurd numbers stop commands",
        trips: "numbering.window.absurd",
        saboteur: || held_up_by_smaller_max(),
    },
    Fault {
        name: "a gap in StatSN is not noticed",
        trips: "numbering.stat-sn.gap",
        saboteur: gap_hidden,
    },
    Fault {
        name: "every NOP-In advances StatSN",
        trips: "numbering.stat-sn.nop",
        saboteur: || {
            let mut nops = 0;
            Box::new(move |seen, _| match seen {
                Seen::Response(pdu) => {
                    nops += u32::from(matches!(pdu.header, Header::NopIn(_)));
                    Act::Pass
                }
                Seen::Request(pdu) if !matches!(pdu.header, Header::LoginRequest(_)) => {
                    let mut pdu = pdu.clone();
                    add(&mut pdu, 28, nops);
                    Act::Replace(vec![pdu])
                }
                _ => Act::Pass,
            })
        },
    },
    Fault {
        name: "all commands have the same tag",
        trips: "numbering.tags",
        saboteur: || tags(|_| 7),
    },
    Fault {
        name: "commands have the reserved tag",
        trips: "numbering.tags",
        saboteur: || tags(|_| RESERVED_TAG),
    },
];

fn is_numbered(pdu: &Pdu) -> bool {
    pdu.header.common().opcode & IMMEDIATE == 0
        && matches!(
            pdu.header,
            Header::ScsiCommand(_) | Header::NopOut(_) | Header::TextRequest(_)
        )
}

/// Adds to a number in the header.
pub(crate) fn add(pdu: &mut Pdu, at: usize, more: u32) {
    change(pdu, at, |number| number.wrapping_add(more));
}

/// Changes a number in the header.
pub(crate) fn change(pdu: &mut Pdu, at: usize, edit: impl FnOnce(u32) -> u32) {
    let mut bytes: [u8; 48] = pdu.header.as_bytes().try_into().unwrap();
    let number = u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    bytes[at..at + 4].copy_from_slice(&edit(number).to_be_bytes());
    pdu.header = Header::decode(&bytes);
}

fn cmd_sns(mut edit: impl FnMut(&Pdu, u32) -> u32 + Send + 'static) -> Saboteur {
    edit::requests(move |pdu| {
        if matches!(
            pdu.header,
            Header::ScsiCommand(_)
                | Header::NopOut(_)
                | Header::TextRequest(_)
                | Header::LogoutRequest(_)
                | Header::TaskManagementRequest(_)
        ) {
            let seen = pdu.clone();
            change(pdu, 24, |number| edit(&seen, number));
        }
    })
}

pub(crate) fn exp_stat_sns(mut edit: impl FnMut(u32) -> u32 + Send + 'static) -> Saboteur {
    edit::requests(move |pdu| {
        if !matches!(pdu.header, Header::LoginRequest(_)) {
            change(pdu, 28, &mut edit);
        }
    })
}

fn max_cmd_sns(mut edit: impl FnMut(u32) -> u32 + Send + 'static) -> Saboteur {
    edit::responses(move |pdu| change(pdu, 32, &mut edit))
}

/// Commands stay behind a MaxCmdSN that is smaller than the one before, until a larger one comes.
fn held_up_by_smaller_max() -> Saboteur {
    let mut last = 0;
    let mut stopped = false;
    let mut held = Vec::new();
    Box::new(move |seen, lane| match seen {
        Seen::Response(pdu) => {
            let mut max = 0;
            change(&mut pdu.clone(), 32, |number| {
                max = number;
                number
            });
            let smaller = max.wrapping_sub(last) >= 0x8000_0000;
            stopped = smaller || (stopped && max == last);
            last = max;
            if !stopped {
                for pdu in held.drain(..) {
                    lane.to_target(pdu);
                }
            }
            Act::Pass
        }
        Seen::Request(pdu) if stopped => {
            held.push(pdu.clone());
            Act::Replace(Vec::new())
        }
        _ => Act::Pass,
    })
}

/// What the initiator sees has no gap; what it acknowledges covers the gap.
fn gap_hidden() -> Saboteur {
    let mut last: Option<u32> = None;
    let mut missing = 0;
    Box::new(move |seen, _| match seen {
        Seen::Response(pdu) => {
            if let Header::ScsiResponse(response) = &pdu.header {
                let number = response.stat_sn.get();
                if let Some(last) = last.replace(number) {
                    missing = missing.max(number.wrapping_sub(last).wrapping_sub(1));
                }
            }
            let mut pdu = pdu.clone();
            if !matches!(pdu.header, Header::LoginResponse(_)) {
                add(&mut pdu, 24, 0_u32.wrapping_sub(missing));
            }
            Act::Replace(vec![pdu])
        }
        Seen::Request(pdu) if !matches!(pdu.header, Header::LoginRequest(_)) => {
            let mut pdu = pdu.clone();
            add(&mut pdu, 28, missing);
            Act::Replace(vec![pdu])
        }
        _ => Act::Pass,
    })
}

/// The target sees other tags than the initiator has given; answers have its own again, in order.
fn tags(edit: fn(u32) -> u32) -> Saboteur {
    let mut given = std::collections::VecDeque::new();
    Box::new(move |seen, _| match seen {
        Seen::Request(pdu) if matches!(pdu.header, Header::ScsiCommand(_)) => {
            let mut pdu = pdu.clone();
            change(&mut pdu, 16, |tag| {
                given.push_back(tag);
                edit(tag)
            });
            Act::Replace(vec![pdu])
        }
        Seen::Response(pdu)
            if matches!(pdu.header, Header::ScsiResponse(_) | Header::DataIn(_)) =>
        {
            let mut pdu = pdu.clone();
            let over = !matches!(pdu.header, Header::DataIn(data) if data.flags & 1 == 0);
            let tag = given.front().copied().unwrap_or_default();
            if over {
                given.pop_front();
            }
            change(&mut pdu, 16, |_| tag);
            Act::Replace(vec![pdu])
        }
        _ => Act::Pass,
    })
}
