//! Targets that fall over, and everybody with them.

use iscsi_proto::wire::bhs::{READ, WRITE};
use iscsi_proto::wire::{Header, Pdu};

use crate::broken::{Act, Fault, Kind, Saboteur, Seen};

pub(crate) const FAULTS: &[Fault] = &[
    Fault {
        name: "a segment that is too long is the end of the target",
        trips: "bystanders.long-segment",
        behind: Kind::Plain,
        saboteur: fall_when_torn,
    },
    Fault {
        name: "half a header is the end of the target",
        trips: "bystanders.cut-header",
        behind: Kind::Plain,
        saboteur: fall_when_torn,
    },
    Fault {
        name: "half a data segment is the end of the target",
        trips: "bystanders.cut-data",
        behind: Kind::Plain,
        saboteur: fall_when_torn,
    },
    Fault {
        name: "noise is the end of the target",
        trips: "bystanders.noise",
        behind: Kind::Plain,
        saboteur: fall_when_torn,
    },
    Fault {
        name: "a lost WRITE keeps everybody out",
        trips: "bystanders.running-task",
        behind: Kind::Plain,
        saboteur: || fall_behind(|pdu| has(pdu, WRITE)),
    },
    Fault {
        name: "a command without a direction is the end of the target",
        trips: "bystanders.odd-commands",
        behind: Kind::Plain,
        saboteur: || {
            fall_behind(|pdu| {
                matches!(pdu.header, Header::ScsiCommand(command)
                    if command.flags & (READ | WRITE) == 0
                        && command.expected_data_transfer_length.get() > 0)
            })
        },
    },
];

fn has(pdu: &Pdu, flag: u8) -> bool {
    matches!(pdu.header, Header::ScsiCommand(command) if command.flags & flag != 0)
}

/// Hangs up on everybody as soon as a connection ended in the middle of a PDU.
fn fall_when_torn() -> Saboteur {
    Box::new(|seen, lane| {
        if lane.torn() > 0 && matches!(seen, Seen::Request(_)) {
            lane.hang_up();
            return Act::Replace(Vec::new());
        }
        Act::Pass
    })
}

/// Hangs up on everybody from another connection's such PDU on.
fn fall_behind(which: fn(&Pdu) -> bool) -> Saboteur {
    let mut fallen = None;
    Box::new(move |seen, lane| {
        let Seen::Request(pdu) = seen else {
            return Act::Pass;
        };
        if fallen.is_some_and(|number| number != lane.number) {
            lane.hang_up();
            return Act::Replace(Vec::new());
        }
        if which(pdu) {
            fallen = Some(lane.number);
        }
        Act::Pass
    })
}
