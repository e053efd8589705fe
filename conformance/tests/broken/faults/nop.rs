//! Targets that answer pings wrongly.

use bytes::{Bytes, BytesMut};
use iscsi_proto::wire::bhs::{FINAL, NopIn, RESERVED_TAG};
use iscsi_proto::wire::{Header, Pdu};

use crate::broken::{Act, Fault, Kind, Saboteur, Seen, edit};

pub(crate) const FAULTS: &[Fault] = &[
    fault("nop.echo", "pings lose their data", || {
        echoes(|_, data| *data = Bytes::new())
    }),
    fault("nop.echo", "the answer is a ping itself", || {
        echoes(|nop, _| nop.target_transfer_tag = 5.into())
    }),
    fault("nop.echo", "the final bit is missing", || {
        echoes(|nop, _| nop.flags = 0)
    }),
    fault("nop.empty", "an answer always has data", || {
        echoes(|_, data| *data = Bytes::from_static(&[0; 4]))
    }),
    fault("nop.padding", "padding is taken for data", || {
        echoes(|_, data| {
            let mut padded = BytesMut::from(data.as_ref());
            padded.resize(data.len().next_multiple_of(4), 0);
            *data = padded.freeze();
        })
    }),
    fault("nop.long", "long pings are cut", || {
        echoes(|_, data| data.truncate(4096))
    }),
    fault("nop.cut", "the initiator's limit is not minded", || {
        edit::asked_keys(|pairs| pairs.retain(|(key, _)| key != "MaxRecvDataSegmentLength"))
    }),
    fault("nop.cut", "what is too long is not echoed", || {
        echoes(|_, data| *data = Bytes::new())
    }),
    fault("nop.immediate", "immediate pings are counted", || {
        echoes(|nop, _| nop.exp_cmd_sn = nop.exp_cmd_sn.get().wrapping_add(1).into())
    }),
    fault("nop.numbered", "pings are not counted", || {
        echoes(|nop, _| nop.exp_cmd_sn = nop.exp_cmd_sn.get().wrapping_sub(1).into())
    }),
    fault("nop.numbered", "pings are taken as immediate", || {
        edit::requests(|pdu| {
            if let Header::NopOut(nop) = &mut pdu.header {
                nop.opcode |= 0x40;
            }
        })
    }),
    fault("nop.burst", "every other ping is lost", || {
        let mut count = 0;
        edit::swallow_responses(move |pdu| {
            count += usize::from(matches!(pdu.header, Header::NopIn(_)));
            matches!(pdu.header, Header::NopIn(_)) && count % 2 == 0
        })
    }),
    fault("nop.stat-sn", "answers to pings are not counted", || {
        let mut first = None;
        echoes(move |nop, _| nop.stat_sn = *first.get_or_insert(nop.stat_sn))
    }),
    fault("nop.unanswered", "every NOP-Out is answered", || {
        edit::answer(|pdu, lane| {
            let Header::NopOut(nop) = &pdu.header else {
                return None;
            };
            let (stat_sn, exp_cmd_sn, max_cmd_sn) = lane.numbers;
            (nop.initiator_task_tag.get() == RESERVED_TAG).then(|| {
                vec![Pdu::bare(NopIn {
                    flags: FINAL,
                    initiator_task_tag: RESERVED_TAG.into(),
                    target_transfer_tag: RESERVED_TAG.into(),
                    stat_sn: stat_sn.wrapping_add(1).into(),
                    exp_cmd_sn: exp_cmd_sn.into(),
                    max_cmd_sn: max_cmd_sn.into(),
                    ..NopIn::default()
                })]
            })
        })
    }),
    fault(
        "nop.unanswered",
        "a NOP-Out without a tag is rejected",
        || {
            edit::answer(|pdu, lane| {
                let Header::NopOut(nop) = &pdu.header else {
                    return None;
                };
                let untagged = nop.initiator_task_tag.get() == RESERVED_TAG;
                untagged.then(|| vec![edit::reject(pdu, 0x09, lane)])
            })
        },
    ),
    fault(
        "nop.behind-unanswered",
        "what follows a NOP-Out without a tag is lost",
        || {
            let mut lost = false;
            edit::swallow_requests(move |pdu| {
                let Header::NopOut(nop) = &pdu.header else {
                    return false;
                };
                let untagged = nop.initiator_task_tag.get() == RESERVED_TAG;
                std::mem::replace(&mut lost, untagged) && !untagged
            })
        },
    ),
    fault(
        "nop.unnumbered",
        "a NOP-Out without a tag is counted",
        || {
            let mut ahead = 0u32;
            edit::requests(move |pdu| match &mut pdu.header {
                Header::NopOut(nop) if nop.initiator_task_tag.get() == RESERVED_TAG => ahead = 1,
                // The target takes it for one that it has had already.
                Header::ScsiCommand(command) => {
                    command.cmd_sn = command.cmd_sn.get().wrapping_sub(ahead).into();
                }
                _ => {}
            })
        },
    ),
    fault("nop.target-ping", "a ping of the target has data", || {
        pinging(|nop, data| {
            nop.initiator_task_tag = RESERVED_TAG.into();
            *data = Bytes::from_static(b"are you there?");
        })
    }),
    fault(
        "nop.target-ping",
        "a ping of the target has a task tag",
        || pinging(|nop, _| nop.initiator_task_tag = 77.into()),
    ),
    fault(
        "nop.target-ping",
        "a ping of the target has an old StatSN",
        || pinging(|nop, _| nop.stat_sn = nop.stat_sn.get().wrapping_sub(1).into()),
    ),
];

const fn fault(trips: &'static str, name: &'static str, saboteur: fn() -> Saboteur) -> Fault {
    Fault {
        name,
        trips,
        behind: Kind::Plain,
        saboteur,
    }
}

/// Rewrites answers to pings.
fn echoes(mut edit: impl FnMut(&mut NopIn, &mut Bytes) + Send + 'static) -> Saboteur {
    edit::responses(move |pdu| {
        if let Header::NopIn(nop) = &mut pdu.header {
            edit(nop, &mut pdu.data);
        }
    })
}

/// The target pings behind each answer of its own, and gets this wrong.
fn pinging(edit: fn(&mut NopIn, &mut Bytes)) -> Saboteur {
    Box::new(move |seen, _| match seen {
        Seen::Response(pdu) => {
            let Header::NopIn(echo) = &pdu.header else {
                return Act::Pass;
            };
            let mut nop = NopIn {
                initiator_task_tag: RESERVED_TAG.into(),
                target_transfer_tag: 9.into(),
                stat_sn: echo.stat_sn.get().wrapping_add(1).into(),
                ..*echo
            };
            let mut data = Bytes::new();
            edit(&mut nop, &mut data);
            Act::Replace(vec![pdu.clone(), Pdu::new(nop, data)])
        }
        _ => Act::Pass,
    })
}
