//! Targets that take lawful data wrongly.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use iscsi_proto::wire::bhs::{DataOut, FINAL, RESERVED_TAG, ReadyToTransfer, ScsiCommand, WRITE};
use iscsi_proto::wire::{Header, Pdu};

use crate::broken::{Act, Fault, Lane, Saboteur, Seen, edit};

use super::numbering::{TAG, is_command, is_status, plain, word};

pub(crate) const FAULTS: &[Fault] = &[
    plain("the second burst is lost", "data-out.solicited", || {
        lose(|header, _| header.buffer_offset.get() >= 4096)
    }),
    plain(
        "immediate data is not written",
        "data-out.immediate",
        || lose_immediate(4096),
    ),
    plain(
        "immediate data is lost when more follows",
        "data-out.immediate.part",
        || lose_immediate(512),
    ),
    plain("unsolicited data is lost", "data-out.unsolicited", || {
        lose(|header, _| header.target_transfer_tag.get() == RESERVED_TAG)
    }),
    plain(
        "unsolicited data behind immediate data is lost",
        "data-out.mixed",
        || lose(|header, _| header.target_transfer_tag.get() == RESERVED_TAG),
    ),
    plain(
        "PDUs with less than a block are lost",
        "data-out.small-pdus",
        || lose(|_, data| data.len() < 512),
    ),
    plain("empty PDUs count for nothing", "data-out.empty-pdu", || {
        edit::swallow_requests(|pdu| {
            matches!(pdu.header, Header::DataOut(_)) && pdu.data.is_empty()
        })
    }),
    plain(
        "an empty PDU does not end anything",
        "data-out.final-alone",
        || {
            edit::swallow_requests(|pdu| {
                matches!(pdu.header, Header::DataOut(_)) && pdu.data.is_empty()
            })
        },
    ),
    plain(
        "the F bit is answered once more",
        "data-out.final-alone",
        || {
            let mut alone = BTreeSet::new();
            Box::new(move |seen, _| match seen {
                Seen::Request(pdu) => {
                    if matches!(pdu.header, Header::DataOut(_)) && pdu.data.is_empty() {
                        alone.insert(word(pdu, TAG));
                    }
                    Act::Pass
                }
                Seen::Response(pdu) if is_status(pdu) && alone.remove(&word(pdu, TAG)) => {
                    Act::Replace(vec![pdu.clone(), pdu.clone()])
                }
                _ => Act::Pass,
            })
        },
    ),
    plain(
        "data goes to the task that spoke last",
        "data-out.interleaved",
        || {
            let mut last: Option<Pdu> = None;
            edit::requests(move |pdu| {
                if !matches!(pdu.header, Header::DataOut(_)) {
                    return;
                }
                if let Some(old) = last.replace(pdu.clone())
                    && word(&old, TAG) != word(pdu, TAG)
                    && old.data.len() == pdu.data.len()
                {
                    pdu.data = old.data;
                }
            })
        },
    ),
    plain(
        "unsolicited data has to follow its command at once",
        "data-out.next-command-first",
        || {
            let mut last = 0;
            edit::requests(move |pdu| match &pdu.header {
                Header::ScsiCommand(_) => last = word(pdu, TAG),
                Header::DataOut(_) if word(pdu, TAG) != last => {
                    pdu.data = vec![0; pdu.data.len()].into();
                }
                _ => {}
            })
        },
    ),
    plain(
        "four WRITEs at a time are remembered",
        "data-out.many",
        || {
            let mut writes = BTreeMap::new();
            edit::requests(move |pdu| {
                let tag = word(pdu, TAG);
                if is_command(pdu, 0x2a) {
                    let number = writes.len();
                    writes.insert(tag, number);
                } else if matches!(pdu.header, Header::DataOut(_))
                    && writes.get(&tag).is_some_and(|number| *number >= 4)
                {
                    pdu.data = vec![0; pdu.data.len()].into();
                }
            })
        },
    ),
];

/// An R2T that the sound target did not send.
pub(super) fn r2t_for(command: &ScsiCommand, lane: &Lane, offset: u32, bytes: u32) -> Pdu {
    Pdu::bare(ReadyToTransfer {
        flags: FINAL,
        lun: command.lun,
        initiator_task_tag: command.initiator_task_tag,
        target_transfer_tag: INVENTED.into(),
        stat_sn: lane.numbers.0.wrapping_add(1).into(),
        exp_cmd_sn: lane.numbers.1.into(),
        max_cmd_sn: lane.numbers.2.into(),
        buffer_offset: offset.into(),
        desired_data_transfer_length: bytes.into(),
        ..ReadyToTransfer::default()
    })
}

/// The Target Transfer Tag of such an R2T.
pub(super) const INVENTED: u32 = 0x5555;

/// Zeros take the place of what some Data-Out PDUs bring.
fn lose(which: fn(&DataOut, &Bytes) -> bool) -> Saboteur {
    edit::requests(move |pdu| {
        if let Header::DataOut(header) = &pdu.header
            && which(header, &pdu.data)
        {
            pdu.data = vec![0; pdu.data.len()].into();
        }
    })
}

/// Zeros take the place of immediate data of this length.
fn lose_immediate(bytes: usize) -> Saboteur {
    edit::requests(move |pdu| {
        if matches!(&pdu.header, Header::ScsiCommand(c) if c.flags & WRITE != 0)
            && pdu.data.len() == bytes
        {
            pdu.data = vec![0; bytes].into();
        }
    })
}
