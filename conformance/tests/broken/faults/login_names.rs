//! Targets that break the rules of `login_names`.

use super::logins::{asked, mute, names, refuse, status};
use crate::broken::{Fault, Kind, NAME, Saboteur, edit};

pub(crate) const FAULTS: &[Fault] = &[
    Fault {
        name: "whoever has no name is called anonymous",
        trips: "login.names.no-initiator",
        behind: Kind::Plain,
        saboteur: || supplied("InitiatorName", "iqn.2013-07.org.vmthunder:anonymous"),
    },
    Fault {
        name: "a missing name is the target's error",
        trips: "login.names.no-initiator",
        behind: Kind::Plain,
        saboteur: || status(0x0300),
    },
    Fault {
        name: "whoever has an empty name is called anonymous",
        trips: "login.names.empty-initiator",
        behind: Kind::Plain,
        saboteur: || {
            asked("InitiatorName", |name| {
                let anonymous = "iqn.2013-07.org.vmthunder:anonymous";
                let name = if name.is_empty() { anonymous } else { name };
                name.to_owned()
            })
        },
    },
    Fault {
        name: "the names of initiators have room for 200 bytes",
        trips: "login.names.longest-initiator",
        behind: Kind::Plain,
        saboteur: || room("InitiatorName"),
    },
    Fault {
        name: "whoever names no target gets the first one",
        trips: "login.names.no-target",
        behind: Kind::Plain,
        saboteur: || supplied("TargetName", NAME),
    },
    Fault {
        name: "who names no target is cut off without a word",
        trips: "login.names.no-target",
        behind: Kind::Plain,
        saboteur: || mute(),
    },
    Fault {
        name: "a target that nobody has is not operational",
        trips: "login.names.unknown-target",
        behind: Kind::Plain,
        saboteur: || status(0x0301),
    },
    Fault {
        name: "whoever names a target that nobody has gets the first one",
        trips: "login.names.unknown-target",
        behind: Kind::Plain,
        saboteur: || asked("TargetName", |_| NAME.to_owned()),
    },
    Fault {
        name: "the names of targets have room for 200 bytes",
        trips: "login.names.longest-target",
        behind: Kind::Plain,
        saboteur: || room("TargetName"),
    },
    Fault {
        name: "the first key has to be InitiatorName",
        trips: "login.names.any-order",
        behind: Kind::Plain,
        saboteur: || {
            refuse(0x0207, |request, pairs| {
                let first = pairs.first().map(|(key, _)| key.as_str());
                request.flags & 0x0c == 0 && first != Some("InitiatorName")
            })
        },
    },
    Fault {
        name: "any SessionType but Discovery is taken for Normal",
        trips: "login.names.session-type",
        behind: Kind::Plain,
        saboteur: || asked("SessionType", |_| "Normal".to_owned()),
    },
    Fault {
        name: "SessionType is compared without regard to case",
        trips: "login.names.session-type-case",
        behind: Kind::Plain,
        saboteur: || asked("SessionType", |_| "Normal".to_owned()),
    },
    Fault {
        name: "a login without SessionType is for discovery",
        trips: "login.names.session-type-left-out",
        behind: Kind::Plain,
        saboteur: || supplied("SessionType", "Discovery"),
    },
];

/// Puts a key into a first request that lacks it.
fn supplied(key: &'static str, value: &'static str) -> Saboteur {
    let mut first = true;
    edit::asked_keys(move |pairs| {
        if std::mem::take(&mut first) && !names(pairs, key) {
            pairs.push((key.to_owned(), value.to_owned()));
        }
    })
}

/// Refuses names that are longer than it has room for.
fn room(key: &'static str) -> Saboteur {
    refuse(0x0200, move |_, pairs| {
        let long = |(name, value): &(String, String)| name == key && value.len() > 200;
        pairs.iter().any(long)
    })
}
