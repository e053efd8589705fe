//! Targets that break the rules of `persistent`.

use crate::broken::scsi::{
    both, cdbs, commands, conflict, fail, fault, good, idle, is_in, is_out, on_lane, patch,
    replies, status,
};
use crate::broken::{Fault, Saboteur};

const TEST_UNIT_READY: u8 = 0x00;
const WRITE_10: u8 = 0x2a;
const RESERVE_6: u8 = 0x16;
const REGISTER: u8 = 0;
const RESERVE: u8 = 1;
const RELEASE: u8 = 2;

pub(crate) const FAULTS: &[Fault] = &[
    fault(
        "Write Exclusive lets others write",
        "persistent.write-exclusive",
        || {
            replies(|cdb, pdu| {
                if cdb[0] == WRITE_10 {
                    good(pdu);
                }
            })
        },
    ),
    fault(
        "Write Exclusive lets nobody else read",
        "persistent.write-exclusive",
        || taken_for(1, 3),
    ),
    fault(
        "Exclusive Access lets others read",
        "persistent.exclusive-access",
        || taken_for(3, 1),
    ),
    fault(
        "Exclusive Access lets registered sessions in",
        "persistent.exclusive-access",
        || taken_for(3, 6),
    ),
    fault(
        "Registrants Only holds up registered sessions",
        "persistent.write-exclusive-registrants",
        || taken_for(5, 1),
    ),
    fault(
        "Registrants Only lets anybody write",
        "persistent.write-exclusive-registrants",
        || {
            replies(|cdb, pdu| {
                if cdb[0] == WRITE_10 {
                    good(pdu);
                }
            })
        },
    ),
    fault(
        "Exclusive Access of registrants lets others read",
        "persistent.exclusive-access-registrants",
        || taken_for(6, 5),
    ),
    fault(
        "All Registrants means the one that reserved",
        "persistent.write-exclusive-all",
        || taken_for(7, 1),
    ),
    fault(
        "Exclusive Access of all registrants lets others read",
        "persistent.exclusive-access-all",
        || taken_for(8, 7),
    ),
    fault(
        "a conflict is told when all is written",
        "persistent.blocked-write",
        || {
            // Whoever resets, then the holder, then the session that conflicts.
            both(
                on_lane(
                    3,
                    replies(|cdb, pdu| {
                        if cdb[0] == WRITE_10 {
                            conflict(pdu);
                        }
                    }),
                ),
                idle(|cdb| is_out(cdb, RESERVE)),
            )
        },
    ),
    fault("READ KEYS conflicts", "persistent.admits", || {
        replies(|cdb, pdu| {
            if is_in(cdb, 0) {
                conflict(pdu);
            }
        })
    }),
    fault(
        "REGISTER conflicts with a reservation",
        "persistent.admits",
        || {
            let mut reserved = false;
            replies(move |cdb, pdu| {
                reserved |= is_out(cdb, RESERVE);
                if reserved && is_out(cdb, REGISTER) {
                    conflict(pdu);
                }
            })
        },
    ),
    fault(
        "anybody may reserve",
        "persistent.reserve.not-registered",
        || {
            replies(|cdb, pdu| {
                if is_out(cdb, RESERVE) {
                    good(pdu);
                }
            })
        },
    ),
    fault(
        "RESERVE does not look at the key",
        "persistent.reserve.wrong-key",
        || {
            commands(|cdb, _, data| {
                if is_out(cdb, RESERVE) {
                    patch(data, 0, &0x1111_2222_3333_4441_u64.to_be_bytes());
                }
            })
        },
    ),
    fault(
        "a second RESERVE conflicts",
        "persistent.reserve.again",
        || {
            let mut count = 0;
            replies(move |cdb, pdu| {
                count += usize::from(is_out(cdb, RESERVE));
                if is_out(cdb, RESERVE) && count == 2 {
                    conflict(pdu);
                }
            })
        },
    ),
    fault(
        "the holder may ask for another type",
        "persistent.reserve.again",
        || {
            replies(|cdb, pdu| {
                if is_out(cdb, RESERVE) {
                    good(pdu);
                }
            })
        },
    ),
    fault(
        "RESERVE succeeds for everybody",
        "persistent.reserve.taken",
        || {
            replies(|cdb, pdu| {
                if is_out(cdb, RESERVE) {
                    good(pdu);
                }
            })
        },
    ),
    fault(
        "an unknown type is Write Exclusive",
        "persistent.reserve.type",
        || taken_for(0x0f, 1),
    ),
    fault(
        "READ RESERVATION has another type",
        "persistent.read-reservation",
        || {
            replies(|cdb, pdu| {
                if is_in(cdb, 1) && pdu.data.len() == 24 {
                    patch(&mut pdu.data, 21, &[0x03]);
                }
            })
        },
    ),
    fault(
        "no reservation is one with zeros",
        "persistent.read-reservation",
        || {
            replies(|cdb, pdu| {
                if is_in(cdb, 1) && pdu.data.len() == 8 {
                    let empty = [&pdu.data[..4], &[0, 0, 0, 16], &[0; 16]].concat();
                    pdu.data = empty.into();
                }
            })
        },
    ),
    fault(
        "All Registrants has one holder's key",
        "persistent.read-reservation.all",
        || {
            replies(|cdb, pdu| {
                if is_in(cdb, 1) {
                    patch(&mut pdu.data, 8, &0x1111_2222_3333_4441_u64.to_be_bytes());
                }
            })
        },
    ),
    fault("RELEASE does nothing", "persistent.release", || {
        idle(|cdb| is_out(cdb, RELEASE))
    }),
    fault(
        "RELEASE does not look at the type",
        "persistent.release.wrong-type",
        || {
            cdbs(|cdb| {
                if is_out(cdb, RELEASE) {
                    cdb[2] = 1;
                }
            })
        },
    ),
    fault(
        "a wrong type is an invalid field",
        "persistent.release.wrong-type",
        || {
            replies(|cdb, pdu| {
                if is_out(cdb, RELEASE) {
                    fail(pdu, 5, 0x24, 0);
                }
            })
        },
    ),
    fault(
        "RELEASE by somebody else conflicts",
        "persistent.release.not-holder",
        || {
            replies(|cdb, pdu| {
                if is_out(cdb, RELEASE) {
                    conflict(pdu);
                }
            })
        },
    ),
    fault(
        "RELEASE by somebody else ends it",
        "persistent.release.not-holder",
        || {
            let mut released = false;
            replies(move |cdb, pdu| {
                released |= is_out(cdb, RELEASE);
                if released && is_in(cdb, 1) {
                    patch(&mut pdu.data, 4, &[0; 4]);
                    pdu.data.truncate(8);
                }
            })
        },
    ),
    fault(
        "RELEASE tells nobody",
        "persistent.release.attention",
        no_attention,
    ),
    fault(
        "a reservation needs no registration",
        "persistent.unregister-releases",
        || {
            commands(|cdb, _, data| {
                if is_out(cdb, REGISTER) && data[8..16] == [0; 8] {
                    *cdb = [0; 16];
                }
            })
        },
    ),
    fault(
        "the end of a registration is told nobody",
        "persistent.unregister.attention",
        no_attention,
    ),
    fault(
        "the reservation goes with the first of all registrants",
        "persistent.all-registrants",
        || {
            // The third REGISTER is the one that ends a registration.
            let mut registers = 0;
            replies(move |cdb, pdu| {
                registers += usize::from(is_out(cdb, REGISTER));
                if registers > 2 && is_in(cdb, 1) {
                    patch(&mut pdu.data, 4, &[0; 4]);
                    pdu.data.truncate(8);
                }
            })
        },
    ),
    fault(
        "RESERVE (6) does not know of registrations",
        "persistent.reserve-six",
        || {
            replies(|cdb, pdu| {
                if cdb[0] == RESERVE_6 {
                    good(pdu);
                }
            })
        },
    ),
];

/// A type of reservation is carried out as another one.
fn taken_for(asked: u8, done: u8) -> Saboteur {
    cdbs(move |cdb| {
        if is_out(cdb, RESERVE) && cdb[2] == asked {
            cdb[2] = done;
        }
    })
}

/// Unit Attentions are not told.
fn no_attention() -> Saboteur {
    replies(|cdb, pdu| {
        if cdb[0] == TEST_UNIT_READY && status(pdu) == Some(2) {
            good(pdu);
        }
    })
}
