//! Initiators that send data wrongly.

use bytes::{Bytes, BytesMut};
use iscsi_proto::wire::Header;
use iscsi_proto::wire::bhs::{FINAL, RESERVED_TAG};

use crate::stumbling::faults::commands::data_outs;
use crate::stumbling::faults::login_keys::answered;
use crate::stumbling::{Act, Fault, Saboteur, Seen, edit};

pub(crate) const FAULTS: &[Fault] = &[
    Fault {
        name: "ImmediateData=No is taken for Yes",
        trips: "data-out.immediate.off",
        saboteur: || answered("ImmediateData", "Yes"),
    },
    Fault {
        name: "InitialR2T=Yes is taken for No",
        trips: "data-out.unsolicited.off",
        saboteur: || {
            hears(&[
                ("InitialR2T", "No"),
                ("ImmediateData", "No"),
                ("FirstBurstLength", "65536"),
            ])
        },
    },
    Fault {
        name: "FirstBurstLength is taken for MaxBurstLength",
        trips: "data-out.first-burst",
        saboteur: || {
            hears(&[
                ("FirstBurstLength", "65536"),
                ("MaxRecvDataSegmentLength", "65536"),
            ])
        },
    },
    Fault {
        name: "the first burst is cut short",
        trips: "data-out.unsolicited.whole",
        saboteur: || {
            edit::requests(|pdu| {
                if let Header::DataOut(data) = &pdu.header
                    && data.target_transfer_tag.get() == RESERVED_TAG
                    && data.flags & FINAL != 0
                {
                    pdu.data = pdu.data.slice(..pdu.data.len() / 2);
                }
            })
        },
    },
    Fault {
        name: "the target's MaxRecvDataSegmentLength is not heeded",
        trips: "data-out.segment",
        saboteur: || answered("MaxRecvDataSegmentLength", "65536"),
    },
    Fault {
        name: "offsets count from the beginning of the burst",
        trips: "data-out.offset",
        saboteur: || {
            let mut start = 0;
            Box::new(move |seen, _| match seen {
                Seen::Response(pdu) => {
                    if let Header::ReadyToTransfer(r2t) = &pdu.header {
                        start = r2t.buffer_offset.get();
                    }
                    Act::Pass
                }
                Seen::Request(pdu) => {
                    let mut pdu = pdu.clone();
                    if let Header::DataOut(data) = &mut pdu.header {
                        data.buffer_offset = data.buffer_offset.get().saturating_sub(start).into();
                    }
                    Act::Replace(vec![pdu])
                }
                Seen::TargetClosed => Act::Pass,
            })
        },
    },
    Fault {
        name: "offsets do not advance",
        trips: "data-out.offset",
        saboteur: || data_outs(|data| data.buffer_offset = 512.into()),
    },
    Fault {
        name: "F is missing in the last Data-Out",
        trips: "data-out.final",
        saboteur: || data_outs(|data| data.flags = 0),
    },
    Fault {
        name: "F in every Data-Out",
        trips: "data-out.final",
        saboteur: || {
            let mut first = true;
            edit::requests(move |pdu| {
                if let Header::DataOut(data) = &mut pdu.header
                    && std::mem::take(&mut first)
                {
                    // As if there were more to come.
                    data.flags = FINAL;
                    pdu.data = pdu.data.slice(..pdu.data.len() / 2);
                }
            })
        },
    },
    Fault {
        name: "data is sent in whole words",
        trips: "data-out.amount",
        saboteur: || resized(|length| length.next_multiple_of(4)),
    },
    Fault {
        name: "what does not fill a word is left out",
        trips: "data-out.amount",
        saboteur: || resized(|length| length / 4 * 4),
    },
    Fault {
        name: "DataSN goes on from R2T to R2T",
        trips: "data-out.data-sn",
        saboteur: || {
            let mut next = 0_u32;
            data_outs(move |data| {
                data.data_sn = next.into();
                next += 1;
            })
        },
    },
    Fault {
        name: "DataSN stays 0",
        trips: "data-out.data-sn",
        saboteur: || data_outs(|data| data.data_sn = 0.into()),
    },
    Fault {
        name: "immediate data counts as DataSN 0",
        trips: "data-out.unsolicited.data-sn",
        saboteur: || data_outs(|data| data.data_sn = (data.data_sn.get() + 1).into()),
    },
    Fault {
        name: "the reserved Target Transfer Tag for solicited data",
        trips: "data-out.transfer-tag",
        saboteur: || data_outs(|data| data.target_transfer_tag = RESERVED_TAG.into()),
    },
    Fault {
        name: "the first Target Transfer Tag for all data",
        trips: "data-out.transfer-tag",
        saboteur: || {
            let mut first = None;
            data_outs(move |data| {
                let tag = *first.get_or_insert(data.target_transfer_tag);
                data.target_transfer_tag = tag;
            })
        },
    },
    Fault {
        name: "Data-Outs have the next LUN",
        trips: "data-out.lun",
        saboteur: || data_outs(|data| data.lun = (1 << 48).into()),
    },
    Fault {
        name: "the last R2T is answered first",
        trips: "data-out.several",
        saboteur: last_first,
    },
];

/// The initiator sees these answers.
fn hears(seen: &'static [(&'static str, &'static str)]) -> Saboteur {
    edit::answered_keys(move |keys| {
        for (name, value) in keys {
            if let Some((_, other)) = seen.iter().find(|(key, _)| key == name) {
                (*other).clone_into(value);
            }
        }
    })
}

/// Data-Outs of another length.
fn resized(length: fn(usize) -> usize) -> Saboteur {
    edit::requests(move |pdu| {
        if matches!(pdu.header, Header::DataOut(_)) {
            let mut data = BytesMut::from(pdu.data.as_ref());
            data.resize(length(pdu.data.len()), 0);
            pdu.data = Bytes::from(data);
        }
    })
}

/// The data for an R2T waits until there was data for a later one, if there is a later one.
fn last_first() -> Saboteur {
    let mut r2ts = Vec::new();
    let mut waiting = Vec::new();
    Box::new(move |seen, lane| match seen {
        Seen::Response(pdu) => {
            if let Header::ReadyToTransfer(r2t) = &pdu.header {
                r2ts.push(r2t.target_transfer_tag);
            }
            Act::Pass
        }
        Seen::Request(pdu) => {
            let Header::DataOut(data) = &pdu.header else {
                return Act::Pass;
            };
            if r2ts.len() > 1 && r2ts[0] == data.target_transfer_tag {
                waiting.push(pdu.clone());
                return Act::Replace(Vec::new());
            }
            r2ts.retain(|tag| *tag != data.target_transfer_tag);
            lane.to_target(pdu.clone());
            for pdu in waiting.drain(..) {
                r2ts.clear();
                lane.to_target(pdu);
            }
            Act::Replace(Vec::new())
        }
        Seen::TargetClosed => Act::Pass,
    })
}
