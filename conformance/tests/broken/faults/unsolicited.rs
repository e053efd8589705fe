//! Targets that take unsolicited data otherwise than was agreed.

use iscsi_proto::wire::Header;
use iscsi_proto::wire::bhs::FINAL;

use crate::broken::{Act, Fault, Saboteur, Seen, edit};

use super::numbering::{is_command, plain};
use super::r2t::aborted;

pub(crate) const FAULTS: &[Fault] = &[
    plain(
        "immediate data is taken, agreed or not",
        "unsolicited.immediate.not-agreed",
        || disagree("ImmediateData", "No", "Yes"),
    ),
    plain(
        "Data-Out is taken, asked for or not",
        "unsolicited.data-out.not-agreed",
        || disagree("InitialR2T", "Yes", "No"),
    ),
    plain(
        "too little unsolicited data will do",
        "unsolicited.too-little",
        || disagree("FirstBurstLength", "4096", "2048"),
    ),
    plain(
        "FirstBurstLength is not heeded",
        "unsolicited.too-much",
        || disagree("FirstBurstLength", "4096", "6144"),
    ),
    plain(
        "immediate data beyond FirstBurstLength is lost",
        "unsolicited.immediate.too-much",
        || {
            let mut agreement = disagree("FirstBurstLength", "1024", "4096");
            Box::new(move |seen, lane| match seen {
                Seen::Request(pdu) if is_command(pdu, 0x2a) && pdu.data.len() == 2048 => {
                    let mut pdu = pdu.clone();
                    let mut data = pdu.data.to_vec();
                    data[1024..].fill(0);
                    pdu.data = data.into();
                    Act::Replace(vec![pdu])
                }
                _ => agreement(seen, lane),
            })
        },
    ),
    plain(
        "an error is reported before the data came",
        "unsolicited.failure.waits",
        || {
            Box::new(|seen, lane| match seen {
                Seen::Request(pdu)
                    if is_command(pdu, 0x2a)
                        && matches!(&pdu.header, Header::ScsiCommand(c) if c.flags & FINAL == 0) =>
                {
                    let status = aborted(pdu, lane);
                    lane.to_initiator(status);
                    Act::Replace(Vec::new())
                }
                _ => Act::Pass,
            })
        },
    ),
    plain("FirstBurstLength is halved", "unsolicited.exactly", || {
        disagree("FirstBurstLength", "4096", "2048")
    }),
];

/// Answers a key with one value, and behaves according to another.
fn disagree(key: &'static str, told: &'static str, meant: &'static str) -> Saboteur {
    let swap = |from: &'static str, to: &'static str| {
        move |pairs: &mut Vec<(String, String)>| {
            for (name, value) in pairs {
                if name == key && value == from {
                    to.clone_into(value);
                }
            }
        }
    };
    let mut asked = edit::asked_keys(swap(told, meant));
    let mut answered = edit::answered_keys(swap(meant, told));
    Box::new(move |seen, lane| match seen {
        Seen::Request(_) => asked(seen, lane),
        _ => answered(seen, lane),
    })
}
