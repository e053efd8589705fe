//! Targets that manage the tasks of a unit wrongly.

use bytes::Bytes;
use iscsi_proto::wire::Header;
use iscsi_proto::wire::bhs::FINAL;

use super::tasks::{complete, on_request, patient, pretend, rename};
use crate::broken::{Act, Fault, Kind, Saboteur, Seen, edit};

pub(crate) const FAULTS: &[Fault] = &[
    Fault {
        name: "ABORT TASK SET is missing",
        trips: "task-sets.abort.complete",
        behind: Kind::Plain,
        saboteur: || rename(0, 5),
    },
    Fault {
        name: "ABORT TASK SET does not wait for data",
        trips: "task-sets.abort.waits-for-data",
        behind: Kind::Plain,
        saboteur: || pretend(2),
    },
    Fault {
        name: "ABORT TASK SET does not wait for commands on their way",
        trips: "task-sets.abort.waits-for-commands",
        behind: Kind::Plain,
        saboteur: || pretend(2),
    },
    Fault {
        name: "a command that came late is answered although ABORT TASK SET covers it",
        trips: "task-sets.abort.waits-for-commands",
        behind: Kind::Plain,
        saboteur: || patient(answer_late_commands()),
    },
    Fault {
        name: "the tasks of the set are answered all the same",
        trips: "task-sets.abort.last-word",
        behind: Kind::Plain,
        saboteur: || patient(pretend(2)),
    },
    Fault {
        name: "ABORT TASK SET takes later commands along",
        trips: "task-sets.abort.later",
        behind: Kind::Plain,
        saboteur: abort_later,
    },
    Fault {
        name: "ABORT TASK SET clears the task set of everybody",
        trips: "task-sets.abort.other-session",
        behind: Kind::Plain,
        saboteur: || replace(2, 4),
    },
    Fault {
        name: "CLEAR TASK SET is missing",
        trips: "task-sets.clear.complete",
        behind: Kind::Plain,
        saboteur: || rename(0, 5),
    },
    Fault {
        name: "CLEAR TASK SET does not wait for data",
        trips: "task-sets.clear.waits-for-data",
        behind: Kind::Plain,
        saboteur: || pretend(4),
    },
    Fault {
        name: "CLEAR TASK SET leaves the tasks of others alone",
        trips: "task-sets.clear.other-session",
        behind: Kind::Plain,
        saboteur: || patient(replace(4, 2)),
    },
    Fault {
        name: "who lost commands to CLEAR TASK SET is not told",
        trips: "task-sets.clear.attention",
        behind: Kind::Plain,
        saboteur: || hide_attention(0x2f),
    },
    Fault {
        name: "LOGICAL UNIT RESET is missing",
        trips: "task-sets.unit-reset.complete",
        behind: Kind::Plain,
        saboteur: || rename(0, 5),
    },
    Fault {
        name: "LOGICAL UNIT RESET does not wait for data",
        trips: "task-sets.unit-reset.waits-for-data",
        behind: Kind::Plain,
        saboteur: || pretend(5),
    },
    Fault {
        name: "LOGICAL UNIT RESET says that it is complete and does nothing",
        trips: "task-sets.unit-reset.last-word",
        behind: Kind::Plain,
        saboteur: || patient(pretend(5)),
    },
    Fault {
        name: "LOGICAL UNIT RESET leaves the tasks of others alone",
        trips: "task-sets.unit-reset.other-session",
        behind: Kind::Plain,
        saboteur: || patient(replace(5, 2)),
    },
    Fault {
        name: "nobody is told of the reset",
        trips: "task-sets.unit-reset.attention",
        behind: Kind::Plain,
        saboteur: || hide_attention(0x29),
    },
    Fault {
        name: "LOGICAL UNIT RESET leaves the reservation",
        trips: "task-sets.unit-reset.reservation",
        behind: Kind::Plain,
        saboteur: || replace(5, 2),
    },
    Fault {
        name: "TARGET WARM RESET says that it is complete and does nothing",
        trips: "task-sets.warm-reset",
        behind: Kind::Plain,
        saboteur: || patient(pretend(6)),
    },
    Fault {
        name: "TARGET WARM RESET finds no task",
        trips: "task-sets.warm-reset",
        behind: Kind::Plain,
        saboteur: || rename(0, 1),
    },
    Fault {
        name: "TARGET COLD RESET closes nothing",
        trips: "task-sets.cold-reset",
        behind: Kind::Plain,
        saboteur: || pretend(7),
    },
    Fault {
        name: "TARGET COLD RESET closes the own session alone",
        trips: "task-sets.cold-reset",
        behind: Kind::Plain,
        saboteur: close_own,
    },
];

/// Does another function than the one that was asked for.
fn replace(from: u8, to: u8) -> Saboteur {
    edit::requests(move |pdu| {
        on_request(pdu, |request| {
            if request.function == FINAL | from {
                request.function = FINAL | to;
            }
        });
    })
}

/// Says GOOD where a Unit Attention of this code is due.
fn hide_attention(asc: u8) -> Saboteur {
    edit::responses(move |pdu| {
        let Header::ScsiResponse(answer) = &mut pdu.header else {
            return;
        };
        // Fixed format behind two bytes of length: key at byte 2, code at byte 12.
        let (key, code) = (pdu.data.get(2 + 2), pdu.data.get(2 + 12));
        if key.is_some_and(|key| key & 0x0f == 6) && code == Some(&asc) {
            answer.status = 0;
            pdu.data = Bytes::new();
        }
    })
}

/// ABORT TASK SET waits as it should, but not for an end of what it covers.
fn answer_late_commands() -> Saboteur {
    let mut waiting = None;
    Box::new(move |seen, lane| match seen {
        Seen::Request(pdu) => match &pdu.header {
            Header::TaskManagementRequest(request) => {
                waiting = Some(*request);
                Act::Replace(Vec::new())
            }
            Header::ScsiCommand(_) => {
                if let Some(request) = waiting.take() {
                    let answer = complete(&request, lane);
                    lane.to_initiator(answer);
                }
                Act::Pass
            }
            _ => Act::Pass,
        },
        _ => Act::Pass,
    })
}

fn abort_later() -> Saboteur {
    let mut aborting = false;
    edit::swallow_requests(move |pdu| match &pdu.header {
        Header::TaskManagementRequest(_) => {
            aborting = true;
            false
        }
        Header::ScsiCommand(_) => aborting,
        _ => false,
    })
}

fn close_own() -> Saboteur {
    Box::new(|seen, lane| match seen {
        Seen::Request(pdu) => match &pdu.header {
            Header::TaskManagementRequest(request) => {
                let answer = complete(request, lane);
                lane.to_initiator(answer);
                lane.hang_up();
                Act::Replace(Vec::new())
            }
            _ => Act::Pass,
        },
        _ => Act::Pass,
    })
}
