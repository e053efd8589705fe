//! Targets that ask for data wrongly, or take wrong answers.

use std::collections::BTreeMap;

use bytes::Bytes;
use iscsi_proto::wire::bhs::{DataOut, FINAL, ReadyToTransfer, ScsiResponse};
use iscsi_proto::wire::{Header, Pdu};

use crate::broken::{Act, Fault, Lane, Saboteur, Seen, edit};

use super::data_out::{INVENTED, r2t_for};
use super::numbering::{TAG, is_command, plain, word};

pub(crate) const FAULTS: &[Fault] = &[
    plain("every R2T is the first", "r2t.r2tsn", || {
        r2ts(|r2t| r2t.r2t_sn.set(0))
    }),
    plain("an R2T asks for all that is left", "r2t.length", || {
        r2ts(|r2t| {
            let left = 32768 - r2t.buffer_offset.get();
            r2t.desired_data_transfer_length.set(left);
        })
    }),
    plain("an R2T asks for nothing", "r2t.length", || {
        r2ts(|r2t| r2t.desired_data_transfer_length.set(0))
    }),
    plain("the second half is asked for first", "r2t.range", || {
        r2ts(|r2t| {
            r2t.buffer_offset
                .set((r2t.buffer_offset.get() + 16384) % 32768);
        })
    }),
    plain("R2Ts overlap", "r2t.range", || {
        r2ts(|r2t| {
            let offset = r2t.buffer_offset.get();
            r2t.buffer_offset.set(offset.saturating_sub(512));
        })
    }),
    plain("R2Ts have no tag", "r2t.tag", || {
        r2ts(|r2t| r2t.target_transfer_tag.set(u32::MAX))
    }),
    plain("R2Ts have no F bit", "r2t.header", || {
        r2ts(|r2t| r2t.flags = 0)
    }),
    plain("R2Ts carry data", "r2t.header", || {
        edit::responses(|pdu| {
            if matches!(pdu.header, Header::ReadyToTransfer(_)) {
                pdu.data = Bytes::from_static(&[0; 4]);
            }
        })
    }),
    plain(
        "MaxOutstandingR2T is not heeded",
        "r2t.one-outstanding",
        || more_r2ts(0),
    ),
    plain(
        "MaxOutstandingR2T is one more than agreed",
        "r2t.some-outstanding",
        || more_r2ts(2),
    ),
    plain(
        "immediate data is asked for again",
        "r2t.immediate-is-kept",
        || {
            r2ts(|r2t| {
                if r2t.buffer_offset.get() == 512 {
                    r2t.buffer_offset.set(0);
                    r2t.desired_data_transfer_length.set(4096);
                }
            })
        },
    ),
    plain("immediate data is thrown away", "r2t.nothing-left", || {
        Box::new(|seen, lane| match seen {
            Seen::Request(pdu) => match &pdu.header {
                Header::ScsiCommand(command) if is_command(pdu, 0x2a) => {
                    let r2t = r2t_for(command, lane, 0, 512);
                    lane.to_initiator(r2t);
                    Act::Pass
                }
                Header::DataOut(data) if data.target_transfer_tag.get() == INVENTED => {
                    Act::Replace(Vec::new())
                }
                _ => Act::Pass,
            },
            _ => Act::Pass,
        })
    }),
    plain(
        "what is missing of an answer is zeros",
        "r2t.answer.short",
        || {
            answers(|header, data, asked| {
                let whole = usize::try_from(asked.desired_data_transfer_length.get()).unwrap();
                if header.flags & FINAL != 0 && data.len() < whole {
                    let mut padded = data.to_vec();
                    padded.resize(whole, 0);
                    *data = padded.into();
                }
            })
        },
    ),
    plain(
        "what an answer has too much is cut off",
        "r2t.answer.long",
        cut_off,
    ),
    plain(
        "Buffer Offset of an answer is not looked at",
        "r2t.answer.elsewhere",
        || answers(|header, _, asked| header.buffer_offset = asked.buffer_offset),
    ),
    plain(
        "data is found by the task's tag alone",
        "r2t.answer.other-tag",
        take_strays,
    ),
    plain("DataSN is not looked at", "r2t.answer.gap", || {
        answers(|header, _, asked| {
            let from = header.buffer_offset.get() - asked.buffer_offset.get();
            header.data_sn.set(from / 1024);
        })
    }),
    plain(
        "late data is answered with a status",
        "r2t.answer.late",
        || {
            let mut over = BTreeMap::new();
            Box::new(move |seen, lane| match seen {
                Seen::Response(pdu) => {
                    if matches!(pdu.header, Header::ScsiResponse(_)) {
                        over.insert(word(pdu, TAG), pdu.clone());
                    }
                    Act::Pass
                }
                Seen::Request(pdu) if matches!(pdu.header, Header::DataOut(_)) => {
                    match over.get(&word(pdu, TAG)) {
                        Some(status) => {
                            lane.to_initiator(status.clone());
                            Act::Replace(Vec::new())
                        }
                        None => Act::Pass,
                    }
                }
                _ => Act::Pass,
            })
        },
    ),
    plain(
        "data without a task is an unsupported command",
        "r2t.answer.no-task",
        || {
            edit::responses(|pdu| {
                if let Header::Reject(reject) = &mut pdu.header {
                    reject.reason = 5;
                }
            })
        },
    ),
    plain("an error is reported at once", "r2t.failure.waits", || {
        Box::new(|seen, lane| match seen {
            Seen::Request(pdu) if matches!(&pdu.header, Header::DataOut(d) if d.buffer_offset.get() == 1 << 20) =>
            {
                let status = aborted(pdu, lane);
                lane.to_initiator(status);
                Act::Replace(Vec::new())
            }
            _ => Act::Pass,
        })
    }),
    plain("what never came is zeros", "r2t.answer.elsewhere", || {
        answers(|header, _, asked| {
            if header.buffer_offset.get() == 1 << 20 {
                header.buffer_offset = asked.buffer_offset;
            }
        })
    }),
];

/// Rewrites R2Ts.
fn r2ts(edit: fn(&mut ReadyToTransfer)) -> Saboteur {
    edit::responses(move |pdu| {
        if let Header::ReadyToTransfer(r2t) = &mut pdu.header {
            edit(r2t);
        }
    })
}

/// Behind the R2T of this number comes one more.
fn more_r2ts(behind: u32) -> Saboteur {
    Box::new(move |seen, _| match seen {
        Seen::Response(pdu) => match &pdu.header {
            Header::ReadyToTransfer(r2t) if r2t.r2t_sn.get() == behind => {
                let more = ReadyToTransfer {
                    r2t_sn: (behind + 1).into(),
                    target_transfer_tag: INVENTED.into(),
                    buffer_offset: (r2t.buffer_offset.get() + 4096).into(),
                    ..*r2t
                };
                Act::Replace(vec![pdu.clone(), Pdu::bare(more)])
            }
            _ => Act::Pass,
        },
        _ => Act::Pass,
    })
}

/// Rewrites Data-Out PDUs that answer an R2T, which is at hand.
fn answers(edit: fn(&mut DataOut, &mut Bytes, &ReadyToTransfer)) -> Saboteur {
    let mut asked = BTreeMap::new();
    Box::new(move |seen, _| match seen {
        Seen::Response(pdu) => {
            if let Header::ReadyToTransfer(r2t) = &pdu.header {
                asked.insert(r2t.target_transfer_tag.get(), *r2t);
            }
            Act::Pass
        }
        Seen::Request(pdu) => {
            let mut pdu = pdu.clone();
            if let Header::DataOut(header) = &mut pdu.header
                && let Some(r2t) = asked.get(&header.target_transfer_tag.get())
            {
                edit(header, &mut pdu.data, r2t);
                return Act::Replace(vec![pdu]);
            }
            Act::Pass
        }
        Seen::TargetClosed => Act::Pass,
    })
}

/// The last PDU that an R2T needs becomes the final one; those behind it are swallowed.
fn cut_off() -> Saboteur {
    let mut asked: BTreeMap<u32, u32> = BTreeMap::new();
    Box::new(move |seen, _| match seen {
        Seen::Response(pdu) => {
            if let Header::ReadyToTransfer(r2t) = &pdu.header {
                let end = r2t.buffer_offset.get() + r2t.desired_data_transfer_length.get();
                asked.insert(r2t.target_transfer_tag.get(), end);
            }
            Act::Pass
        }
        Seen::Request(pdu) => {
            let Header::DataOut(header) = pdu.header else {
                return Act::Pass;
            };
            let end = header.buffer_offset.get() + u32::try_from(pdu.data.len()).unwrap();
            match asked.get(&header.target_transfer_tag.get()) {
                Some(asked) if end > *asked => Act::Replace(Vec::new()),
                Some(asked) if end == *asked => {
                    let flags = FINAL;
                    let header = DataOut { flags, ..header };
                    Act::Replace(vec![Pdu::new(header, pdu.data.clone())])
                }
                _ => Act::Pass,
            }
        }
        Seen::TargetClosed => Act::Pass,
    })
}

/// Data under a tag that no R2T had is kept, and written in the place of what comes under the right one.
fn take_strays() -> Saboteur {
    let mut tags = Vec::new();
    let mut kept: Option<Bytes> = None;
    Box::new(move |seen, _| match seen {
        Seen::Response(pdu) => {
            if let Header::ReadyToTransfer(r2t) = &pdu.header {
                tags.push(r2t.target_transfer_tag.get());
            }
            Act::Pass
        }
        Seen::Request(pdu) => {
            let Header::DataOut(header) = &pdu.header else {
                return Act::Pass;
            };
            if !tags.contains(&header.target_transfer_tag.get()) {
                kept = Some(pdu.data.clone());
                return Act::Replace(Vec::new());
            }
            match kept.take() {
                Some(stray) => {
                    let mut data = pdu.data.to_vec();
                    data[..stray.len()].copy_from_slice(&stray);
                    Act::Replace(vec![Pdu::new(*header, data.into())])
                }
                None => Act::Pass,
            }
        }
        Seen::TargetClosed => Act::Pass,
    })
}

/// CHECK CONDITION, "Incorrect amount of data", for the task of a PDU.
pub(super) fn aborted(pdu: &Pdu, lane: &Lane) -> Pdu {
    let header = ScsiResponse {
        flags: FINAL,
        status: 2,
        initiator_task_tag: word(pdu, TAG).into(),
        stat_sn: lane.numbers.0.wrapping_add(1).into(),
        exp_cmd_sn: lane.numbers.1.into(),
        max_cmd_sn: lane.numbers.2.into(),
        ..ScsiResponse::default()
    };
    let mut sense = vec![0, 18, 0x70, 0, 0x0b, 0, 0, 0, 0, 10, 0, 0, 0, 0];
    sense.extend([0x0c, 0x0d, 0, 0, 0, 0]);
    Pdu::new(header, sense.into())
}
