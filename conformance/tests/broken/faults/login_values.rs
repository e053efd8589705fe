//! Targets that break the rules of `login_values`.

use super::logins::{asked, echo, value, without};
use crate::broken::{Fault, Kind};

pub(crate) const FAULTS: &[Fault] = &[
    Fault {
        name: "InitialR2T is No whenever the target can do without",
        trips: "login.values.initial-r2t",
        behind: Kind::Plain,
        saboteur: || value("InitialR2T", "No"),
    },
    Fault {
        name: "InitialR2T=No is left without an answer",
        trips: "login.values.initial-r2t",
        behind: Kind::Plain,
        saboteur: || without("InitialR2T"),
    },
    Fault {
        name: "ImmediateData is Yes whenever the target can take it",
        trips: "login.values.immediate-data",
        behind: Kind::Plain,
        saboteur: || value("ImmediateData", "Yes"),
    },
    Fault {
        name: "ImmediateData=Yes is left without an answer",
        trips: "login.values.immediate-data",
        behind: Kind::Plain,
        saboteur: || without("ImmediateData"),
    },
    Fault {
        name: "DataPDUInOrder is settled by AND",
        trips: "login.values.data-pdu-in-order",
        behind: Kind::Plain,
        saboteur: || value("DataPDUInOrder", "No"),
    },
    Fault {
        name: "DataPDUInOrder is rejected",
        trips: "login.values.data-pdu-in-order",
        behind: Kind::Plain,
        saboteur: || value("DataPDUInOrder", "Reject"),
    },
    Fault {
        name: "DataSequenceInOrder=No is left without an answer",
        trips: "login.values.data-sequence-in-order",
        behind: Kind::Plain,
        saboteur: || without("DataSequenceInOrder"),
    },
    Fault {
        name: "whatever a boolean is, it is taken over",
        trips: "login.values.boolean-illegal",
        behind: Kind::Plain,
        saboteur: || echo("InitialR2T"),
    },
    Fault {
        name: "a boolean that is none is not understood",
        trips: "login.values.boolean-illegal",
        behind: Kind::Plain,
        saboteur: || value("ImmediateData", "NotUnderstood"),
    },
    Fault {
        name: "booleans are compared without regard to case",
        trips: "login.values.boolean-case",
        behind: Kind::Plain,
        saboteur: || echo("ImmediateData"),
    },
    Fault {
        name: "MaxBurstLength is what the target likes",
        trips: "login.values.max-burst",
        behind: Kind::Plain,
        saboteur: || value("MaxBurstLength", "1048576"),
    },
    Fault {
        name: "MaxBurstLength is rejected",
        trips: "login.values.max-burst",
        behind: Kind::Plain,
        saboteur: || value("MaxBurstLength", "Reject"),
    },
    Fault {
        name: "FirstBurstLength is what the target likes",
        trips: "login.values.first-burst",
        behind: Kind::Plain,
        saboteur: || value("FirstBurstLength", "262144"),
    },
    Fault {
        name: "MaxConnections is what the target likes",
        trips: "login.values.max-connections",
        behind: Kind::Plain,
        saboteur: || value("MaxConnections", "8"),
    },
    Fault {
        name: "MaxOutstandingR2T is what the target likes",
        trips: "login.values.max-outstanding-r2t",
        behind: Kind::Plain,
        saboteur: || value("MaxOutstandingR2T", "4"),
    },
    Fault {
        name: "DefaultTime2Wait is settled by the minimum",
        trips: "login.values.time2wait",
        behind: Kind::Plain,
        saboteur: || value("DefaultTime2Wait", "2"),
    },
    Fault {
        name: "DefaultTime2Retain is what the target likes",
        trips: "login.values.time2retain",
        behind: Kind::Plain,
        saboteur: || value("DefaultTime2Retain", "20"),
    },
    Fault {
        name: "ErrorRecoveryLevel is the highest of the target",
        trips: "login.values.error-recovery-level",
        behind: Kind::Plain,
        saboteur: || value("ErrorRecoveryLevel", "2"),
    },
    Fault {
        name: "ErrorRecoveryLevel is left without an answer",
        trips: "login.values.error-recovery-level",
        behind: Kind::Plain,
        saboteur: || without("ErrorRecoveryLevel"),
    },
    Fault {
        name: "a MaxBurstLength of 511 is taken",
        trips: "login.values.too-small",
        behind: Kind::Plain,
        saboteur: || echo("MaxBurstLength"),
    },
    Fault {
        name: "a MaxConnections of 0 is taken",
        trips: "login.values.too-small",
        behind: Kind::Plain,
        saboteur: || echo("MaxConnections"),
    },
    Fault {
        name: "an ErrorRecoveryLevel of 3 is taken",
        trips: "login.values.too-big",
        behind: Kind::Plain,
        saboteur: || echo("ErrorRecoveryLevel"),
    },
    Fault {
        name: "a MaxOutstandingR2T of 65536 wraps",
        trips: "login.values.too-big",
        behind: Kind::Plain,
        saboteur: || value("MaxOutstandingR2T", "0"),
    },
    Fault {
        name: "a range is taken for a number",
        trips: "login.values.no-number",
        behind: Kind::Plain,
        saboteur: || echo("MaxBurstLength"),
    },
    Fault {
        name: "what is no number is left without an answer",
        trips: "login.values.no-number",
        behind: Kind::Plain,
        saboteur: || without("MaxConnections"),
    },
    Fault {
        name: "hexadecimal numbers end at the x",
        trips: "login.values.hex",
        behind: Kind::Plain,
        saboteur: || {
            asked("MaxBurstLength", |value| {
                let end = value.find(['x', 'X']).unwrap_or(value.len());
                value[..end].to_owned()
            })
        },
    },
    Fault {
        name: "FirstBurstLength is not held against MaxBurstLength",
        trips: "login.values.first-above-max",
        behind: Kind::Plain,
        saboteur: || echo("FirstBurstLength"),
    },
    Fault {
        name: "FirstBurstLength is raised to MaxBurstLength",
        trips: "login.values.first-below-max",
        behind: Kind::Plain,
        saboteur: || value("FirstBurstLength", "65536"),
    },
    Fault {
        name: "FirstBurstLength is not understood where it is irrelevant",
        trips: "login.values.first-irrelevant",
        behind: Kind::Plain,
        saboteur: || value("FirstBurstLength", "NotUnderstood"),
    },
    Fault {
        name: "the target's order of digests counts",
        trips: "login.values.header-digest-order",
        behind: Kind::Plain,
        saboteur: || {
            asked("HeaderDigest", |list| {
                list.split(',').rev().collect::<Vec<_>>().join(",")
            })
        },
    },
    Fault {
        name: "None is chosen wherever it is offered",
        trips: "login.values.data-digest-order",
        behind: Kind::Plain,
        saboteur: || {
            asked("DataDigest", |list| {
                let none = list.split(',').find(|digest| *digest == "None");
                none.unwrap_or(list).to_owned()
            })
        },
    },
    Fault {
        name: "a list with an unknown digest in it is rejected",
        trips: "login.values.list-unknown-ignored",
        behind: Kind::Plain,
        saboteur: || {
            asked("DataDigest", |list| {
                let first = list.split(',').next();
                first.unwrap_or_default().to_owned()
            })
        },
    },
    Fault {
        name: "None is chosen although it was not offered",
        trips: "login.values.list-none-known",
        behind: Kind::Plain,
        saboteur: || value("HeaderDigest", "None"),
    },
    Fault {
        name: "a list is answered by itself",
        trips: "login.values.list-none-known",
        behind: Kind::Plain,
        saboteur: || echo("DataDigest"),
    },
    Fault {
        name: "digests are compared without regard to case",
        trips: "login.values.list-case",
        behind: Kind::Plain,
        saboteur: || asked("HeaderDigest", str::to_uppercase),
    },
];
