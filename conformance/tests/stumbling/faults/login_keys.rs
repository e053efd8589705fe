//! Initiators that negotiate wrongly.

use iscsi_proto::wire::Header;
use iscsi_proto::wire::bhs::CONTINUE;
use iscsi_proto::wire::text;

use crate::stumbling::faults::login::value;
use crate::stumbling::{Act, Fault, Saboteur, Seen, edit};

pub(crate) const FAULTS: &[Fault] = &[
    Fault {
        name: "the InitiatorName in every request",
        trips: "login.keys.once",
        saboteur: || {
            edit::asked_keys(|keys| put(keys, "InitiatorName", "iqn.2013-07.org.example:again"))
        },
    },
    Fault {
        name: "a number that is out of its range",
        trips: "login.keys.values",
        saboteur: || value("MaxBurstLength", |_| "100".to_owned()),
    },
    Fault {
        name: "a boolean that is neither",
        trips: "login.keys.values",
        saboteur: || value("ImmediateData", |_| "yes".to_owned()),
    },
    Fault {
        name: "MaxConnections in the security stage",
        trips: "login.keys.stage",
        saboteur: || {
            let mut first = true;
            edit::asked_keys(move |keys| {
                if std::mem::take(&mut first) {
                    put(keys, "MaxConnections", "1");
                }
            })
        },
    },
    Fault {
        name: "AuthMethod in the operational stage",
        trips: "login.keys.stage",
        saboteur: || {
            let mut requests = 0;
            edit::asked_keys(move |keys| {
                requests += 1;
                if requests == 2 {
                    put(keys, "AuthMethod", "None");
                }
            })
        },
    },
    Fault {
        name: "proposes Reject",
        trips: "login.keys.constants",
        saboteur: || value("MaxOutstandingR2T", |_| "Reject".to_owned()),
    },
    Fault {
        name: "says nothing about unknown keys",
        trips: "login.keys.unknown",
        saboteur: || edit::asked_keys(|keys| keys.retain(|(key, _)| !key.starts_with("X-org.vm"))),
    },
    Fault {
        name: "accepts unknown keys",
        trips: "login.keys.unknown",
        saboteur: || value("X-org.vmthunder.drill", |_| "1".to_owned()),
    },
    Fault {
        name: "does not know TargetAlias",
        trips: "login.keys.known",
        saboteur: || {
            let mut requests = 0;
            edit::asked_keys(move |keys| {
                requests += 1;
                if requests == 6 {
                    put(keys, "TargetAlias", "NotUnderstood");
                }
            })
        },
    },
    Fault {
        name: "says nothing about proposals",
        trips: "login.keys.answered",
        saboteur: || answers_to_proposals(None),
    },
    Fault {
        name: "answers more than was proposed",
        trips: "login.keys.answered",
        saboteur: || answers_to_proposals(Some("30")),
    },
    Fault {
        name: "talks between the parts of a text",
        trips: "login.keys.continued",
        saboteur: || {
            let mut continues = false;
            Box::new(move |seen, _| match seen {
                Seen::Response(pdu) => {
                    continues = pdu.header.common().flags & CONTINUE != 0;
                    Act::Pass
                }
                Seen::Request(pdu) if std::mem::take(&mut continues) => {
                    let mut pdu = pdu.clone();
                    pdu.data = text::encode(&[("InitiatorAlias", "a talker")]);
                    Act::Replace(vec![pdu])
                }
                _ => Act::Pass,
            })
        },
    },
    Fault {
        name: "has no room for a long text",
        trips: "login.keys.long",
        saboteur: || hangs_up(|keys, bytes| bytes > 4096 && !keys.is_empty()),
    },
    Fault {
        name: "takes Irrelevant for a failure",
        trips: "login.keys.irrelevant",
        saboteur: || hangs_up(|keys, _| keys.iter().any(|(_, value)| value == "Irrelevant")),
    },
    Fault {
        name: "proposes again what was rejected",
        trips: "login.keys.rejected",
        saboteur: || {
            let mut hears = answered("MaxOutstandingR2T", "1");
            let mut says = edit::asked_keys(|keys| {
                if keys.iter().all(|(key, _)| key != "InitiatorName") {
                    put(keys, "MaxOutstandingR2T", "1");
                }
            });
            Box::new(move |seen, lane| match seen {
                Seen::Request(_) => says(seen, lane),
                _ => hears(seen, lane),
            })
        },
    },
    Fault {
        name: "takes an unknown digest for none",
        trips: "login.keys.digest-not-offered",
        saboteur: || answered("HeaderDigest", "None"),
    },
    Fault {
        name: "takes an unknown method for none",
        trips: "login.keys.method-not-offered",
        saboteur: || answered("AuthMethod", "None"),
    },
    Fault {
        name: "does not notice a second declaration",
        trips: "login.keys.redeclared",
        saboteur: || {
            let mut declared = false;
            edit::answered_keys(move |keys| {
                keys.retain(|(key, _)| {
                    key != "MaxRecvDataSegmentLength" || !std::mem::replace(&mut declared, true)
                });
            })
        },
    },
];

fn put(keys: &mut Vec<(String, String)>, key: &str, value: &str) {
    if keys.iter().all(|(name, _)| name != key) {
        keys.push((key.to_owned(), value.to_owned()));
    }
}

/// The initiator sees another answer than the target gave.
pub(crate) fn answered(key: &'static str, seen: &'static str) -> Saboteur {
    edit::answered_keys(move |keys| {
        for (name, value) in keys {
            if name == key {
                seen.clone_into(value);
            }
        }
    })
}

/// What the target proposes is answered by this, or not at all.
fn answers_to_proposals(answer: Option<&'static str>) -> Saboteur {
    let mut offered: Vec<String> = Vec::new();
    let mut proposed: Vec<String> = Vec::new();
    Box::new(move |seen, _| match seen {
        Seen::Response(pdu) if matches!(pdu.header, Header::LoginResponse(_)) => {
            let keys = text::parse(&pdu.data).unwrap_or_default();
            let fresh = keys.into_iter().map(|(key, _)| key);
            proposed.extend(fresh.filter(|key| {
                !offered.contains(key) && !key.starts_with("MaxRecv") && !key.starts_with("Target")
            }));
            Act::Pass
        }
        Seen::Request(pdu) if matches!(pdu.header, Header::LoginRequest(_)) => {
            let mut keys = text::parse(&pdu.data).unwrap_or_default();
            keys.retain_mut(|(key, value)| {
                if !proposed.contains(key) {
                    offered.push(key.clone());
                    return true;
                }
                answer
                    .inspect(|answer| (*answer).clone_into(value))
                    .is_some()
            });
            let mut pdu = pdu.clone();
            pdu.data = text::encode(&keys);
            Act::Replace(vec![pdu])
        }
        _ => Act::Pass,
    })
}

/// The initiator drops the connection when the target says something of this kind.
pub(crate) fn hangs_up(
    mut when: impl FnMut(&[(String, String)], usize) -> bool + Send + 'static,
) -> Saboteur {
    Box::new(move |seen, lane| {
        if let Seen::Response(pdu) = seen
            && matches!(
                pdu.header,
                Header::LoginResponse(_) | Header::TextResponse(_)
            )
        {
            let keys = text::parse(&pdu.data).unwrap_or_default();
            if when(&keys, pdu.data.len()) {
                lane.hang_up();
                return Act::Replace(Vec::new());
            }
        }
        Act::Pass
    })
}
