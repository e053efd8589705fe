//! Initiators that log in wrongly.

use iscsi_proto::wire::bhs::{FINAL, IMMEDIATE, LoginRequest, NopOut, RESERVED_TAG};
use iscsi_proto::wire::{Header, Pdu};

use crate::stumbling::faults::numbering::{add, change};
use crate::stumbling::{Act, Fault, Saboteur, Seen, edit};

pub(crate) const FAULTS: &[Fault] = &[
    Fault {
        name: "no InitiatorName",
        trips: "login.initiator-name",
        saboteur: || edit::asked_keys(|keys| keys.retain(|(key, _)| key != "InitiatorName")),
    },
    Fault {
        name: "an InitiatorName that is none",
        trips: "login.initiator-name",
        saboteur: || value("InitiatorName", |_| "my computer".to_owned()),
    },
    Fault {
        name: "no TargetName",
        trips: "login.target-name",
        saboteur: || edit::asked_keys(|keys| keys.retain(|(key, _)| key != "TargetName")),
    },
    Fault {
        name: "a new session with a TSIH",
        trips: "login.tsih",
        saboteur: || logins(|_, login| login.tsih = 0x7777.into()),
    },
    Fault {
        name: "the TSIH is set in the second request",
        trips: "login.tsih",
        saboteur: || logins(|number, login| login.tsih = u16::from(number > 0).into()),
    },
    Fault {
        name: "an ISID of the reserved type",
        trips: "login.isid",
        saboteur: || logins(|_, login| login.isid[0] |= 0xc0),
    },
    Fault {
        name: "version 1",
        trips: "login.version",
        saboteur: || logins(|_, login| login.version_max = 1),
    },
    Fault {
        name: "Login Requests without the I bit",
        trips: "login.immediate",
        saboteur: || logins(|_, login| login.opcode &= !IMMEDIATE),
    },
    Fault {
        name: "a reserved bit of the login flags",
        trips: "login.flags",
        saboteur: || logins(|_, login| login.flags |= 0x20),
    },
    Fault {
        name: "NSG without T",
        trips: "login.flags",
        saboteur: || logins(|number, login| login.flags &= if number == 0 { !FINAL } else { 0xff }),
    },
    Fault {
        name: "stays in the security stage when the target has moved on",
        trips: "login.stages",
        saboteur: || logins(|_, login| login.flags &= !0x0c),
    },
    Fault {
        name: "asks to move on to stage 2",
        trips: "login.stages",
        saboteur: || {
            logins(|number, login| {
                if number == 0 {
                    login.flags = login.flags & !3 | 2;
                }
            })
        },
    },
    Fault {
        name: "a new tag for each Login Request",
        trips: "login.same-task",
        saboteur: || logins(|number, login| login.initiator_task_tag = (100 + number).into()),
    },
    Fault {
        name: "another CID for each Login Request",
        trips: "login.same-cid",
        saboteur: || logins(|number, login| login.cid = u16::from(number > 0).into()),
    },
    Fault {
        name: "Login Requests take numbers",
        trips: "login.same-cmd-sn",
        saboteur: || {
            let mut taken = 0;
            edit::requests(move |pdu| {
                add(pdu, 24, taken);
                taken += u32::from(matches!(pdu.header, Header::LoginRequest(_)));
            })
        },
    },
    Fault {
        name: "ExpStatSN stays 0 during the login",
        trips: "login.exp-stat-sn",
        saboteur: || logins(|_, login| login.exp_stat_sn = 7.into()),
    },
    Fault {
        name: "does not ask again after a \"not yet\"",
        trips: "login.not-yet",
        saboteur: || {
            logins(|number, login| {
                if number == 1 {
                    login.flags &= 0x0c;
                }
            })
        },
    },
    Fault {
        name: "moves on after a \"not yet\"",
        trips: "login.not-yet",
        saboteur: || {
            logins(|number, login| {
                if number == 1 {
                    login.flags = 0x87;
                }
            })
        },
    },
    Fault {
        name: "two Login Requests at once",
        trips: "login.one-at-a-time",
        saboteur: || {
            Box::new(|seen, _| match seen {
                Seen::Request(pdu) if matches!(pdu.header, Header::LoginRequest(_)) => {
                    Act::Replace(vec![pdu.clone(), pdu.clone()])
                }
                _ => Act::Pass,
            })
        },
    },
    Fault {
        name: "a ping during the login",
        trips: "login.nothing-else",
        saboteur: || {
            let mut requests = 0;
            Box::new(move |seen, lane| {
                if let Seen::Request(pdu) = seen {
                    requests += 1;
                    if requests == 2 && matches!(pdu.header, Header::LoginRequest(_)) {
                        lane.to_target(Pdu::bare(NopOut {
                            opcode: IMMEDIATE,
                            flags: FINAL,
                            initiator_task_tag: 9.into(),
                            target_transfer_tag: RESERVED_TAG.into(),
                            ..NopOut::default()
                        }));
                    }
                }
                Act::Pass
            })
        },
    },
    Fault {
        name: "a Login Request of more than 8192 bytes",
        trips: "login.segment",
        saboteur: || {
            edit::asked_keys(|keys| {
                for number in 0..40 {
                    keys.push((format!("X-org.example.{number}"), "x".repeat(250)));
                }
            })
        },
    },
];

/// Changes Login Requests; they are numbered from 0.
fn logins(mut edit: impl FnMut(u32, &mut LoginRequest) + Send + 'static) -> Saboteur {
    let mut number = 0;
    // The initiator hears of its own tag and session identifier again.
    let mut tag = 0;
    Box::new(move |seen, _| match seen {
        Seen::Request(pdu) => {
            let mut pdu = pdu.clone();
            let Header::LoginRequest(login) = &mut pdu.header else {
                return Act::Pass;
            };
            tag = login.initiator_task_tag.get();
            edit(number, login);
            number += 1;
            Act::Replace(vec![pdu])
        }
        Seen::Response(pdu) if matches!(pdu.header, Header::LoginResponse(_)) => {
            let mut pdu = pdu.clone();
            change(&mut pdu, 16, |_| tag);
            Act::Replace(vec![pdu])
        }
        _ => Act::Pass,
    })
}

/// Changes the value of a key that the initiator sends.
pub(crate) fn value(key: &'static str, edit: fn(&str) -> String) -> Saboteur {
    edit::asked_keys(move |keys| {
        for (name, value) in keys {
            if name == key {
                *value = edit(value);
            }
        }
    })
}
