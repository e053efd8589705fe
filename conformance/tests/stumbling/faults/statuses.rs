//! Initiators that take what went wrong for good.

use std::collections::HashMap;

use iscsi_proto::wire::bhs::{DataIn, FINAL, READ, STATUS, ScsiCommand, ScsiResponse, WRITE};
use iscsi_proto::wire::{Header, Pdu};

use crate::stumbling::faults::numbering::change;
use crate::stumbling::{Act, Fault, Lane, Saboteur, Seen};

pub(crate) const FAULTS: &[Fault] = &[
    believing("BUSY is taken for GOOD", "status.busy"),
    believing("BUSY is taken for GOOD in writes", "status.busy.write"),
    believing("TASK SET FULL is taken for GOOD", "status.task-set-full"),
    believing("a Unit Attention is taken for GOOD", "status.attention"),
    believing(
        "a Unit Attention is taken for GOOD in writes",
        "status.attention.write",
    ),
    believing(
        "sense in descriptor format is not understood",
        "status.descriptor-sense",
    ),
    believing("the response code is not looked at", "status.failure"),
    Fault {
        name: "a read is over when the connection is",
        trips: "loss.read",
        saboteur: || over_when_closed(READ),
    },
    Fault {
        name: "half of the data is enough",
        trips: "loss.data-in",
        saboteur: || over_when_closed(READ),
    },
    Fault {
        name: "a write is done when it is sent",
        trips: "loss.write",
        saboteur: || over_when_closed(WRITE),
    },
    Fault {
        name: "a write is done when its data is asked for",
        trips: "loss.data-out",
        saboteur: || over_when_closed(WRITE),
    },
];

const fn believing(name: &'static str, trips: &'static str) -> Fault {
    Fault {
        name,
        trips,
        saboteur: || {
            let mut commands: HashMap<u32, ScsiCommand> = HashMap::new();
            Box::new(move |seen, _| match seen {
                Seen::Request(pdu) => {
                    if let Header::ScsiCommand(command) = pdu.header {
                        commands.insert(command.initiator_task_tag.get(), command);
                    }
                    Act::Pass
                }
                Seen::Response(pdu) => {
                    let Header::ScsiResponse(response) = &pdu.header else {
                        return Act::Pass;
                    };
                    // Pages that the disk does not have are refused for good reasons.
                    let illegal = pdu.data.get(4).is_some_and(|key| key & 15 == 5);
                    let bad = response.status != 0 || response.response != 0;
                    match commands.get(&response.initiator_task_tag.get()) {
                        Some(command) if bad && !illegal => Act::Replace(good(command, response)),
                        _ => Act::Pass,
                    }
                }
                Seen::TargetClosed => Act::Pass,
            })
        },
    }
}

/// A command that went well, with the numbers of a response; what it reads are zeros.
fn good(command: &ScsiCommand, response: &ScsiResponse) -> Vec<Pdu> {
    let length = command.expected_data_transfer_length.get();
    if command.flags & 0x40 == 0 {
        return vec![Pdu::bare(ScsiResponse {
            flags: FINAL,
            response: 0,
            status: 0,
            residual_count: 0.into(),
            total_ahs_length: 0,
            ..*response
        })];
    }
    let mut pdus = Vec::new();
    let mut at = 0;
    while at < length {
        let end = length.min(at + 65_536);
        let over = end == length;
        let header = DataIn {
            flags: if over { FINAL | STATUS } else { 0 },
            initiator_task_tag: command.initiator_task_tag,
            target_transfer_tag: u32::MAX.into(),
            stat_sn: if over { response.stat_sn } else { 0.into() },
            exp_cmd_sn: response.exp_cmd_sn,
            max_cmd_sn: response.max_cmd_sn,
            data_sn: (at / 65_536).into(),
            buffer_offset: at.into(),
            ..DataIn::default()
        };
        pdus.push(Pdu::new(header, vec![0; (end - at) as usize].into()));
        at = end;
    }
    pdus
}

/// When the connection is closed, the initiator believes that the command under way went well, and is on its way out.
fn over_when_closed(direction: u8) -> Saboteur {
    let mut last: Option<ScsiCommand> = None;
    let mut over = false;
    let mut stat_sn = 0;
    Box::new(move |seen, lane| match seen {
        Seen::Request(pdu) if over => {
            stat_sn += 1;
            pretend(pdu, stat_sn, lane);
            Act::Replace(Vec::new())
        }
        Seen::Request(pdu) => {
            if let Header::ScsiCommand(command) = pdu.header {
                last = Some(command).filter(|command| command.flags & direction != 0);
            }
            Act::Pass
        }
        // Half of a read, and an R2T that nobody answers.
        Seen::Response(pdu)
            if matches!(&pdu.header, Header::ReadyToTransfer(_) if direction == WRITE)
                || matches!(&pdu.header, Header::DataIn(data) if direction == READ && data.flags & STATUS == 0) =>
        {
            Act::Replace(Vec::new())
        }
        Seen::Response(pdu) => {
            if pdu.header.common().initiator_task_tag.get() != u32::MAX
                && !matches!(&pdu.header, Header::DataIn(data) if data.flags & STATUS == 0)
                && !matches!(&pdu.header, Header::ReadyToTransfer(_))
            {
                change(&mut pdu.clone(), 24, |number| {
                    stat_sn = number;
                    number
                });
            }
            last = None;
            Act::Pass
        }
        Seen::TargetClosed => {
            if let Some(command) = last.take() {
                over = true;
                lane.stay();
                stat_sn += 1;
                let response = ScsiResponse {
                    initiator_task_tag: command.initiator_task_tag,
                    stat_sn: stat_sn.into(),
                    exp_cmd_sn: (command.cmd_sn.get() + 1).into(),
                    max_cmd_sn: (command.cmd_sn.get() + 30).into(),
                    ..ScsiResponse::default()
                };
                for pdu in good(&command, &response) {
                    lane.to_initiator(pdu);
                }
            }
            Act::Pass
        }
    })
}

/// Behind the end nobody hears the initiator; it believes that all goes well.
fn pretend(pdu: &Pdu, stat_sn: u32, lane: &mut Lane) {
    let numbers = |cmd_sn: u32| ScsiResponse {
        initiator_task_tag: pdu.header.common().initiator_task_tag,
        stat_sn: stat_sn.into(),
        exp_cmd_sn: (cmd_sn + 1).into(),
        max_cmd_sn: (cmd_sn + 30).into(),
        ..ScsiResponse::default()
    };
    match &pdu.header {
        Header::ScsiCommand(command) => {
            for pdu in good(command, &numbers(command.cmd_sn.get())) {
                lane.to_initiator(pdu);
            }
        }
        Header::LogoutRequest(logout) => {
            let response = numbers(logout.cmd_sn.get());
            lane.to_initiator(Pdu::bare(iscsi_proto::wire::bhs::LogoutResponse {
                flags: FINAL,
                initiator_task_tag: logout.initiator_task_tag,
                stat_sn: response.stat_sn,
                exp_cmd_sn: response.exp_cmd_sn,
                max_cmd_sn: response.max_cmd_sn,
                ..Default::default()
            }));
        }
        _ => {}
    }
}
