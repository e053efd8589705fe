//! Targets that manage single tasks wrongly.

use std::collections::BTreeSet;

use bytes::Bytes;
use iscsi_proto::wire::bhs::{
    FINAL, ScsiCommand, TaskManagementRequest, TaskManagementResponse, WRITE,
};
use iscsi_proto::wire::{Header, Pdu};

use crate::broken::{Act, Fault, Kind, Lane, Saboteur, Seen, edit};

pub(crate) const FAULTS: &[Fault] = &[
    Fault {
        name: "a task that runs does not exist",
        trips: "tasks.abort.complete",
        behind: Kind::Plain,
        saboteur: || rename(0, 1),
    },
    Fault {
        name: "an aborted task is answered all the same",
        trips: "tasks.abort.last-word",
        behind: Kind::Plain,
        saboteur: || patient(pretend(1)),
    },
    Fault {
        name: "the data of an aborted task is written",
        trips: "tasks.abort.data",
        behind: Kind::Plain,
        saboteur: || patient(pretend(1)),
    },
    Fault {
        name: "ABORT TASK takes every task along",
        trips: "tasks.abort.others",
        behind: Kind::Plain,
        saboteur: abort_all,
    },
    Fault {
        name: "the tag of an aborted task stays taken",
        trips: "tasks.abort.tag-free",
        behind: Kind::Plain,
        saboteur: keep_tags,
    },
    Fault {
        name: "ABORT TASK does not look at the number of an unknown task",
        trips: "tasks.abort.unseen",
        behind: Kind::Plain,
        saboteur: || rename(0, 1),
    },
    Fault {
        name: "the number of a command that was aborted before it came is still awaited",
        trips: "tasks.abort.unseen-counts",
        behind: Kind::Plain,
        saboteur: || pretend(1),
    },
    Fault {
        name: "the abort of a task far away is complete",
        trips: "tasks.abort.outside-window",
        behind: Kind::Plain,
        saboteur: || rename(1, 0),
    },
    Fault {
        name: "the abort of a finished task is complete",
        trips: "tasks.abort.finished",
        behind: Kind::Plain,
        saboteur: || rename(1, 0),
    },
    Fault {
        name: "task management is aborted like any task",
        trips: "tasks.abort.management",
        behind: Kind::Plain,
        saboteur: || rename(255, 0),
    },
    Fault {
        name: "ABORT TASK does not look at the LUN",
        trips: "tasks.abort.other-unit",
        behind: Kind::Plain,
        saboteur: || edit::requests(|pdu| on_request(pdu, |request| request.lun = 0.into())),
    },
    Fault {
        name: "functions that nobody knows are complete",
        trips: "tasks.function.unassigned",
        behind: Kind::Plain,
        saboteur: || rename(5, 0),
    },
    Fault {
        name: "a response of its own making",
        trips: "tasks.function.answered",
        behind: Kind::Plain,
        saboteur: || rename(0, 8),
    },
    Fault {
        name: "TASK REASSIGN is a function like any other that is not there",
        trips: "tasks.reassign",
        behind: Kind::Plain,
        saboteur: || rename(4, 5),
    },
    Fault {
        name: "the reset of a unit that does not exist is complete",
        trips: "tasks.unit.absent",
        behind: Kind::Plain,
        saboteur: || rename(2, 0),
    },
    Fault {
        name: "byte 1 of the response lacks its F bit",
        trips: "tasks.response.form",
        behind: Kind::Plain,
        saboteur: || edit::responses(|pdu| on_response(pdu, |response| response.flags = 0)),
    },
    Fault {
        name: "the response has the tag of the task instead of its own",
        trips: "tasks.response.form",
        behind: Kind::Plain,
        saboteur: || {
            edit::responses(|pdu| {
                on_response(pdu, |response| {
                    response.initiator_task_tag = u32::MAX.into();
                });
            })
        },
    },
    Fault {
        name: "the response has a data segment",
        trips: "tasks.response.form",
        behind: Kind::Plain,
        saboteur: || {
            edit::responses(|pdu| {
                if matches!(pdu.header, Header::TaskManagementResponse(_)) {
                    pdu.data = Bytes::from_static(&[0; 4]);
                }
            })
        },
    },
    Fault {
        name: "task management responses are not numbered",
        trips: "tasks.response.stat-sn",
        behind: Kind::Plain,
        saboteur: || {
            edit::responses(|pdu| on_response(pdu, |response| response.stat_sn = 0.into()))
        },
    },
    Fault {
        name: "an immediate request uses its number up",
        trips: "tasks.immediate.number",
        behind: Kind::Plain,
        saboteur: || edit::responses(|pdu| on_response(pdu, |response| shift(response, 1))),
    },
    Fault {
        name: "one immediate request at a time",
        trips: "tasks.immediate.room",
        behind: Kind::Plain,
        saboteur: one_at_a_time,
    },
    Fault {
        name: "a numbered request is not acknowledged",
        trips: "tasks.numbered",
        behind: Kind::Plain,
        saboteur: || edit::responses(|pdu| on_response(pdu, |response| shift(response, u32::MAX))),
    },
];

/// Says one response where another is due.
pub(super) fn rename(from: u8, to: u8) -> Saboteur {
    edit::responses(move |pdu| {
        on_response(pdu, |response| {
            if response.response == from {
                response.response = to;
            }
        });
    })
}

/// Says that a function is complete, and does nothing.
pub(super) fn pretend(function: u8) -> Saboteur {
    edit::answer(move |pdu, lane| match &pdu.header {
        Header::TaskManagementRequest(request) if request.function & !FINAL == function => {
            Some(vec![complete(request, lane)])
        }
        _ => None,
    })
}

/// Lets no ping pass while a command is about to be answered, so that what is said about it comes before.
pub(super) fn patient(mut inner: Saboteur) -> Saboteur {
    let mut running: BTreeSet<(usize, u32)> = BTreeSet::new();
    let mut pings: Vec<(usize, Pdu)> = Vec::new();
    Box::new(move |seen, lane| {
        let number = lane.number;
        match seen {
            Seen::Request(pdu) => match &pdu.header {
                Header::NopOut(_) if running.iter().any(|(of, _)| *of == number) => {
                    pings.push((number, pdu.clone()));
                    return Act::Replace(Vec::new());
                }
                Header::DataOut(data) if data.flags & FINAL != 0 => {
                    running.insert((number, data.initiator_task_tag.get()));
                }
                Header::ScsiCommand(command) if command.flags & WRITE == 0 => {
                    running.insert((number, command.initiator_task_tag.get()));
                }
                _ => {}
            },
            Seen::Response(pdu) => {
                running.remove(&(number, pdu.header.common().initiator_task_tag.get()));
                if running.iter().all(|(of, _)| *of != number) {
                    let due = pings.extract_if(.., |(of, _)| *of == number);
                    due.for_each(|(_, ping)| lane.to_target(ping));
                }
            }
            Seen::TargetClosed => {}
        }
        inner(seen, lane)
    })
}

/// Function complete.
pub(super) fn complete(request: &TaskManagementRequest, lane: &Lane) -> Pdu {
    Pdu::bare(TaskManagementResponse {
        flags: FINAL,
        initiator_task_tag: request.initiator_task_tag,
        stat_sn: lane.numbers.0.wrapping_add(1).into(),
        exp_cmd_sn: lane.numbers.1.into(),
        max_cmd_sn: lane.numbers.2.into(),
        ..TaskManagementResponse::default()
    })
}

pub(super) fn on_response(pdu: &mut Pdu, edit: impl FnOnce(&mut TaskManagementResponse)) {
    if let Header::TaskManagementResponse(response) = &mut pdu.header {
        edit(response);
    }
}

pub(super) fn on_request(pdu: &mut Pdu, edit: impl FnOnce(&mut TaskManagementRequest)) {
    if let Header::TaskManagementRequest(request) = &mut pdu.header {
        edit(request);
    }
}

fn shift(response: &mut TaskManagementResponse, by: u32) {
    response.exp_cmd_sn = response.exp_cmd_sn.get().wrapping_add(by).into();
}

/// Every command that came before goes with the one that is aborted.
fn abort_all() -> Saboteur {
    let mut commands: Vec<ScsiCommand> = Vec::new();
    Box::new(move |seen, lane| match seen {
        Seen::Request(Pdu {
            header: Header::ScsiCommand(command),
            ..
        }) => {
            commands.push(*command);
            Act::Pass
        }
        Seen::Request(Pdu {
            header: Header::TaskManagementRequest(request),
            ..
        }) => {
            for (own, command) in (OWN_TAGS..).zip(&commands) {
                lane.to_target(Pdu::bare(TaskManagementRequest {
                    initiator_task_tag: own.into(),
                    referenced_task_tag: command.initiator_task_tag,
                    ref_cmd_sn: command.cmd_sn,
                    ..*request
                }));
            }
            Act::Replace(vec![Pdu::bare(*request)])
        }
        Seen::Response(pdu) => match &pdu.header {
            Header::TaskManagementResponse(response)
                if response.initiator_task_tag.get() >= OWN_TAGS =>
            {
                Act::Replace(Vec::new())
            }
            // The one that was asked about was among them.
            Header::TaskManagementResponse(response) => {
                Act::Replace(vec![Pdu::bare(TaskManagementResponse {
                    response: 0,
                    ..*response
                })])
            }
            _ => Act::Pass,
        },
        _ => Act::Pass,
    })
}

fn keep_tags() -> Saboteur {
    let mut taken = BTreeSet::new();
    edit::answer(move |pdu, lane| match &pdu.header {
        Header::TaskManagementRequest(request) => {
            taken.insert(request.referenced_task_tag.get());
            None
        }
        Header::ScsiCommand(command) if taken.contains(&command.initiator_task_tag.get()) => {
            Some(vec![edit::reject(pdu, 0x07, lane)])
        }
        _ => None,
    })
}

/// While a task management request waits, no other immediate request is taken.
fn one_at_a_time() -> Saboteur {
    let mut waits = false;
    edit::answer(move |pdu, lane| match &pdu.header {
        Header::TaskManagementRequest(_) => {
            waits = true;
            None
        }
        Header::ScsiCommand(_) if waits && pdu.header.is_immediate() => {
            Some(vec![edit::reject(pdu, 0x06, lane)])
        }
        _ => None,
    })
}

/// Tags that the suite never comes to.
const OWN_TAGS: u32 = 0x7000_0000;
