//! Targets that break the rules of `text_keys`.

use std::collections::BTreeSet;

use iscsi_proto::wire::bhs::FINAL;
use iscsi_proto::wire::{Header, text};

use crate::broken::faults::text::{requests, responses};
use crate::broken::{Act, Fault, Kind, Saboteur, Seen, edit};

pub(crate) const FAULTS: &[Fault] = &[
    fault("text.keys.unknown", "unknown keys are not answered", || {
        edit::answered_keys(|pairs| pairs.retain(|(_, value)| value != "NotUnderstood"))
    }),
    fault("text.keys.unknown", "unknown keys are rejected", || {
        answers("", "NotUnderstood", "Reject")
    }),
    fault(
        "text.keys.case",
        "keys are read without regard to case",
        || {
            edit::asked_keys(|pairs| {
                for (key, _) in pairs {
                    match key.as_str() {
                        "sendtargets" => "SendTargets".clone_into(key),
                        "INITIATORALIAS" => "InitiatorAlias".clone_into(key),
                        _ => {}
                    }
                }
            })
        },
    ),
    fault("text.keys.digests", "a digest is accepted late", || {
        answers("DataDigest", "Reject", "CRC32C")
    }),
    fault(
        "text.keys.digests",
        "keys of the login are forgotten behind it",
        || answers("HeaderDigest", "Reject", "NotUnderstood"),
    ),
    fault(
        "text.keys.leading-only",
        "the level of recovery is raised late",
        || answers("ErrorRecoveryLevel", "Reject", "2"),
    ),
    fault(
        "text.keys.leading-only",
        "keys of the leading login are forgotten",
        || answers("MaxConnections", "Reject", "NotUnderstood"),
    ),
    fault("text.keys.alias", "an alias is for the login alone", || {
        responses(|_, text| *text = text::encode(&[("InitiatorAlias", "Reject")]))
    }),
    fault("text.keys.obsolete", "markers are forgotten", || {
        answers("IFMarker", "No", "NotUnderstood")
    }),
    fault(
        "text.keys.obsolete",
        "the interval of markers is refused with No",
        || answers("OFMarkInt", "Reject", "No"),
    ),
    fault("text.keys.twice", "the last one counts", || {
        requests(|_, text| *text = once(text))
    }),
    fault("text.keys.twice", "the wrong reason is given", || {
        edit::responses(|pdu| {
            if let Header::Reject(reject) = &mut pdu.header {
                reject.reason = 0x09;
            }
        })
    }),
    fault(
        "text.segment.shorter",
        "the declaration has no effect",
        || requests(|_, text| *text = text::encode::<&str, &str>(&[])),
    ),
    fault(
        "text.segment.shorter",
        "the declaration is rejected",
        || responses(|_, text| *text = text::encode(&[("MaxRecvDataSegmentLength", "Reject")])),
    ),
    fault(
        "text.segment.longer",
        "the declaration is not understood",
        || {
            responses(|_, text| {
                *text = text::encode(&[("MaxRecvDataSegmentLength", "NotUnderstood")]);
            })
        },
    ),
    fault(
        "text.segment.restarted",
        "a declaration takes effect at once",
        || {
            let mut begun = BTreeSet::new();
            requests(move |request, _| {
                if begun.insert(request.initiator_task_tag.get()) {
                    request.flags |= FINAL;
                }
            })
        },
    ),
    fault(
        "text.segment.failed",
        "what is rejected takes effect",
        || {
            let mut damaged = None;
            Box::new(move |seen, lane| match seen {
                Seen::Request(pdu) if matches!(pdu.header, Header::TextRequest(_)) => {
                    let mut taken = pdu.clone();
                    taken.data = once(&pdu.data);
                    if taken.data != pdu.data {
                        damaged = Some(pdu.clone());
                    }
                    Act::Replace(vec![taken])
                }
                Seen::Response(pdu) if matches!(pdu.header, Header::TextResponse(_)) => {
                    let damaged = damaged.take().unwrap();
                    Act::Replace(vec![edit::reject(&damaged, 0x04, lane)])
                }
                _ => Act::Pass,
            })
        },
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

/// Answers another value for a key, or for every one, in the place of this one.
fn answers(key: &'static str, old: &'static str, new: &'static str) -> Saboteur {
    edit::answered_keys(move |pairs| {
        for (name, value) in pairs {
            if name.contains(key) && value == old {
                new.clone_into(value);
            }
        }
    })
}

/// Each key once, with the value that it has last.
fn once(segment: &[u8]) -> bytes::Bytes {
    let mut kept: Vec<(String, String)> = Vec::new();
    for (key, value) in text::parse(segment).unwrap_or_default() {
        kept.retain(|(name, _)| *name != key);
        kept.push((key, value));
    }
    text::encode(&kept)
}
