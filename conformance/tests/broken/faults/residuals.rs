//! Targets that count residuals wrongly.

use iscsi_proto::wire::bhs::{DataIn, FINAL, OVERFLOW, READ, STATUS, UNDERFLOW, WRITE};
use iscsi_proto::wire::{Header, Pdu};

use crate::broken::{Act, Fault, Saboteur, Seen, edit};

use super::numbering::{TAG, is_command, plain, word};

pub(crate) const FAULTS: &[Fault] = &[
    plain("the U bit is always set", "residual.none", || {
        residuals(|flags, _| *flags |= UNDERFLOW)
    }),
    plain(
        "the Residual Count is what was moved",
        "residual.none.count",
        || {
            residuals(|flags, count| {
                if *flags & (OVERFLOW | UNDERFLOW) == 0 {
                    *count = 512;
                }
            })
        },
    ),
    plain(
        "underflow is not counted",
        "residual.read.underflow",
        || residuals(|flags, _| *flags &= !UNDERFLOW),
    ),
    plain(
        "the Residual Count of an underflow is what was moved",
        "residual.read.underflow",
        || {
            residuals(|flags, count| {
                if *flags & UNDERFLOW != 0 {
                    *count = 512;
                }
            })
        },
    ),
    plain(
        "overflow is called underflow",
        "residual.read.overflow",
        confuse,
    ),
    plain(
        "both bits say that something is amiss",
        "residual.read.overflow",
        || {
            residuals(|flags, _| {
                if *flags & OVERFLOW != 0 {
                    *flags |= UNDERFLOW;
                }
            })
        },
    ),
    plain(
        "all data is sent, room or not",
        "residual.read.room",
        || {
            edit::requests(|pdu| {
                if let Header::ScsiCommand(command) = &mut pdu.header
                    && command.cdb[0] == 0x28
                {
                    let blocks = u16::from_be_bytes([command.cdb[7], command.cdb[8]]);
                    command.expected_data_transfer_length = (u32::from(blocks) * 512).into();
                }
            })
        },
    ),
    plain(
        "overflow without room is not counted",
        "residual.read.no-room",
        || residuals(|flags, _| *flags &= !OVERFLOW),
    ),
    plain(
        "data comes although nobody has room for it",
        "residual.read.no-room",
        || give_reads(|command| command & (READ | WRITE) == 0),
    ),
    plain(
        "data comes although the R bit is not set",
        "residual.read.wrong-way",
        || give_reads(|command| command & WRITE != 0),
    ),
    plain(
        "commands without data have no residual",
        "residual.no-data",
        || {
            Box::new(|seen, _| match seen {
                Seen::Response(pdu) => match &pdu.header {
                    Header::ScsiResponse(response) if response.flags & UNDERFLOW != 0 => {
                        let mut response = *response;
                        response.flags = FINAL;
                        response.residual_count = 0.into();
                        Act::Replace(vec![Pdu::new(response, pdu.data.clone())])
                    }
                    _ => Act::Pass,
                },
                _ => Act::Pass,
            })
        },
    ),
    plain(
        "what the allocation length cuts off counts as overflow",
        "residual.allocation.short",
        || {
            residuals(|flags, count| {
                if *flags & (OVERFLOW | UNDERFLOW) == 0 {
                    *flags |= OVERFLOW;
                    *count = 88;
                }
            })
        },
    ),
    plain(
        "the allocation length takes the place of the expected length",
        "residual.allocation.long",
        || residuals(|flags, _| *flags &= !UNDERFLOW),
    ),
    plain(
        "writes have no underflow",
        "residual.write.underflow",
        || residuals(|flags, _| *flags &= !UNDERFLOW),
    ),
    plain(
        "all that comes is written",
        "residual.write.underflow",
        || {
            edit::requests(|pdu| {
                if let Header::ScsiCommand(command) = &mut pdu.header
                    && command.cdb[0] == 0x2a
                {
                    let blocks = command.expected_data_transfer_length.get() / 512;
                    command.cdb[8] = u8::try_from(blocks).unwrap();
                }
            })
        },
    ),
    plain(
        "the overflow of a write is underflow",
        "residual.write.overflow",
        confuse,
    ),
    plain(
        "the rest of a write is asked for, announced or not",
        "residual.write.overflow",
        || {
            Box::new(|seen, lane| match seen {
                Seen::Request(pdu) => {
                    if let Header::ScsiCommand(command) = &pdu.header
                        && command.cdb[0] == 0x2a
                        && command.expected_data_transfer_length.get()
                            < u32::from(command.cdb[8]) * 512
                    {
                        let r2t = super::data_out::r2t_for(command, lane, 512, 1024);
                        lane.to_initiator(r2t);
                    }
                    Act::Pass
                }
                _ => Act::Pass,
            })
        },
    ),
    plain(
        "a WRITE without data asks for some",
        "residual.write.no-room",
        || ask_for_a_block(0),
    ),
    plain(
        "a WRITE without data writes zeros",
        "residual.write.no-room",
        || zeros(0),
    ),
    plain(
        "a WRITE that reads asks for data",
        "residual.write.wrong-way",
        || ask_for_a_block(READ),
    ),
    plain(
        "a WRITE that reads writes zeros",
        "residual.write.wrong-way",
        || zeros(READ),
    ),
];

/// Rewrites byte 1 and the Residual Count of statuses; those of an ordinary session's beginning are nobody's business.
fn residuals(edit: fn(&mut u8, &mut u32)) -> Saboteur {
    edit::responses(move |pdu| match &mut pdu.header {
        Header::ScsiResponse(response) => {
            let mut count = response.residual_count.get();
            edit(&mut response.flags, &mut count);
            response.residual_count = count.into();
        }
        Header::DataIn(data) if data.flags & STATUS != 0 => {
            let mut count = data.residual_count.get();
            edit(&mut data.flags, &mut count);
            data.residual_count = count.into();
        }
        _ => {}
    })
}

fn confuse() -> Saboteur {
    residuals(|flags, _| {
        if *flags & OVERFLOW != 0 {
            *flags ^= OVERFLOW | UNDERFLOW;
        }
    })
}

/// READs with such flags bring a block of data all the same.
fn give_reads(which: fn(u8) -> bool) -> Saboteur {
    Box::new(move |seen, lane| match seen {
        Seen::Request(pdu) if is_command(pdu, 0x28) => {
            if let Header::ScsiCommand(command) = &pdu.header
                && which(command.flags)
            {
                let data = DataIn {
                    flags: FINAL,
                    initiator_task_tag: word(pdu, TAG).into(),
                    target_transfer_tag: u32::MAX.into(),
                    exp_cmd_sn: lane.numbers.1.into(),
                    max_cmd_sn: lane.numbers.2.into(),
                    ..DataIn::default()
                };
                lane.to_initiator(Pdu::new(data, vec![0; 512].into()));
            }
            Act::Pass
        }
        _ => Act::Pass,
    })
}

/// A WRITE with just these direction bits is answered with an R2T for a block.
fn ask_for_a_block(direction: u8) -> Saboteur {
    Box::new(move |seen, lane| match seen {
        Seen::Request(pdu) => {
            if let Header::ScsiCommand(command) = &pdu.header
                && command.cdb[0] == 0x2a
                && command.flags & (READ | WRITE) == direction
            {
                let r2t = super::data_out::r2t_for(command, lane, 0, 512);
                lane.to_initiator(r2t);
            }
            Act::Pass
        }
        _ => Act::Pass,
    })
}

/// A WRITE with just these direction bits is carried out with zeros.
fn zeros(direction: u8) -> Saboteur {
    edit::requests(move |pdu| {
        if let Header::ScsiCommand(command) = &mut pdu.header
            && command.cdb[0] == 0x2a
            && command.flags & (READ | WRITE) == direction
        {
            command.flags = FINAL | WRITE | 1;
            command.expected_data_transfer_length = 512.into();
            pdu.data = vec![0; 512].into();
        }
    })
}
