//! Targets that do not know what to do with what no initiator should send.

use bytes::Bytes;
use iscsi_proto::wire::bhs::{
    FINAL, LoginResponse, NopIn, READ, RESERVED_TAG, Reject, ScsiResponse, WRITE,
};
use iscsi_proto::wire::{Header, Pdu};

use crate::broken::{Act, Fault, Kind, Lane, Saboteur, Seen, edit};

pub(crate) const FAULTS: &[Fault] = &[
    Fault {
        name: "unknown opcodes are dropped",
        trips: "reject.opcode.unassigned",
        behind: Kind::Plain,
        saboteur: || edit::swallow_requests(|pdu| matches!(pdu.header, Header::Unknown(_))),
    },
    Fault {
        name: "the opcode's bit 20h is not looked at",
        trips: "reject.opcode.target",
        behind: Kind::Plain,
        saboteur: answer_own_opcodes,
    },
    Fault {
        name: "a Reject has the tag of what it rejects",
        trips: "reject.header.form",
        behind: Kind::Plain,
        saboteur: || on_reject(|reject, _| reject.initiator_task_tag = 7.into()),
    },
    Fault {
        name: "a Reject lacks its F bit",
        trips: "reject.header.form",
        behind: Kind::Plain,
        saboteur: || on_reject(|reject, _| reject.flags = 0),
    },
    Fault {
        name: "the reason of a Reject is the deprecated one",
        trips: "reject.header.reason",
        behind: Kind::Plain,
        saboteur: || on_reject(|reject, _| reject.reason = 0x0b),
    },
    Fault {
        name: "a Reject has no data",
        trips: "reject.header.copy",
        behind: Kind::Plain,
        saboteur: || on_reject(|_, data| *data = Bytes::new()),
    },
    Fault {
        name: "a Reject returns a header of zeros",
        trips: "reject.header.copy",
        behind: Kind::Plain,
        saboteur: || on_reject(|_, data| *data = Bytes::from_static(&[0; 48])),
    },
    Fault {
        name: "a Reject has no number of its own",
        trips: "reject.header.stat-sn",
        behind: Kind::Plain,
        saboteur: || {
            on_reject(|reject, _| reject.stat_sn = reject.stat_sn.get().wrapping_sub(1).into())
        },
    },
    Fault {
        name: "a rejected command counts as received",
        trips: "reject.command.number",
        behind: Kind::Plain,
        saboteur: count_rejected,
    },
    Fault {
        name: "a Reject ends the task",
        trips: "reject.task.lives-on",
        behind: Kind::Plain,
        saboteur: end_with_reject,
    },
    Fault {
        name: "reserved task attributes are taken for SIMPLE",
        trips: "reject.attribute.reserved",
        behind: Kind::Plain,
        saboteur: || on_command(|command, _| command.flags &= !0x06 | 0x01),
    },
    Fault {
        name: "the reserved tag is a tag like any other",
        trips: "reject.tag.reserved",
        behind: Kind::Plain,
        saboteur: || succeed(|pdu| pdu.header.common().initiator_task_tag.get() == RESERVED_TAG),
    },
    Fault {
        name: "additional header segments are skipped, whatever they are",
        trips: "reject.ahs.unknown-type",
        behind: Kind::Plain,
        saboteur: || on_command(|_, ahs| *ahs = Bytes::new()),
    },
    Fault {
        name: "additional header segments are skipped, wherever they end",
        trips: "reject.ahs.cut-off",
        behind: Kind::Plain,
        saboteur: || on_command(|_, ahs| *ahs = Bytes::new()),
    },
    Fault {
        name: "an additional header segment ends the connection",
        trips: "reject.ahs.extended-cdb",
        behind: Kind::Plain,
        saboteur: hang_up_on_segments,
    },
    Fault {
        name: "a long CDB is dropped, and its number awaited",
        trips: "reject.ahs.extended-cdb",
        behind: Kind::Plain,
        saboteur: || edit::swallow_requests(|pdu| !pdu.ahs.is_empty()),
    },
    Fault {
        name: "the W bit means data, whatever the length",
        trips: "reject.flags.no-data",
        behind: Kind::Plain,
        saboteur: || edit::swallow_requests(|pdu| has_empty(pdu, WRITE)),
    },
    Fault {
        name: "the R bit needs a length",
        trips: "reject.flags.no-data",
        behind: Kind::Plain,
        saboteur: || {
            edit::answer(|pdu, lane| {
                has_empty(pdu, READ).then(|| vec![edit::reject(pdu, 0x09, lane)])
            })
        },
    },
    Fault {
        name: "reserved bits of a command are refused",
        trips: "reject.reserved.command",
        behind: Kind::Plain,
        saboteur: || refuse_reserved(1, 2..4),
    },
    Fault {
        name: "reserved bits of a ping are refused",
        trips: "reject.reserved.ping",
        behind: Kind::Plain,
        saboteur: || refuse_reserved(0, 32..48),
    },
    Fault {
        name: "reserved bits of task management are refused",
        trips: "reject.reserved.management",
        behind: Kind::Plain,
        saboteur: || refuse_reserved(2, 40..48),
    },
    Fault {
        name: "reserved bits of Data-Out are refused",
        trips: "reject.reserved.data-out",
        behind: Kind::Plain,
        saboteur: || refuse_reserved(5, 44..48),
    },
    Fault {
        name: "of a LUN only the low bits are looked at",
        trips: "reject.lun.unknown-method",
        behind: Kind::Plain,
        saboteur: || on_command(|command, _| command.lun = 0.into()),
    },
    Fault {
        name: "a login succeeds at any time",
        trips: "reject.login.late",
        behind: Kind::Plain,
        saboteur: log_in_again,
    },
    Fault {
        name: "a Data-Out for no task is answered",
        trips: "reject.data-out.stray",
        behind: Kind::Plain,
        saboteur: || succeed(|pdu| matches!(pdu.header, Header::DataOut(_))),
    },
    Fault {
        name: "a Data-Out for no task is rejected as damaged",
        trips: "reject.data-out.stray",
        behind: Kind::Plain,
        saboteur: || on_reject(|reject, _| reject.reason = 0x02),
    },
];

fn on_reject(mut edit: impl FnMut(&mut Reject, &mut Bytes) + Send + 'static) -> Saboteur {
    edit::responses(move |pdu| {
        if let Header::Reject(reject) = &mut pdu.header {
            edit(reject, &mut pdu.data);
        }
    })
}

fn on_command(
    mut edit: impl FnMut(&mut iscsi_proto::wire::bhs::ScsiCommand, &mut Bytes) + Send + 'static,
) -> Saboteur {
    edit::requests(move |pdu| {
        if let Header::ScsiCommand(command) = &mut pdu.header {
            edit(command, &mut pdu.ahs);
        }
    })
}

/// GOOD for whatever comes under the tag of the PDU.
fn good(pdu: &Pdu, lane: &Lane) -> Pdu {
    Pdu::bare(ScsiResponse {
        flags: FINAL,
        initiator_task_tag: pdu.header.common().initiator_task_tag,
        stat_sn: lane.numbers.0.wrapping_add(1).into(),
        exp_cmd_sn: lane.numbers.1.into(),
        max_cmd_sn: lane.numbers.2.into(),
        ..ScsiResponse::default()
    })
}

fn succeed(mut which: impl FnMut(&Pdu) -> bool + Send + 'static) -> Saboteur {
    edit::answer(move |pdu, lane| which(pdu).then(|| vec![good(pdu, lane)]))
}

fn has_empty(pdu: &Pdu, flag: u8) -> bool {
    matches!(pdu.header, Header::ScsiCommand(command)
        if command.flags & flag != 0 && command.expected_data_transfer_length.get() == 0)
}

/// What a target sends is answered as what an initiator sends.
fn answer_own_opcodes() -> Saboteur {
    edit::answer(|pdu, lane| match &pdu.header {
        Header::NopIn(nop) => Some(vec![Pdu::bare(NopIn {
            flags: FINAL,
            initiator_task_tag: nop.initiator_task_tag,
            target_transfer_tag: RESERVED_TAG.into(),
            stat_sn: lane.numbers.0.wrapping_add(1).into(),
            exp_cmd_sn: lane.numbers.1.into(),
            max_cmd_sn: lane.numbers.2.into(),
            ..NopIn::default()
        })]),
        _ => None,
    })
}

/// From the first Reject on, ExpCmdSN is one too high.
fn count_rejected() -> Saboteur {
    let mut rejected = false;
    edit::responses(move |pdu| match &mut pdu.header {
        Header::Reject(reject) => {
            rejected = true;
            reject.exp_cmd_sn = reject.exp_cmd_sn.get().wrapping_add(1).into();
        }
        Header::NopIn(nop) if rejected => {
            nop.exp_cmd_sn = nop.exp_cmd_sn.get().wrapping_add(1).into();
        }
        _ => {}
    })
}

fn end_with_reject() -> Saboteur {
    let mut rejected = false;
    Box::new(move |seen, _| match seen {
        Seen::Response(pdu) if matches!(pdu.header, Header::Reject(_)) => {
            rejected = true;
            Act::Pass
        }
        Seen::Request(pdu) if rejected && matches!(pdu.header, Header::DataOut(_)) => {
            Act::Replace(Vec::new())
        }
        _ => Act::Pass,
    })
}

fn hang_up_on_segments() -> Saboteur {
    Box::new(|seen, lane| match seen {
        Seen::Request(pdu) if !pdu.ahs.is_empty() => {
            lane.hang_up();
            Act::Replace(Vec::new())
        }
        _ => Act::Pass,
    })
}

/// Rejects PDUs of an opcode in which any of these reserved bytes is set.
fn refuse_reserved(opcode: u8, reserved: std::ops::Range<usize>) -> Saboteur {
    edit::answer(move |pdu, lane| {
        let bytes = pdu.header.as_bytes();
        let set = bytes[reserved.clone()].iter().any(|byte| *byte != 0);
        (bytes[0] & 0x3f == opcode && set).then(|| vec![edit::reject(pdu, 0x09, lane)])
    })
}

/// Every Login Request behind the first login of a connection succeeds.
fn log_in_again() -> Saboteur {
    let mut logged_in = false;
    Box::new(move |seen, lane| match seen {
        Seen::Response(pdu) => {
            logged_in |= matches!(pdu.header, Header::LoginResponse(answer)
                if answer.flags & FINAL != 0 && answer.flags & 3 == 3);
            Act::Pass
        }
        Seen::Request(pdu) => match &pdu.header {
            Header::LoginRequest(request) if logged_in => {
                lane.to_initiator(Pdu::bare(LoginResponse {
                    flags: request.flags,
                    isid: request.isid,
                    tsih: request.tsih,
                    initiator_task_tag: request.initiator_task_tag,
                    stat_sn: lane.numbers.0.wrapping_add(1).into(),
                    exp_cmd_sn: lane.numbers.1.into(),
                    max_cmd_sn: lane.numbers.2.into(),
                    ..LoginResponse::default()
                }));
                Act::Replace(Vec::new())
            }
            _ => Act::Pass,
        },
        Seen::TargetClosed => Act::Pass,
    })
}
