//! Targets that break the rules of `login_sessions`.

use iscsi_proto::wire::bhs::LoginRequest;
use iscsi_proto::wire::{Header, Pdu};

use super::logins::{headers, refuse, request_headers, status};
use crate::broken::{Act, Fault, Kind, Saboteur, Seen};

pub(crate) const FAULTS: &[Fault] = &[
    Fault {
        name: "a new session ends those that its initiator has",
        trips: "login.sessions.beside",
        behind: Kind::Plain,
        saboteur: || end_first_when(|request| request.flags & 0x83 == 0x83),
    },
    Fault {
        name: "an initiator may have one session",
        trips: "login.sessions.beside",
        behind: Kind::Plain,
        saboteur: || only(1),
    },
    Fault {
        name: "every session has handle 1",
        trips: "login.sessions.handles",
        behind: Kind::Plain,
        saboteur: || {
            headers(|header| {
                if header.flags == 0x87 {
                    header.tsih = 1.into();
                }
            })
        },
    },
    Fault {
        name: "the ISID alone is the initiator port",
        trips: "login.sessions.other-initiator",
        behind: Kind::Plain,
        saboteur: || end_first_when(|request| request.flags & 0x83 == 0x83),
    },
    Fault {
        name: "two sessions may have the same ISID",
        trips: "login.sessions.reinstated",
        behind: Kind::Plain,
        saboteur: other_isids,
    },
    Fault {
        name: "who has a session is not let in again",
        trips: "login.sessions.reinstated",
        behind: Kind::Plain,
        saboteur: || only(1),
    },
    Fault {
        name: "a reinstatement ends all sessions of its initiator",
        trips: "login.sessions.reinstated-alone",
        behind: Kind::Plain,
        saboteur: || end_second_with_third(),
    },
    Fault {
        name: "a broken connection keeps its session, and nobody gets in",
        trips: "login.sessions.after-drop",
        behind: Kind::Plain,
        saboteur: || only(1),
    },
    Fault {
        name: "an ISID is used up",
        trips: "login.sessions.after-logout",
        behind: Kind::Plain,
        saboteur: || only(1),
    },
    Fault {
        name: "a session ends with the first request that has its ISID",
        trips: "login.sessions.failed-login",
        behind: Kind::Plain,
        saboteur: || end_first_when(|_| true),
    },
    Fault {
        name: "a TSIH of a new ISID is not looked at",
        trips: "login.sessions.tsih-of-nobody",
        behind: Kind::Plain,
        saboteur: forget_handles,
    },
    Fault {
        name: "a session that does not exist is an ordinary error of the initiator",
        trips: "login.sessions.tsih-of-nobody",
        behind: Kind::Plain,
        saboteur: || status(0x0200),
    },
    Fault {
        name: "a wrong TSIH reinstates the session",
        trips: "login.sessions.tsih-wrong",
        behind: Kind::Plain,
        saboteur: forget_handles,
    },
    Fault {
        name: "a wrong TSIH ends the session",
        trips: "login.sessions.tsih-wrong-spares",
        behind: Kind::Plain,
        saboteur: || end_first_when(|request| request.tsih.get() != 0),
    },
    Fault {
        name: "the TSIH alone is the session",
        trips: "login.sessions.tsih-of-another-isid",
        behind: Kind::Plain,
        saboteur: || {
            let mut first = None;
            request_headers(move |header| {
                header.isid = *first.get_or_insert(header.isid);
                header.cid = 0.into();
            })
        },
    },
    Fault {
        name: "a handle outlives its session",
        trips: "login.sessions.tsih-after-logout",
        behind: Kind::Plain,
        saboteur: forget_handles,
    },
    Fault {
        name: "a connection too many ends the session",
        trips: "login.sessions.connection-too-many",
        behind: Kind::Plain,
        saboteur: || end_first_when(|request| request.tsih.get() != 0),
    },
    Fault {
        name: "a connection cannot be replaced",
        trips: "login.sessions.connection-reinstated",
        behind: Kind::Plain,
        saboteur: || refuse(0x0206, |request, _| request.tsih.get() != 0),
    },
    Fault {
        name: "the connection that is replaced stays",
        trips: "login.sessions.connection-reinstated",
        behind: Kind::Plain,
        saboteur: || {
            Box::new(|seen, lane| {
                if let Seen::TargetClosed = seen {
                    lane.stay();
                }
                Act::Pass
            })
        },
    },
];

/// Closes the first connection as soon as it says something behind a request of another one.
fn end_first_when(which: fn(&LoginRequest) -> bool) -> Saboteur {
    end(1, 2, which)
}

/// Closes the second of two sessions behind a third.
fn end_second_with_third() -> Saboteur {
    end(2, 3, |request| request.flags & 0x83 == 0x83)
}

/// Closes one connection when it says something behind a Login Request on another.
fn end(victim: usize, cause: usize, which: fn(&LoginRequest) -> bool) -> Saboteur {
    let mut ended = false;
    Box::new(move |seen, lane| {
        let Seen::Request(pdu) = seen else {
            return Act::Pass;
        };
        if let Header::LoginRequest(request) = &pdu.header {
            ended |= lane.number == cause && which(request);
        }
        if ended && lane.number == victim {
            lane.hang_up();
            return Act::Replace(Vec::new());
        }
        Act::Pass
    })
}

/// Refuses all logins behind so many sessions.
fn only(most: usize) -> Saboteur {
    let mut sessions = 0;
    Box::new(move |seen, lane| {
        if let Seen::Response(pdu) = &seen {
            sessions += usize::from(is_last(pdu));
        }
        if sessions >= most {
            return refuse(0x0302, |_, _| true)(seen, lane);
        }
        Act::Pass
    })
}

fn is_last(pdu: &Pdu) -> bool {
    matches!(&pdu.header, Header::LoginResponse(header) if header.flags & 0x83 == 0x83)
}

/// Takes each connection for one of an initiator port of its own.
fn other_isids() -> Saboteur {
    Box::new(|seen, lane| {
        let (Seen::Request(pdu) | Seen::Response(pdu)) = seen else {
            return Act::Pass;
        };
        let mut pdu = pdu.clone();
        let number = u8::try_from(lane.number).unwrap_or(u8::MAX);
        match &mut pdu.header {
            Header::LoginRequest(header) => header.isid[1] ^= number,
            Header::LoginResponse(header) => header.isid[1] ^= number,
            _ => return Act::Pass,
        }
        Act::Replace(vec![pdu])
    })
}

/// Takes every login for one to a new session.
fn forget_handles() -> Saboteur {
    request_headers(|header| header.tsih = 0.into())
}
