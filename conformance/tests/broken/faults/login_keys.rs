//! Targets that break the rules of `login_keys`.

use bytes::Bytes;

use super::logins::{grant, mute, names, refuse, status, value, without};
use crate::broken::{Fault, Kind, Saboteur, edit};

pub(crate) const FAULTS: &[Fault] = &[
    Fault {
        name: "unknown keys are passed over in silence",
        trips: "login.keys.unknown",
        behind: Kind::Plain,
        saboteur: || without("NobodyHasThisKey"),
    },
    Fault {
        name: "unknown keys are rejected",
        trips: "login.keys.unknown",
        behind: Kind::Plain,
        saboteur: || value("NobodyHasThisKey", "Reject"),
    },
    Fault {
        name: "private keys end the login",
        trips: "login.keys.private",
        behind: Kind::Plain,
        saboteur: || {
            refuse(0x0200, |_, pairs| {
                pairs.iter().any(|(key, _)| key.starts_with("X-"))
            })
        },
    },
    Fault {
        name: "keys are cut after 32 characters",
        trips: "login.keys.longest",
        behind: Kind::Plain,
        saboteur: || cut(32),
    },
    Fault {
        name: "keys are cut after 63 characters",
        trips: "login.keys.too-long",
        behind: Kind::Plain,
        saboteur: || {
            grant(|_, pairs| {
                let long = pairs.iter().find(|(key, _)| key.len() == 64)?;
                let text = format!("{}=NotUnderstood\0", &long.0[..63]);
                Some((0x04, Bytes::from(text)))
            })
        },
    },
    Fault {
        name: "keys are compared without regard to case",
        trips: "login.keys.case",
        behind: Kind::Plain,
        saboteur: || {
            edit::asked_keys(|pairs| {
                for (key, _) in pairs.iter_mut().filter(|(key, _)| key == "Headerdigest") {
                    "HeaderDigest".clone_into(key);
                }
            })
        },
    },
    Fault {
        name: "DataSequenceInOrder is not understood",
        trips: "login.keys.known",
        behind: Kind::Plain,
        saboteur: || value("DataSequenceInOrder", "NotUnderstood"),
    },
    Fault {
        name: "MaxOutstandingR2T is left without an answer",
        trips: "login.keys.known",
        behind: Kind::Plain,
        saboteur: || without("MaxOutstandingR2T"),
    },
    Fault {
        name: "TaskReporting is not understood",
        trips: "login.keys.task-reporting",
        behind: Kind::Plain,
        saboteur: || value("TaskReporting", "NotUnderstood"),
    },
    Fault {
        name: "TaskReporting is answered by a list",
        trips: "login.keys.task-reporting",
        behind: Kind::Plain,
        saboteur: || value("TaskReporting", "RFC3720,ResponseFence"),
    },
    Fault {
        name: "iSCSIProtocolLevel is not understood",
        trips: "login.keys.protocol-level",
        behind: Kind::Plain,
        saboteur: || value("iSCSIProtocolLevel", "NotUnderstood"),
    },
    Fault {
        name: "iSCSIProtocolLevel is the highest of the target",
        trips: "login.keys.protocol-level",
        behind: Kind::Plain,
        saboteur: || value("iSCSIProtocolLevel", "2"),
    },
    Fault {
        name: "markers are agreed upon",
        trips: "login.keys.markers",
        behind: Kind::Plain,
        saboteur: || value("IFMarker", "Yes"),
    },
    Fault {
        name: "markers are not understood",
        trips: "login.keys.markers",
        behind: Kind::Plain,
        saboteur: || value("OFMarker", "NotUnderstood"),
    },
    Fault {
        name: "intervals of markers are not understood",
        trips: "login.keys.marker-intervals",
        behind: Kind::Plain,
        saboteur: || value("IFMarkInt", "NotUnderstood"),
    },
    Fault {
        name: "intervals of markers are irrelevant",
        trips: "login.keys.marker-intervals",
        behind: Kind::Plain,
        saboteur: || value("OFMarkInt", "Irrelevant"),
    },
    Fault {
        name: "whoever says what it is made of is refused",
        trips: "login.keys.architecture",
        behind: Kind::Plain,
        saboteur: || refuse(0x0200, |_, pairs| names(pairs, "X#NodeArchitecture")),
    },
    Fault {
        name: "an alias is not understood",
        trips: "login.keys.alias",
        behind: Kind::Plain,
        saboteur: || said("InitiatorAlias", "NotUnderstood"),
    },
    Fault {
        name: "an alias has room for 64 bytes",
        trips: "login.keys.alias",
        behind: Kind::Plain,
        saboteur: || {
            refuse(0x0200, |_, pairs| {
                let long =
                    |(key, value): &(String, String)| key == "InitiatorAlias" && value.len() > 64;
                pairs.iter().any(long)
            })
        },
    },
    Fault {
        name: "MaxRecvDataSegmentLength is answered as if it were negotiated",
        trips: "login.keys.max-recv-data",
        behind: Kind::Plain,
        saboteur: || value("MaxRecvDataSegmentLength", "Irrelevant"),
    },
    Fault {
        name: "the target takes segments of 256 bytes",
        trips: "login.keys.max-recv-data",
        behind: Kind::Plain,
        saboteur: || value("MaxRecvDataSegmentLength", "256"),
    },
    Fault {
        name: "SendTargets is answered in the login",
        trips: "login.keys.send-targets",
        behind: Kind::Plain,
        saboteur: || {
            const TEXT: &[u8] = b"TargetName=iqn.2013-07.org.vmthunder:sound\0";
            grant(|_, pairs| {
                let asked = names(pairs, "SendTargets");
                asked.then(|| (0x04, Bytes::from_static(TEXT)))
            })
        },
    },
    Fault {
        name: "the portal group is not told",
        trips: "login.keys.portal-group",
        behind: Kind::Plain,
        saboteur: || without("TargetPortalGroupTag"),
    },
    Fault {
        name: "the portal group has 17 bits",
        trips: "login.keys.portal-group",
        behind: Kind::Plain,
        saboteur: || value("TargetPortalGroupTag", "65536"),
    },
    Fault {
        name: "the portal group is told with the first response, complete or not",
        trips: "login.keys.portal-group-later",
        behind: Kind::Plain,
        saboteur: || {
            let mut first = true;
            edit::answered_keys(move |pairs| {
                if !std::mem::take(&mut first) {
                    pairs.retain(|(key, _)| key != "TargetPortalGroupTag");
                }
            })
        },
    },
    Fault {
        name: "the initiator's name comes back",
        trips: "login.keys.senders",
        behind: Kind::Plain,
        saboteur: || said("InitiatorName", "iqn.2013-07.org.vmthunder:conformance"),
    },
    Fault {
        name: "the target's name is told in the login",
        trips: "login.keys.senders",
        behind: Kind::Plain,
        saboteur: || said("TargetName", "iqn.2013-07.org.vmthunder:sound"),
    },
    Fault {
        name: "the portal group is told in every response",
        trips: "login.keys.said-once",
        behind: Kind::Plain,
        saboteur: || said("TargetPortalGroupTag", "1"),
    },
    Fault {
        name: "of a key that comes twice the first counts",
        trips: "login.redeclared.at-once",
        behind: Kind::Plain,
        saboteur: || edit::asked_keys(|pairs| pairs.dedup_by(|one, other| one.0 == other.0)),
    },
    Fault {
        name: "who says a key twice is cut off without a word",
        trips: "login.redeclared.at-once",
        behind: Kind::Plain,
        saboteur: || mute(),
    },
    Fault {
        name: "a key may be negotiated anew in each request",
        trips: "login.redeclared.later",
        behind: Kind::Plain,
        saboteur: || again("MaxBurstLength"),
    },
    Fault {
        name: "a key that comes again is the target's error",
        trips: "login.redeclared.later",
        behind: Kind::Plain,
        saboteur: || status(0x0300),
    },
    Fault {
        name: "a declaration may be repeated",
        trips: "login.redeclared.declaration",
        behind: Kind::Plain,
        saboteur: || again("MaxRecvDataSegmentLength"),
    },
    Fault {
        name: "InitiatorName is looked at in the first request only",
        trips: "login.redeclared.initiator-name",
        behind: Kind::Plain,
        saboteur: || again("InitiatorName"),
    },
    Fault {
        name: "TargetName is looked at in the first request only",
        trips: "login.redeclared.target-name",
        behind: Kind::Plain,
        saboteur: || again("TargetName"),
    },
];

/// Cuts the keys of answers.
fn cut(bytes: usize) -> Saboteur {
    edit::answered_keys(move |pairs| pairs.iter_mut().for_each(|(key, _)| key.truncate(bytes)))
}

/// Says something more in every response of a login.
fn said(key: &'static str, value: &'static str) -> Saboteur {
    edit::answered_keys(move |pairs| pairs.push((key.to_owned(), value.to_owned())))
}

/// Looks at a key only once in a login.
fn again(key: &'static str) -> Saboteur {
    let mut seen = false;
    edit::asked_keys(move |pairs| {
        if seen {
            pairs.retain(|(name, _)| name != key);
        }
        seen |= names(pairs, key);
    })
}
