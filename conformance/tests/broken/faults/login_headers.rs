//! Targets that break the rules of `login_headers`.

use iscsi_proto::wire::Header;
use iscsi_proto::wire::bhs::{FINAL, LoginResponse};

use super::logins::{headers, refuse, request_headers, status};
use crate::broken::{Act, Fault, Kind, Saboteur, Seen, edit};

pub(crate) const FAULTS: &[Fault] = &[
    Fault {
        name: "tag 0 is answered as no tag",
        trips: "login.headers.itt",
        behind: Kind::Plain,
        saboteur: || {
            headers(|header| {
                if header.initiator_task_tag.get() == 0 {
                    header.initiator_task_tag = u32::MAX.into();
                }
            })
        },
    },
    Fault {
        name: "any tag may go on with a login",
        trips: "login.headers.itt-changed",
        behind: Kind::Plain,
        saboteur: || {
            let (mut first, mut last) = (None, 0.into());
            Box::new(move |seen, _| match seen {
                Seen::Request(pdu) => {
                    let mut pdu = pdu.clone();
                    if let Header::LoginRequest(header) = &mut pdu.header {
                        last = header.initiator_task_tag;
                        header.initiator_task_tag = *first.get_or_insert(last);
                    }
                    Act::Replace(vec![pdu])
                }
                Seen::Response(pdu) => {
                    let mut pdu = pdu.clone();
                    if let Header::LoginResponse(header) = &mut pdu.header {
                        header.initiator_task_tag = last;
                    }
                    Act::Replace(vec![pdu])
                }
                Seen::TargetClosed => Act::Pass,
            })
        },
    },
    Fault {
        name: "the ISID is not filled in",
        trips: "login.headers.isid",
        behind: Kind::Plain,
        saboteur: || headers(|header| header.isid = [0; 6]),
    },
    Fault {
        name: "only ISIDs with an OUI are let in",
        trips: "login.headers.isid-formats",
        behind: Kind::Plain,
        saboteur: || refuse(0x0200, |request, _| request.isid[0] != 0),
    },
    Fault {
        name: "the TSIH comes with the first response",
        trips: "login.headers.tsih-partial",
        behind: Kind::Plain,
        saboteur: || headers(|header| header.tsih = 7.into()),
    },
    Fault {
        name: "a session has no handle",
        trips: "login.headers.tsih-final",
        behind: Kind::Plain,
        saboteur: || headers(|header| header.tsih = 0.into()),
    },
    Fault {
        name: "a first connection has to have CID 0",
        trips: "login.headers.cid",
        behind: Kind::Plain,
        saboteur: || refuse(0x0200, |request, _| request.cid.get() != 0),
    },
    Fault {
        name: "the CID is that of the last request",
        trips: "login.headers.cid-changed",
        behind: Kind::Plain,
        saboteur: || request_headers(|header| header.cid = 6.into()),
    },
    Fault {
        name: "the active version is that of the target",
        trips: "login.headers.version",
        behind: Kind::Plain,
        saboteur: || headers(|header| (header.version_max, header.version_active) = (1, 1)),
    },
    Fault {
        name: "Version-max is only in the first response",
        trips: "login.headers.version",
        behind: Kind::Plain,
        saboteur: || {
            let mut first = true;
            headers(move |header| {
                header.version_max = u8::from(first);
                first = false;
            })
        },
    },
    Fault {
        name: "whoever knows more than version 0 is refused",
        trips: "login.headers.version-range",
        behind: Kind::Plain,
        saboteur: || refuse(0x0205, |request, _| request.version_max != 0),
    },
    Fault {
        name: "the active version is the highest that was offered",
        trips: "login.headers.version-range",
        behind: Kind::Plain,
        saboteur: || headers(|header| header.version_active = 0xff),
    },
    Fault {
        name: "versions are not looked at",
        trips: "login.headers.version-unsupported",
        behind: Kind::Plain,
        saboteur: || request_headers(|header| header.version_min = 0),
    },
    Fault {
        name: "a version that is not supported is a missing parameter",
        trips: "login.headers.version-unsupported",
        behind: Kind::Plain,
        saboteur: || status(0x0207),
    },
    Fault {
        name: "the refusal of a version names the one that was asked for",
        trips: "login.headers.version-lowest",
        behind: Kind::Plain,
        saboteur: || headers(|header| header.version_active = 0xff),
    },
    Fault {
        name: "reserved bytes hold what was there before",
        trips: "login.headers.reserved",
        behind: Kind::Plain,
        saboteur: || headers(|header| header.reserved_38[9] = 1),
    },
    Fault {
        name: "the CID comes back in a reserved field",
        trips: "login.headers.reserved",
        behind: Kind::Plain,
        saboteur: || headers(|header| header.reserved_20 = [0, 1, 0, 0]),
    },
    Fault {
        name: "NSG is the next stage before it is granted",
        trips: "login.headers.reserved",
        behind: Kind::Plain,
        saboteur: || {
            headers(|header| {
                if header.flags & FINAL == 0 {
                    header.flags |= 1;
                }
            })
        },
    },
    Fault {
        name: "ones in reserved fields are an error of the initiator",
        trips: "login.headers.reserved-ignored",
        behind: Kind::Plain,
        saboteur: || refuse(0x0200, |request, _| request.reserved_32 != [0; 16]),
    },
    Fault {
        name: "a refusal grants the transit",
        trips: "login.headers.reject-reserved",
        behind: Kind::Plain,
        saboteur: || {
            headers(|header| {
                if header.status_class != 0 {
                    header.flags = 0x81;
                }
            })
        },
    },
    Fault {
        name: "StatSN stands still during the login",
        trips: "login.headers.stat-sn",
        behind: Kind::Plain,
        saboteur: || headers(|header| header.stat_sn = 9.into()),
    },
    Fault {
        name: "StatSN begins anew in the full feature phase",
        trips: "login.headers.stat-sn-goes-on",
        behind: Kind::Plain,
        saboteur: || {
            edit::responses(|pdu| {
                if let Header::NopIn(header) = &mut pdu.header {
                    header.stat_sn = 1.into();
                }
            })
        },
    },
    Fault {
        name: "a first request must not acknowledge anything",
        trips: "login.headers.exp-stat-sn-ignored",
        behind: Kind::Plain,
        saboteur: || {
            let mut first = true;
            refuse(0x0200, move |request, _| {
                std::mem::take(&mut first) && request.exp_stat_sn.get() != 0
            })
        },
    },
    Fault {
        name: "each Login Request advances ExpCmdSN",
        trips: "login.headers.exp-cmd-sn",
        behind: Kind::Plain,
        saboteur: || headers(|header| header.exp_cmd_sn = (next(header)).into()),
    },
    Fault {
        name: "ExpCmdSN is 1, whatever the login says",
        trips: "login.headers.exp-cmd-sn",
        behind: Kind::Plain,
        saboteur: || headers(|header| header.exp_cmd_sn = 1.into()),
    },
    Fault {
        name: "MaxCmdSN is a size, not a number",
        trips: "login.headers.max-cmd-sn",
        behind: Kind::Plain,
        saboteur: || headers(|header| header.max_cmd_sn = 32.into()),
    },
    Fault {
        name: "the first command has to have the number behind that of the login",
        trips: "login.headers.first-command",
        behind: Kind::Plain,
        saboteur: commands_one_behind,
    },
];

fn next(header: &LoginResponse) -> u32 {
    header.exp_cmd_sn.get().wrapping_add(1)
}

/// ExpCmdSN behind a command is one less than it should be: the login took a number of its own.
fn commands_one_behind() -> Saboteur {
    edit::responses(|pdu| {
        if let Header::ScsiResponse(header) = &mut pdu.header {
            header.exp_cmd_sn = header.exp_cmd_sn.get().wrapping_add(1).into();
        }
    })
}
