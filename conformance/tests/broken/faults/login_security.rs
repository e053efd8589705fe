//! Targets that break the rules of `login_security`.

use bytes::Bytes;
use iscsi_proto::wire::Header;

use super::logins::{Pairs, grant, names, pairs, refuse};
use crate::broken::{Fault, Kind, Saboteur, edit};

pub(crate) const FAULTS: &[Fault] = &[
    Fault {
        name: "whoever knows no method of ours need not prove anything",
        trips: "login.security.none-known",
        behind: Kind::Plain,
        saboteur: || {
            offer(|methods| {
                if methods.starts_with("Z-") {
                    "None".clone_into(methods);
                }
            })
        },
    },
    Fault {
        name: "a list with an unknown method in it is refused",
        trips: "login.security.unknown-ignored",
        behind: Kind::Plain,
        saboteur: || {
            refuse(0x0200, |_, pairs| {
                pairs.iter().any(|(_, value)| value.starts_with("Z-"))
            })
        },
    },
    Fault {
        name: "the first method is chosen, known or not",
        trips: "login.security.unknown-ignored",
        behind: Kind::Plain,
        saboteur: || chosen(|list| list.split(',').next().map(str::to_owned)),
    },
    Fault {
        name: "None is chosen although it was not offered",
        trips: "login.security.not-offered",
        behind: Kind::Plain,
        saboteur: || {
            offer(|methods| {
                if methods == "CHAP" {
                    "None".clone_into(methods);
                }
            })
        },
    },
    Fault {
        name: "the last method of a list is chosen",
        trips: "login.security.order",
        behind: Kind::Plain,
        saboteur: || {
            chosen(|list| {
                let last = list.rsplit(',').next();
                last.map(str::to_owned)
            })
        },
    },
    Fault {
        name: "only the first method of a list is looked at",
        trips: "login.security.order",
        behind: Kind::Plain,
        saboteur: || {
            offer(|methods| {
                if let Some((first, _)) = methods.split_once(',') {
                    *methods = first.to_owned();
                }
            })
        },
    },
    Fault {
        name: "AuthMethod is missing, so the login is refused",
        trips: "login.security.left-out",
        behind: Kind::Plain,
        saboteur: || refuse(0x0207, |_, pairs| !names(pairs, "AuthMethod")),
    },
    Fault {
        name: "MaxRecvDataSegmentLength is declared in the security stage",
        trips: "login.security.own-keys",
        behind: Kind::Plain,
        saboteur: || {
            edit::responses(|pdu| {
                if matches!(&pdu.header, Header::LoginResponse(header) if header.flags & 0x0c == 0)
                {
                    let mut pairs = pairs(&pdu.data);
                    pairs.push(("MaxRecvDataSegmentLength".to_owned(), "8192".to_owned()));
                    pdu.data = iscsi_proto::wire::text::encode(&pairs);
                }
            })
        },
    },
    Fault {
        name: "operational keys are settled in the security stage",
        trips: "login.security.operational-key",
        behind: Kind::Plain,
        saboteur: || {
            const TEXT: &[u8] = b"TargetPortalGroupTag=1\0AuthMethod=None\0MaxBurstLength=65536\0";
            grant(|request, pairs| {
                let early = request.flags & 0x0c == 0 && names(pairs, "MaxBurstLength");
                early.then(|| (0x00, Bytes::from_static(TEXT)))
            })
        },
    },
    Fault {
        name: "a method is chosen in the operational stage",
        trips: "login.security.method-too-late",
        behind: Kind::Plain,
        saboteur: || {
            grant(|request, pairs| {
                let late = request.flags & 0x0c != 0 && names(pairs, "AuthMethod");
                late.then(|| (0x04, Bytes::from_static(b"AuthMethod=None\0")))
            })
        },
    },
];

/// Changes the AuthMethod list before the target sees it.
fn offer(mut edit: impl FnMut(&mut String) + Send + 'static) -> Saboteur {
    edit::asked_keys(move |pairs| {
        for (_, value) in pairs.iter_mut().filter(|(key, _)| key == "AuthMethod") {
            edit(value);
        }
    })
}

/// Answers the first request of a login with a method of a list of several.
fn chosen(choose: fn(&str) -> Option<String>) -> Saboteur {
    let list = |pairs: &Pairs| {
        let found = pairs.iter().find(|(key, _)| key == "AuthMethod");
        found.map(|(_, value)| value.clone())
    };
    grant(move |_, pairs| {
        let list = list(pairs).filter(|list| list.contains(','))?;
        let text = format!("TargetPortalGroupTag=1\0AuthMethod={}\0", choose(&list)?);
        Some((0x00, Bytes::from(text)))
    })
}
