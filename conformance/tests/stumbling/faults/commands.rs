//! Initiators whose SCSI Command PDUs are wrong.

use iscsi_proto::wire::bhs::{DataOut, FINAL, NopOut, READ, RESERVED_TAG, ScsiCommand};
use iscsi_proto::wire::{Header, Pdu};

use crate::stumbling::{Act, Fault, Saboteur, Seen, edit};

pub(crate) const FAULTS: &[Fault] = &[
    Fault {
        name: "reads without R",
        trips: "command.direction",
        saboteur: || commands(|command| command.flags &= !READ),
    },
    Fault {
        name: "reads without F",
        trips: "command.final",
        saboteur: || commands(|command| command.flags &= !FINAL),
    },
    Fault {
        name: "writes whose data is all there without F",
        trips: "command.final",
        saboteur: || {
            commands(|command| {
                if command.flags & 0x20 != 0 {
                    command.flags &= !FINAL;
                }
            })
        },
    },
    Fault {
        name: "a task attribute that is none",
        trips: "command.attribute",
        saboteur: || commands(|command| command.flags |= 7),
    },
    Fault {
        name: "a reserved field of Data-Outs",
        trips: "pdu.reserved",
        saboteur: || {
            edit::requests(|pdu| {
                if let Header::DataOut(data) = &mut pdu.header {
                    data.reserved_24 = [1, 2, 3, 4];
                }
            })
        },
    },
    Fault {
        name: "a reserved field of commands",
        trips: "pdu.reserved",
        saboteur: || commands(|command| command.reserved_2 = [0xff, 0]),
    },
    Fault {
        name: "a reserved bit of commands",
        trips: "pdu.reserved",
        saboteur: || commands(|command| command.flags |= 0x10),
    },
    Fault {
        name: "garbage behind a ping",
        trips: "pdu.reserved",
        saboteur: || {
            let mut sent = false;
            Box::new(move |seen, lane| {
                if let Seen::Request(Pdu {
                    header: Header::ScsiCommand(command),
                    ..
                }) = seen
                    && !std::mem::replace(&mut sent, true)
                {
                    lane.to_target(Pdu::bare(NopOut {
                        opcode: 0x40,
                        flags: FINAL,
                        initiator_task_tag: RESERVED_TAG.into(),
                        target_transfer_tag: RESERVED_TAG.into(),
                        cmd_sn: command.cmd_sn,
                        exp_stat_sn: command.exp_stat_sn,
                        reserved_32: [0xcc; 16],
                        ..NopOut::default()
                    }));
                }
                Act::Pass
            })
        },
    },
];

/// Changes SCSI Command PDUs.
pub(crate) fn commands(mut edit: impl FnMut(&mut ScsiCommand) + Send + 'static) -> Saboteur {
    edit::requests(move |pdu| {
        if let Header::ScsiCommand(command) = &mut pdu.header {
            edit(command);
        }
    })
}

/// Changes Data-Out PDUs.
pub(crate) fn data_outs(mut edit: impl FnMut(&mut DataOut) + Send + 'static) -> Saboteur {
    edit::requests(move |pdu| {
        if let Header::DataOut(data) = &mut pdu.header {
            edit(data);
        }
    })
}
