//! Targets that break the rules of `login_stages`.

use bytes::Bytes;
use iscsi_proto::wire::Header;
use iscsi_proto::wire::bhs::FINAL;

use super::logins::{grant, headers, refuse, request_headers};
use crate::broken::{Act, Fault, Kind, Saboteur, Seen};

pub(crate) const FAULTS: &[Fault] = &[
    Fault {
        name: "the operational stage never ends",
        trips: "login.standard.two-stages",
        behind: Kind::Plain,
        saboteur: || grant(|request, _| (stage(request.flags) == 1).then(|| (0x04, Bytes::new()))),
    },
    Fault {
        name: "a login without a security stage is an error of the initiator",
        trips: "login.standard.one-request",
        behind: Kind::Plain,
        saboteur: || refuse(0x0200, |request, _| request.flags == 0x87),
    },
    Fault {
        name: "a login without an operational stage is an error of the initiator",
        trips: "login.standard.security-only",
        behind: Kind::Plain,
        saboteur: || refuse(0x0200, |request, _| request.flags == 0x83),
    },
    Fault {
        name: "an empty operational stage is an error of the initiator",
        trips: "login.standard.no-keys",
        behind: Kind::Plain,
        saboteur: || {
            refuse(0x0200, |request, pairs| {
                request.flags == 0x87 && pairs.is_empty()
            })
        },
    },
    Fault {
        name: "a login may take four requests",
        trips: "login.exchanges.six",
        behind: Kind::Plain,
        saboteur: || {
            let mut requests = 0;
            refuse(0x0200, move |_, _| {
                requests += 1;
                requests > 4
            })
        },
    },
    Fault {
        name: "the security stage ends although nobody asked for it",
        trips: "login.transit.not-asked-in-security",
        behind: Kind::Plain,
        saboteur: eager,
    },
    Fault {
        name: "the operational stage ends although nobody asked for it",
        trips: "login.transit.not-asked-in-operational",
        behind: Kind::Plain,
        saboteur: eager,
    },
    Fault {
        name: "the security stage ends in the full feature phase, asked for or not",
        trips: "login.transit.not-beyond",
        behind: Kind::Plain,
        saboteur: || {
            headers(|header| {
                if header.flags == 0x81 {
                    header.flags = 0x83;
                }
            })
        },
    },
    Fault {
        name: "whoever begins a stage without the T bit never leaves it",
        trips: "login.transit.late",
        behind: Kind::Plain,
        saboteur: || {
            let mut begun = false;
            grant(move |request, _| {
                begun |= request.flags == 0x04;
                (begun && request.flags == 0x87).then(|| (0x04, Bytes::new()))
            })
        },
    },
    Fault {
        name: "CSG is always that of the security stage",
        trips: "login.stages.current",
        behind: Kind::Plain,
        saboteur: || headers(|header| header.flags &= !0x0c),
    },
    Fault {
        name: "CSG is always that of the operational stage",
        trips: "login.stages.current",
        behind: Kind::Plain,
        saboteur: || headers(|header| header.flags |= 0x04),
    },
    Fault {
        name: "CSG 2 is taken for the operational stage",
        trips: "login.stages.reserved-current",
        behind: Kind::Plain,
        saboteur: || mistaken(0x08, 0x04),
    },
    Fault {
        name: "NSG 2 is taken for the full feature phase",
        trips: "login.stages.reserved-next",
        behind: Kind::Plain,
        saboteur: || mistaken(0x86, 0x87),
    },
    Fault {
        name: "a login that begins in the full feature phase is taken for an ordinary one",
        trips: "login.stages.full-feature-first",
        behind: Kind::Plain,
        saboteur: || mistaken(0x0c, 0x04),
    },
    Fault {
        name: "the operational stage ends in the security stage",
        trips: "login.stages.back",
        behind: Kind::Plain,
        saboteur: || echoed(0x84),
    },
    Fault {
        name: "the operational stage ends in the operational stage",
        trips: "login.stages.to-itself",
        behind: Kind::Plain,
        saboteur: || echoed(0x85),
    },
    Fault {
        name: "whatever stage a request names is the current one",
        trips: "login.stages.security-again",
        behind: Kind::Plain,
        saboteur: || {
            let mut operational = false;
            grant(move |request, _| {
                let back = operational && stage(request.flags) == 0;
                operational |= request.flags & FINAL != 0;
                back.then(|| (0x00, Bytes::new()))
            })
        },
    },
    Fault {
        name: "the stage changes with the CSG of a request",
        trips: "login.stages.without-transit",
        behind: Kind::Plain,
        saboteur: || echoed(0x04),
    },
    Fault {
        name: "a login in the full feature phase is granted",
        trips: "login.full-feature.again",
        behind: Kind::Plain,
        saboteur: || {
            let mut finished = false;
            let mut granted = grant(|_, _| Some((0x87, Bytes::new())));
            Box::new(move |seen, lane| {
                if let Seen::Response(pdu) = &seen {
                    finished |= matches!(&pdu.header, Header::LoginResponse(header) if header.flags == 0x87);
                }
                if finished {
                    granted(seen, lane)
                } else {
                    Act::Pass
                }
            })
        },
    },
];

/// The CSG of a request.
fn stage(flags: u8) -> u8 {
    flags >> 2 & 3
}

/// Takes the NSG for a wish to transit, T bit or not.
fn eager() -> Saboteur {
    request_headers(|header| {
        if header.flags & 3 != 0 {
            header.flags |= FINAL;
        }
    })
}

/// Takes one value of byte 1 for another.
fn mistaken(sent: u8, taken: u8) -> Saboteur {
    request_headers(move |header| {
        if header.flags == sent {
            header.flags = taken;
        }
    })
}

/// Grants what has this byte 1, whatever it is.
fn echoed(flags: u8) -> Saboteur {
    grant(move |request, _| (request.flags == flags).then(|| (flags, Bytes::new())))
}
