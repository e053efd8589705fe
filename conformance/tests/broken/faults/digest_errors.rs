//! Targets that do not look at digests, or do the wrong thing about them.

use std::collections::BTreeSet;

use bytes::Bytes;
use iscsi_proto::wire::bhs::{FINAL, NopIn, Reject, ScsiResponse};
use iscsi_proto::wire::{Header, Pdu};

use crate::broken::{Act, Fault, Saboteur, Seen, edit};

use super::numbering::{CMD_SN, STAT_SN, TAG, add, is_command, is_status, plain, word};

pub(crate) const FAULTS: &[Fault] = &[
    plain(
        "the header digest of a ping is not looked at",
        "digest.header.wrong.ping",
        blind,
    ),
    plain(
        "the header digest of a command is not looked at",
        "digest.header.wrong.write",
        blind,
    ),
    plain(
        "the data digest of a ping is not looked at",
        "digest.data.wrong.ping",
        blind,
    ),
    plain(
        "a wrong data digest is a protocol error",
        "digest.data.wrong.ping",
        || rejects(|reject| reject.reason = 4),
    ),
    plain(
        "a rejected ping is echoed all the same",
        "digest.data.wrong.ping",
        || {
            let mut last = None;
            Box::new(move |seen, _| match seen {
                Seen::Request(pdu) => {
                    last = matches!(pdu.header, Header::NopOut(_)).then(|| pdu.clone());
                    Act::Pass
                }
                Seen::Response(pdu) => match (&pdu.header, last.take()) {
                    (Header::Reject(reject), Some(ping)) => Act::Replace(vec![
                        pdu.clone(),
                        Pdu::new(
                            NopIn {
                                flags: FINAL,
                                initiator_task_tag: word(&ping, TAG).into(),
                                target_transfer_tag: u32::MAX.into(),
                                stat_sn: reject.stat_sn,
                                exp_cmd_sn: reject.exp_cmd_sn,
                                max_cmd_sn: reject.max_cmd_sn,
                                ..NopIn::default()
                            },
                            ping.data,
                        ),
                    ]),
                    _ => Act::Pass,
                },
                Seen::TargetClosed => Act::Pass,
            })
        },
    ),
    plain(
        "the data digest of a text is not looked at",
        "digest.data.wrong.text",
        blind,
    ),
    plain(
        "damaged texts are dropped without a word",
        "digest.data.wrong.text",
        || edit::swallow_responses(|pdu| matches!(pdu.header, Header::Reject(_))),
    ),
    plain(
        "a Reject uses no StatSN up",
        "digest.data.wrong.reject",
        || {
            edit::responses(|pdu| {
                if matches!(pdu.header, Header::Reject(_)) {
                    add(pdu, STAT_SN, u32::MAX);
                }
            })
        },
    ),
    plain(
        "a Reject does not say what it rejects",
        "digest.data.wrong.reject",
        || {
            edit::responses(|pdu| {
                if matches!(pdu.header, Header::Reject(_)) {
                    pdu.data = vec![0; 48].into();
                }
            })
        },
    ),
    plain(
        "a Reject names the task",
        "digest.data.wrong.reject",
        || rejects(|reject| reject.initiator_task_tag = 1.into()),
    ),
    plain(
        "the digest of immediate data is not looked at",
        "digest.data.wrong.command",
        blind,
    ),
    plain(
        "a rejected WRITE is carried out",
        "digest.data.wrong.command",
        || {
            let (mut writes, mut rejected) = (0, None);
            Box::new(move |seen, lane| match seen {
                Seen::Request(pdu) if is_command(pdu, 0x2a) => {
                    writes += 1;
                    if writes > 1 {
                        rejected = Some(pdu.clone());
                    }
                    Act::Replace(vec![pdu.clone()])
                }
                // When the status comes, the data is on the medium.
                Seen::Response(pdu) if is_status(pdu) => match rejected.take() {
                    Some(command) => Act::Replace(vec![edit::reject(&command, 2, lane)]),
                    None => Act::Pass,
                },
                _ => Act::Pass,
            })
        },
    ),
    plain(
        "a damaged command counts as received",
        "digest.data.wrong.retry",
        || {
            let mut numbers = BTreeSet::new();
            edit::swallow_requests(move |pdu| {
                is_command(pdu, 0x2a) && !numbers.insert(word(pdu, CMD_SN))
            })
        },
    ),
    plain(
        "the digest of Data-Out is not looked at",
        "digest.data.wrong.data-out",
        blind,
    ),
    plain(
        "damaged Data-Out is an incorrect amount of data",
        "digest.data.wrong.data-out",
        || {
            edit::responses(|pdu| {
                if is_status(pdu) && pdu.data.get(14) == Some(&0x47) {
                    let mut data = pdu.data.to_vec();
                    data[14..16].copy_from_slice(&[0x0c, 0x0d]);
                    pdu.data = data.into();
                }
            })
        },
    ),
    plain(
        "damaged Data-Out is forgotten",
        "digest.data.wrong.data-out",
        || edit::swallow_responses(|pdu| pdu.data.get(14) == Some(&0x47)),
    ),
    plain(
        "the error is reported before the data is over",
        "digest.data.wrong.waits",
        || {
            Box::new(|seen, _| match seen {
                Seen::Response(pdu) => match &pdu.header {
                    Header::Reject(reject) => {
                        let bad = pdu.data.get(16..20).unwrap().try_into().unwrap();
                        let status = ScsiResponse {
                            flags: FINAL,
                            status: 2,
                            initiator_task_tag: u32::from_be_bytes(bad).into(),
                            stat_sn: (reject.stat_sn.get() + 1).into(),
                            exp_cmd_sn: reject.exp_cmd_sn,
                            max_cmd_sn: reject.max_cmd_sn,
                            ..ScsiResponse::default()
                        };
                        Act::Replace(vec![pdu.clone(), Pdu::bare(status)])
                    }
                    _ => Act::Pass,
                },
                _ => Act::Pass,
            })
        },
    ),
    plain(
        "damaged data is not missed",
        "digest.data.wrong.waits",
        || {
            edit::responses(|pdu| {
                if let Header::ScsiResponse(response) = &mut pdu.header
                    && pdu.data.get(14) == Some(&0x47)
                {
                    response.status = 0;
                    pdu.data = Bytes::new();
                }
            })
        },
    ),
];

/// Every request goes on with right digests, whatever it came with.
fn blind() -> Saboteur {
    Box::new(|seen, _| match seen {
        Seen::Request(pdu) => Act::Replace(vec![pdu.clone()]),
        _ => Act::Pass,
    })
}

fn rejects(edit: fn(&mut Reject)) -> Saboteur {
    edit::responses(move |pdu| {
        if let Header::Reject(reject) = &mut pdu.header {
            edit(reject);
        }
    })
}
