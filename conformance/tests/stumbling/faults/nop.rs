//! Initiators that ping, or answer pings, wrongly.

use iscsi_proto::wire::Header;
use iscsi_proto::wire::bhs::{NopOut, RESERVED_TAG};

use crate::stumbling::{Fault, Saboteur, edit};

pub(crate) const FAULTS: &[Fault] = &[
    Fault {
        name: "pings are not answered",
        trips: "nop.answered",
        saboteur: || {
            edit::swallow_requests(
                |pdu| matches!(&pdu.header, Header::NopOut(nop) if is_answer(nop)),
            )
        },
    },
    Fault {
        name: "answers to pings have another Target Transfer Tag",
        trips: "nop.answered",
        saboteur: || answers(|nop| nop.target_transfer_tag = 0x1234.into()),
    },
    Fault {
        name: "answers to pings are numbered",
        trips: "nop.answered.form",
        saboteur: || answers(|nop| nop.opcode = 0),
    },
    Fault {
        name: "answers to pings ask for answers",
        trips: "nop.answered.form",
        saboteur: || answers(|nop| nop.initiator_task_tag = 0x4444.into()),
    },
    Fault {
        name: "answers to pings lose the F bit",
        trips: "nop.answered.form",
        saboteur: || answers(|nop| nop.flags = 0),
    },
    Fault {
        name: "answers to pings lose the LUN",
        trips: "nop.answered.lun",
        saboteur: || answers(|nop| nop.lun = 0.into()),
    },
    Fault {
        name: "every second ping is answered",
        trips: "nop.answered.each",
        saboteur: || {
            let mut second = false;
            edit::swallow_requests(move |pdu| {
                let answer = matches!(&pdu.header, Header::NopOut(nop) if is_answer(nop));
                second ^= answer;
                answer && !second
            })
        },
    },
    Fault {
        name: "one tag answers all pings",
        trips: "nop.answered.each",
        saboteur: || {
            let mut first = None;
            answers(move |nop| {
                let tag = *first.get_or_insert(nop.target_transfer_tag);
                nop.target_transfer_tag = tag;
            })
        },
    },
    Fault {
        name: "every NOP-In is answered",
        trips: "nop.unanswered",
        saboteur: || {
            Box::new(|seen, lane| {
                if let crate::stumbling::Seen::Response(pdu) = seen
                    && let Header::NopIn(nop) = &pdu.header
                    && nop.target_transfer_tag.get() == RESERVED_TAG
                {
                    lane.to_target(iscsi_proto::wire::Pdu::bare(NopOut {
                        opcode: 0x40,
                        flags: 0x80,
                        initiator_task_tag: RESERVED_TAG.into(),
                        target_transfer_tag: RESERVED_TAG.into(),
                        cmd_sn: nop.exp_cmd_sn,
                        exp_stat_sn: nop.stat_sn,
                        ..NopOut::default()
                    }));
                }
                crate::stumbling::Act::Pass
            })
        },
    },
    Fault {
        name: "pings have a Target Transfer Tag",
        trips: "nop.own",
        saboteur: || pings(|nop| nop.target_transfer_tag = 0.into()),
    },
    Fault {
        name: "pings lose the F bit",
        trips: "nop.own",
        saboteur: || pings(|nop| nop.flags = 0),
    },
];

fn is_answer(nop: &NopOut) -> bool {
    nop.target_transfer_tag.get() != RESERVED_TAG
}

fn answers(mut edit: impl FnMut(&mut NopOut) + Send + 'static) -> Saboteur {
    edit::requests(move |pdu| {
        if let Header::NopOut(nop) = &mut pdu.header
            && is_answer(nop)
        {
            edit(nop);
        }
    })
}

fn pings(mut edit: impl FnMut(&mut NopOut) + Send + 'static) -> Saboteur {
    edit::requests(move |pdu| {
        if let Header::NopOut(nop) = &mut pdu.header
            && !is_answer(nop)
        {
            edit(nop);
        }
    })
}
