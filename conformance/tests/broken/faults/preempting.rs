//! Targets that break the rules of `preempting`.

use iscsi_proto::wire::Header;

use crate::broken::scsi::{
    conflict, fail, fault, good, idle, is_in, is_out, on_lane, patch, replies, status,
};
use crate::broken::{Act, Fault, Saboteur, Seen};

const TEST_UNIT_READY: u8 = 0x00;
const WRITE_10: u8 = 0x2a;
const CLEAR: u8 = 3;
const PREEMPT: u8 = 4;
const PREEMPT_AND_ABORT: u8 = 5;

pub(crate) const FAULTS: &[Fault] = &[
    fault("PREEMPT does nothing", "persistent.preempt", || {
        idle(|cdb| is_out(cdb, PREEMPT))
    }),
    fault("who was preempted writes on", "persistent.preempt", || {
        on_lane(
            2,
            replies(|cdb, pdu| {
                if cdb[0] == WRITE_10 {
                    good(pdu);
                }
            }),
        )
    }),
    fault(
        "PREEMPT is told as CLEAR",
        "persistent.preempt.attention",
        || {
            replies(|cdb, pdu| {
                if cdb[0] == TEST_UNIT_READY && status(pdu) == Some(2) {
                    fail(pdu, 6, 0x2a, 3);
                }
            })
        },
    ),
    fault(
        "PREEMPT takes holders only",
        "persistent.preempt.registrant",
        || idle(|cdb| is_out(cdb, PREEMPT)),
    ),
    fault(
        "PREEMPT of nobody succeeds",
        "persistent.preempt.unknown-key",
        preempt_is_good,
    ),
    fault(
        "PREEMPT of zero is one of nobody",
        "persistent.preempt.zero-key",
        || {
            replies(|cdb, pdu| {
                if is_out(cdb, PREEMPT) {
                    conflict(pdu);
                }
            })
        },
    ),
    fault(
        "PREEMPT of all registrants conflicts",
        "persistent.preempt.all-registrants",
        || {
            replies(|cdb, pdu| {
                if is_out(cdb, PREEMPT) {
                    conflict(pdu);
                }
            })
        },
    ),
    fault(
        "strangers may preempt",
        "persistent.preempt.not-registered",
        preempt_is_good,
    ),
    fault(
        "PREEMPT AND ABORT only aborts",
        "persistent.preempt-and-abort",
        || idle(|cdb| is_out(cdb, PREEMPT_AND_ABORT)),
    ),
    fault("CLEAR keeps the reservation", "persistent.clear", || {
        replies(|cdb, pdu| {
            if is_in(cdb, 1) && pdu.data.len() == 8 {
                let held = [&pdu.data[..4], &[0, 0, 0, 16], &[0; 13], &[1, 0, 0]].concat();
                pdu.data = held.into();
            }
        })
    }),
    fault("CLEAR is for the holder", "persistent.clear", || {
        replies(|cdb, pdu| {
            if is_out(cdb, CLEAR) {
                conflict(pdu);
            }
        })
    }),
    fault("CLEAR tells nobody", "persistent.clear.attention", || {
        replies(|cdb, pdu| {
            if cdb[0] == TEST_UNIT_READY && status(pdu) == Some(2) {
                good(pdu);
            }
        })
    }),
    fault(
        "strangers may clear",
        "persistent.clear.not-registered",
        || {
            replies(|cdb, pdu| {
                if is_out(cdb, CLEAR) {
                    good(pdu);
                }
            })
        },
    ),
    fault(
        "a reservation ends with its session",
        "persistent.outlives-logout",
        || {
            let mut ended = false;
            let mut none = replies(|cdb, pdu| {
                if is_in(cdb, 1) {
                    patch(&mut pdu.data, 4, &[0; 4]);
                    pdu.data.truncate(8);
                }
            });
            Box::new(move |seen, lane| {
                if let Seen::Request(pdu) = &seen {
                    ended |= matches!(pdu.header, Header::LogoutRequest(_));
                }
                if ended { none(seen, lane) } else { Act::Pass }
            })
        },
    ),
    fault(
        "a new session is a new nexus",
        "persistent.outlives-logout",
        || {
            // The sessions of a check are those of lanes 2 and 3, and this is the next one.
            on_lane(
                4,
                replies(|cdb, pdu| {
                    if cdb[0] == WRITE_10 {
                        conflict(pdu);
                    }
                }),
            )
        },
    ),
    fault("an initiator is one nexus", "persistent.other-isid", || {
        on_lane(
            4,
            replies(|cdb, pdu| {
                if cdb[0] == WRITE_10 {
                    good(pdu);
                }
            }),
        )
    }),
];

fn preempt_is_good() -> Saboteur {
    replies(|cdb, pdu| {
        if is_out(cdb, PREEMPT) {
            good(pdu);
        }
    })
}
