//! Initiators that take data, statuses and digests wrongly.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use iscsi_proto::wire::bhs::{DataIn, FINAL, STATUS};
use iscsi_proto::wire::framer::{self, Digests};
use iscsi_proto::wire::{Header, Pdu};

use crate::stumbling::{Act, Fault, Saboteur, Seen, edit};

pub(crate) const FAULTS: &[Fault] = &[
    Fault {
        name: "the data of small Data-Ins goes to the beginning",
        trips: "data-in.small",
        saboteur: || {
            let mut first = HashMap::new();
            data_ins(move |data, bytes| {
                let first = first
                    .entry(data.initiator_task_tag.get())
                    .or_insert_with(|| bytes.clone());
                let length = bytes.len().min(first.len());
                if data.buffer_offset.get() != 0 && length > 0 {
                    let rest = bytes.slice(length..);
                    *bytes = [first.slice(..length), rest].concat().into();
                }
            })
        },
    },
    Fault {
        name: "padding is taken for data",
        trips: "data-in.odd",
        saboteur: || {
            let mut shift = 0;
            data_ins(move |data, bytes| {
                if data.buffer_offset.get() == 0 {
                    shift = 0;
                }
                let padding = bytes.len().next_multiple_of(4) - bytes.len();
                let mut moved = vec![0; shift];
                moved.extend_from_slice(bytes);
                moved.truncate(bytes.len());
                *bytes = moved.into();
                shift += padding;
            })
        },
    },
    Fault {
        name: "a command ends with its data",
        trips: "data-in.status-apart",
        saboteur: || ends_with_final(false),
    },
    Fault {
        name: "a command ends with its first sequence",
        trips: "data-in.sequences",
        saboteur: || ends_with_final(true),
    },
    Fault {
        name: "no room for a segment as long as was declared",
        trips: "data-in.longest",
        saboteur: || {
            Box::new(|seen, lane| {
                if let Seen::Response(pdu) = seen
                    && pdu.data.len() > 128 * 1024
                {
                    lane.hang_up();
                    return Act::Replace(Vec::new());
                }
                Act::Pass
            })
        },
    },
    Fault {
        name: "a Data-In without data is not counted",
        trips: "data-in.empty",
        saboteur: || {
            edit::swallow_responses(|pdu| {
                matches!(pdu.header, Header::DataIn(_)) && pdu.data.is_empty()
            })
        },
    },
    Fault {
        name: "a missing Data-In is not noticed",
        trips: "data-in.gap",
        saboteur: || gap_filled(),
    },
    Fault {
        name: "a wrong header digest is not noticed",
        trips: "digests.header.wrong",
        saboteur: || edit::responses(|_| {}),
    },
    Fault {
        name: "a wrong data digest is not noticed",
        trips: "digests.data.wrong",
        saboteur: || edit::responses(|_| {}),
    },
    Fault {
        name: "header digests are wrong",
        trips: "digests.header",
        saboteur: || {
            encoded_as(
                Digests {
                    header: true,
                    data: false,
                },
                48,
            )
        },
    },
    Fault {
        name: "data digests leave the padding out",
        trips: "digests.data",
        saboteur: || {
            encoded_as(
                Digests {
                    header: false,
                    data: true,
                },
                usize::MAX,
            )
        },
    },
    Fault {
        name: "digests although there are none",
        trips: "digests.none",
        saboteur: || {
            encoded_as(
                Digests {
                    header: true,
                    data: false,
                },
                usize::MAX - 1,
            )
        },
    },
];

/// Changes the data of Data-In PDUs.
fn data_ins(mut edit: impl FnMut(&DataIn, &mut Bytes) + Send + 'static) -> Saboteur {
    edit::responses(move |pdu| {
        if let Header::DataIn(data) = &pdu.header {
            edit(data, &mut pdu.data);
        }
    })
}

/// The initiator takes F for the end of the command, the first one or the one behind all data; it does not see what
/// comes after that.
fn ends_with_final(first: bool) -> Saboteur {
    let mut expected = HashMap::new();
    let mut over = HashSet::new();
    Box::new(move |seen, _| match seen {
        Seen::Request(pdu) => {
            if let Header::ScsiCommand(command) = &pdu.header {
                let tag = command.initiator_task_tag.get();
                over.remove(&tag);
                expected.insert(tag, command.expected_data_transfer_length.get());
            }
            Act::Pass
        }
        Seen::Response(pdu) => {
            let tag = pdu.header.common().initiator_task_tag.get();
            if over.contains(&tag) {
                return Act::Replace(Vec::new());
            }
            let mut pdu = pdu.clone();
            if let Header::DataIn(data) = &mut pdu.header {
                let end = data.buffer_offset.get() as usize + pdu.data.len();
                let all = expected
                    .get(&tag)
                    .is_some_and(|bytes| *bytes as usize == end);
                if data.flags & FINAL != 0 && (first || all) && data.flags & STATUS == 0 {
                    data.flags |= STATUS;
                    over.insert(tag);
                }
            }
            Act::Replace(vec![pdu])
        }
        Seen::TargetClosed => Act::Pass,
    })
}

/// What a Data-In that is missing would have brought is taken to be there already.
fn gap_filled() -> Saboteur {
    let mut next: HashMap<u32, (u32, u32)> = HashMap::new();
    Box::new(move |seen, lane| {
        let Seen::Response(pdu) = seen else {
            return Act::Pass;
        };
        let Header::DataIn(data) = &pdu.header else {
            return Act::Pass;
        };
        let tag = data.initiator_task_tag.get();
        let (number, offset) = next.remove(&tag).unwrap_or_default();
        if data.data_sn.get() > number {
            let mut missing = *data;
            missing.flags = 0;
            missing.data_sn = number.into();
            missing.buffer_offset = offset.into();
            let length = data.buffer_offset.get() - offset;
            lane.to_initiator(Pdu::new(missing, vec![0; length as usize].into()));
        }
        if data.flags & STATUS == 0 {
            let end = data.buffer_offset.get() + u32::try_from(pdu.data.len()).unwrap();
            next.insert(tag, (data.data_sn.get() + 1, end));
        }
        Act::Pass
    })
}

/// What the initiator sends in the full feature phase has these digests, and one of them is wrong.
fn encoded_as(digests: Digests, wrong: usize) -> Saboteur {
    Box::new(move |seen, lane| {
        let Seen::Request(pdu) = seen else {
            return Act::Pass;
        };
        if matches!(pdu.header, Header::LoginRequest(_)) {
            return Act::Pass;
        }
        let mut parts = std::collections::VecDeque::new();
        framer::encode(pdu, digests, &mut parts);
        let mut bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        let padded = pdu.data.len() % 4 != 0;
        let at = match wrong {
            usize::MAX if padded => Some(bytes.len() - 1),
            48 => Some(48),
            _ => None,
        };
        if let Some(at) = at {
            bytes[at] ^= 1;
        }
        lane.bytes_to_target(bytes.into());
        Act::Replace(Vec::new())
    })
}
