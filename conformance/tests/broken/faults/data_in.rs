//! Targets that send data wrongly.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use iscsi_proto::wire::bhs::{DataIn, FINAL, STATUS, ScsiResponse};
use iscsi_proto::wire::{Header, Pdu};

use crate::broken::{Act, Fault, Lane, Saboteur, Seen, edit};

use super::numbering::{TAG, is_command, plain, set, word};

pub(crate) const FAULTS: &[Fault] = &[
    plain("DataSN begins at 1", "data-in.datasn", || {
        headers(|header| header.data_sn.set(header.data_sn.get() + 1))
    }),
    plain(
        "DataSN begins anew in every sequence",
        "data-in.datasn",
        || headers(|header| header.data_sn.set(header.data_sn.get() % 8)),
    ),
    plain(
        "DataSN counts over all commands",
        "data-in.datasn.per-command",
        || {
            let mut count = 0;
            headers(move |header| {
                header.data_sn.set(count);
                count += 1;
            })
        },
    ),
    plain(
        "the data of one command goes to another",
        "data-in.datasn.per-command",
        mix_tags,
    ),
    plain(
        "Buffer Offset counts from the beginning of the sequence",
        "data-in.offset",
        || headers(|header| header.buffer_offset.set(header.buffer_offset.get() % 4096)),
    ),
    plain(
        "MaxRecvDataSegmentLength below 1024 is not believed",
        "data-in.segment.512",
        || join(1024),
    ),
    plain(
        "MaxRecvDataSegmentLength is rounded up",
        "data-in.segment.odd",
        || join(2040),
    ),
    plain("everybody takes 64 KiB", "data-in.segment.default", || {
        join(65536)
    }),
    plain(
        "segments are as long as they may be",
        "data-in.segment.words",
        || cut(1021),
    ),
    plain(
        "MaxBurstLength is for writes alone",
        "data-in.burst",
        || {
            headers(|header| {
                if header.flags & STATUS == 0 {
                    header.flags &= !FINAL;
                }
            })
        },
    ),
    plain("the last PDU is not marked", "data-in.final", || {
        headers(|header| header.flags &= !FINAL)
    }),
    plain(
        "status comes without the F bit",
        "data-in.status.final",
        || {
            headers(|header| {
                if header.flags & STATUS != 0 {
                    header.flags &= !FINAL;
                }
            })
        },
    ),
    plain("status comes twice", "data-in.status.final", || {
        Box::new(|seen, lane| match seen {
            Seen::Response(pdu) => match &pdu.header {
                Header::DataIn(data) if data.flags & STATUS != 0 => {
                    Act::Replace(vec![pdu.clone(), apart(data, lane)])
                }
                _ => Act::Pass,
            },
            _ => Act::Pass,
        })
    }),
    plain(
        "an error comes with Data-In",
        "data-in.status.error",
        || {
            edit::responses(|pdu| {
                if let Header::ScsiResponse(response) = &pdu.header
                    && response.status == 2
                    && pdu.data.get(14) == Some(&0x21)
                {
                    *pdu = Pdu::bare(DataIn {
                        flags: FINAL | STATUS,
                        status: 2,
                        initiator_task_tag: response.initiator_task_tag,
                        stat_sn: response.stat_sn,
                        exp_cmd_sn: response.exp_cmd_sn,
                        max_cmd_sn: response.max_cmd_sn,
                        ..DataIn::default()
                    });
                }
            })
        },
    ),
    plain("an error has no sense", "data-in.status.error", || {
        edit::responses(|pdu| {
            if pdu.data.get(14) == Some(&0x21) {
                pdu.data = Bytes::new();
            }
        })
    }),
    plain("Data-In has a tag of the target's", "data-in.tags", || {
        headers(|header| header.target_transfer_tag.set(7))
    }),
    plain("Data-In names the unit", "data-in.tags", || {
        headers(|header| header.lun.set(0x0001_0000_0000_0000))
    }),
    plain(
        "an acknowledgment is asked for at every burst",
        "data-in.acknowledge",
        || {
            headers(|header| {
                if header.flags & FINAL != 0 {
                    header.flags |= 0x40;
                    header.target_transfer_tag.set(7);
                }
            })
        },
    ),
    plain("reserved bits carry something", "data-in.reserved", || {
        headers(|header| header.flags |= 0x10)
    }),
    plain("byte 2 carries something", "data-in.reserved", || {
        headers(|header| header.reserved_2 = 0x80)
    }),
    plain("ExpDataSN is left out", "data-in.exp-datasn", || {
        Box::new(|seen, lane| match seen {
            Seen::Response(pdu) => match &pdu.header {
                Header::DataIn(data) if data.flags & STATUS != 0 => {
                    let mut pdu = pdu.clone();
                    let status = apart(data, lane);
                    if let Header::DataIn(data) = &mut pdu.header {
                        data.flags = FINAL;
                    }
                    Act::Replace(vec![pdu, status])
                }
                _ => Act::Pass,
            },
            _ => Act::Pass,
        })
    }),
    plain(
        "ExpDataSN counts the response",
        "data-in.exp-datasn",
        || {
            edit::responses(|pdu| {
                if let Header::ScsiResponse(response) = &mut pdu.header {
                    response.exp_data_sn.set(response.exp_data_sn.get() + 1);
                }
            })
        },
    ),
    plain(
        "a transfer length of 0 means 256 blocks",
        "data-in.none",
        || {
            edit::requests(|pdu| {
                if let Header::ScsiCommand(command) = &mut pdu.header
                    && command.cdb[0] == 0x28
                    && command.cdb[7..9] == [0, 0]
                {
                    command.cdb[7] = 1;
                    command.expected_data_transfer_length.set(131_072);
                }
            })
        },
    ),
    plain("segments are not padded", "data-in.padding", || {
        Box::new(|seen, lane| match seen {
            Seen::Response(pdu)
                if matches!(pdu.header, Header::DataIn(_)) && pdu.data.len() % 4 != 0 =>
            {
                let mut bytes = lane.encode(pdu);
                bytes.truncate(48 + pdu.data.len());
                lane.bytes_to_initiator(bytes.into());
                Act::Replace(Vec::new())
            }
            _ => Act::Pass,
        })
    }),
    plain(
        "what is left of a long segment is lost",
        "data-in.any-cut",
        || damage(1022),
    ),
    plain(
        "data turns around in small segments",
        "data-in.written",
        || damage(1024),
    ),
    plain("the last block is not there", "data-in.edges", || {
        let mut last = None;
        edit::requests(move |pdu| {
            if let Header::ScsiCommand(command) = &mut pdu.header
                && command.cdb[0] == 0x28
            {
                let block = u32::from_be_bytes(command.cdb[2..6].try_into().unwrap());
                if last.is_some_and(|last| block > last) {
                    command.cdb[2] = 0x7f;
                }
                last = Some(block);
            }
        })
    }),
];

/// Rewrites the headers of Data-In PDUs.
fn headers(mut edit: impl FnMut(&mut DataIn) + Send + 'static) -> Saboteur {
    edit::responses(move |pdu| {
        if let Header::DataIn(header) = &mut pdu.header {
            edit(header);
        }
    })
}

/// A status on its own, behind data that came with one.
fn apart(data: &DataIn, lane: &Lane) -> Pdu {
    Pdu::bare(ScsiResponse {
        flags: FINAL,
        initiator_task_tag: data.initiator_task_tag,
        stat_sn: lane.numbers.0.wrapping_add(1).into(),
        exp_cmd_sn: data.exp_cmd_sn,
        max_cmd_sn: data.max_cmd_sn,
        ..ScsiResponse::default()
    })
}

/// Every second READ under way gets what belongs to the first one.
fn mix_tags() -> Saboteur {
    let mut reads = Vec::new();
    Box::new(move |seen, _| match seen {
        Seen::Request(pdu) => {
            if is_command(pdu, 0x28) {
                reads.push(word(pdu, TAG));
            }
            Act::Pass
        }
        Seen::Response(pdu) if reads.get(1) == Some(&word(pdu, TAG)) => {
            let mut pdu = pdu.clone();
            set(&mut pdu, TAG, reads[0]);
            Act::Replace(vec![pdu])
        }
        _ => Act::Pass,
    })
}

/// Data of READ (10) is cut anew into segments of this length.
fn join(segment: usize) -> Saboteur {
    let mut gathered: BTreeMap<u32, BytesMut> = BTreeMap::new();
    Box::new(move |seen, _| {
        let Seen::Response(pdu) = seen else {
            return Act::Pass;
        };
        let Header::DataIn(header) = pdu.header else {
            return Act::Pass;
        };
        let whole = gathered.entry(word(pdu, TAG)).or_default();
        whole.extend_from_slice(&pdu.data);
        if header.flags & STATUS == 0 {
            return Act::Replace(Vec::new());
        }
        let whole = gathered.remove(&word(pdu, TAG)).unwrap().freeze();
        Act::Replace(pieces(header, &whole, segment))
    })
}

/// Data of READ (10) comes in segments of this length, F bit at the end alone.
fn cut(segment: usize) -> Saboteur {
    join(segment)
}

fn pieces(last: DataIn, whole: &Bytes, segment: usize) -> Vec<Pdu> {
    let starts = (0..whole.len()).step_by(segment);
    starts
        .zip(0u32..)
        .map(|(start, number)| {
            let end = whole.len().min(start + segment);
            let mut header = DataIn {
                data_sn: number.into(),
                buffer_offset: u32::try_from(start).unwrap().into(),
                ..last
            };
            if end < whole.len() {
                header.flags = 0;
            }
            Pdu::new(header, whole.slice(start..end))
        })
        .collect()
}

/// The first byte behind the first segment of a READ is lost to another one, where segments are this long.
fn damage(segment: usize) -> Saboteur {
    edit::responses(move |pdu| {
        let is_first = matches!(&pdu.header, Header::DataIn(h) if h.data_sn.get() == 0);
        if is_first && pdu.data.len() == segment / 4 * 4 {
            let mut bytes = pdu.data.to_vec();
            bytes[segment / 2] ^= 0xff;
            pdu.data = bytes.into();
        }
    })
}
