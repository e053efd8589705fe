//! Targets that break the rules of `reserve`.

use crate::broken::Fault;
use crate::broken::scsi::{both, conflict, fail, fault, good, idle, on_lane, replies};

const READ_10: u8 = 0x28;
const WRITE_10: u8 = 0x2a;
const RESERVE_6: u8 = 0x16;
const RELEASE_6: u8 = 0x17;
const RESERVE_10: u8 = 0x56;

pub(crate) const FAULTS: &[Fault] = &[
    fault("RESERVE (6) does nothing", "reserve.six", || {
        idle(|cdb| cdb[0] == RESERVE_6)
    }),
    fault(
        "RESERVE (6) is no reason not to read",
        "reserve.six",
        || {
            replies(|cdb, pdu| {
                if cdb[0] == READ_10 {
                    good(pdu);
                }
            })
        },
    ),
    fault(
        "RESERVE (10) is no reason not to write",
        "reserve.ten",
        || {
            replies(|cdb, pdu| {
                if cdb[0] == WRITE_10 {
                    good(pdu);
                }
            })
        },
    ),
    fault("RESERVE (10) does nothing", "reserve.ten", || {
        idle(|cdb| cdb[0] == RESERVE_10)
    }),
    fault(
        "a conflict is told when all is written",
        "reserve.blocked-write",
        || {
            // The second session but one of the check is the other one.
            both(
                on_lane(
                    3,
                    replies(|cdb, pdu| {
                        if cdb[0] == WRITE_10 {
                            conflict(pdu);
                        }
                    }),
                ),
                idle(|cdb| cdb[0] == RESERVE_6),
            )
        },
    ),
    fault("REPORT LUNS conflicts", "reserve.admits", || {
        replies(|cdb, pdu| {
            if cdb[0] == 0xa0 {
                conflict(pdu);
            }
        })
    }),
    fault("REQUEST SENSE conflicts", "reserve.admits", || {
        replies(|cdb, pdu| {
            if cdb[0] == 0x03 {
                conflict(pdu);
            }
        })
    }),
    fault("the holder is held up, too", "reserve.holder", || {
        let mut reserved = false;
        replies(move |cdb, pdu| {
            reserved |= cdb[0] == RESERVE_6;
            if reserved && cdb[0] == WRITE_10 {
                conflict(pdu);
            }
        })
    }),
    fault("a second RESERVE is an error", "reserve.holder", || {
        let mut count = 0;
        replies(move |cdb, pdu| {
            count += usize::from(cdb[0] == RESERVE_6);
            if cdb[0] == RESERVE_6 && count > 1 {
                fail(pdu, 5, 0x24, 0);
            }
        })
    }),
    fault("the last RESERVE wins", "reserve.taken", || {
        replies(|cdb, pdu| {
            if cdb[0] == RESERVE_6 {
                good(pdu);
            }
        })
    }),
    fault("RELEASE does nothing", "release.frees", || {
        idle(|cdb| cdb[0] == RELEASE_6)
    }),
    fault(
        "RELEASE asks nobody who he is",
        "release.not-holder",
        || {
            // As if the holder itself had released it: from here on nobody is kept from anything.
            let mut released = false;
            replies(move |cdb, pdu| {
                released |= cdb[0] == RELEASE_6;
                if released && matches!(cdb[0], READ_10 | WRITE_10) {
                    good(pdu);
                }
            })
        },
    ),
    fault(
        "RELEASE by somebody else conflicts",
        "release.not-holder",
        || {
            replies(|cdb, pdu| {
                if cdb[0] == RELEASE_6 {
                    conflict(pdu);
                }
            })
        },
    ),
    fault("RELEASE of nothing is an error", "release.nothing", || {
        replies(|cdb, pdu| {
            if cdb[0] == RELEASE_6 {
                fail(pdu, 5, 0x24, 0);
            }
        })
    }),
    fault("a reservation stays for ever", "release.reset", || {
        on_lane(
            3,
            replies(|cdb, pdu| {
                if cdb[0] == WRITE_10 {
                    conflict(pdu);
                }
            }),
        )
    }),
];
