//! Targets that break the rules of `registering`.

use crate::broken::Fault;
use crate::broken::scsi::{
    commands, conflict, fail, fault, good, idle, is_in, is_out, on_lane, patch, replies, status,
};

const READ_10: u8 = 0x28;
const WRITE_10: u8 = 0x2a;
const REGISTER: u8 = 0;
const RESERVE: u8 = 1;
const REGISTER_AND_IGNORE: u8 = 6;

pub(crate) const FAULTS: &[Fault] = &[
    fault("REGISTER does nothing", "persistent.register", || {
        idle(|cdb| is_out(cdb, REGISTER))
    }),
    fault(
        "READ KEYS forgets a byte of each key",
        "persistent.register",
        || {
            replies(|cdb, pdu| {
                if is_in(cdb, 0) {
                    patch(&mut pdu.data, 8, &[0]);
                }
            })
        },
    ),
    fault(
        "a key is registered once for all",
        "persistent.register.each-session",
        || {
            replies(|cdb, pdu| {
                if is_in(cdb, 0) && pdu.data.len() == 24 {
                    patch(&mut pdu.data, 4, &[0, 0, 0, 8]);
                    pdu.data.truncate(16);
                }
            })
        },
    ),
    fault(
        "a key cannot be changed",
        "persistent.register.change",
        || {
            commands(|cdb, _, data| {
                if is_out(cdb, REGISTER) && data[..8] != [0; 8] {
                    let key = data.slice(..8);
                    patch(data, 8, &key);
                }
            })
        },
    ),
    fault(
        "any key will do to change it",
        "persistent.register.wrong-key",
        || {
            commands(|cdb, _, data| {
                if is_out(cdb, REGISTER) && data[..8] != [0; 8] {
                    cdb[1] = REGISTER_AND_IGNORE;
                }
            })
        },
    ),
    fault(
        "a wrong key is an invalid field",
        "persistent.register.wrong-key",
        || {
            replies(|cdb, pdu| {
                if is_out(cdb, REGISTER) && status(pdu) == Some(0x18) {
                    fail(pdu, 5, 0x26, 0);
                }
            })
        },
    ),
    fault(
        "a first key is taken with any present one",
        "persistent.register.no-key",
        || {
            commands(|cdb, _, data| {
                if is_out(cdb, REGISTER) {
                    patch(data, 0, &[0; 8]);
                }
            })
        },
    ),
    fault(
        "REGISTER AND IGNORE does not ignore",
        "persistent.register.ignore",
        || {
            // The first connection is that of the setup.
            let conflicts = replies(|cdb, pdu| {
                if is_out(cdb, REGISTER_AND_IGNORE) {
                    conflict(pdu);
                }
            });
            on_lane(2, conflicts)
        },
    ),
    fault(
        "REGISTER AND IGNORE keeps the first key",
        "persistent.register.ignore",
        || {
            let mut count = 0;
            let second = idle(move |cdb| {
                count += usize::from(is_out(cdb, REGISTER_AND_IGNORE));
                is_out(cdb, REGISTER_AND_IGNORE) && count == 2
            });
            on_lane(2, second)
        },
    ),
    fault("zero is a key", "persistent.register.remove", || {
        commands(|cdb, _, data| {
            if is_out(cdb, REGISTER) && data[..8] != [0; 8] && data[8..16] == [0; 8] {
                *cdb = [0; 16];
            }
        })
    }),
    fault(
        "REGISTER of nothing conflicts",
        "persistent.register.nothing",
        || {
            replies(|cdb, pdu| {
                if is_out(cdb, REGISTER) {
                    conflict(pdu);
                }
            })
        },
    ),
    fault(
        "a registration is a reservation",
        "persistent.register.restricts-nobody",
        || {
            let mut registered = false;
            replies(move |cdb, pdu| {
                registered |= is_out(cdb, REGISTER);
                if registered && matches!(cdb[0], READ_10 | WRITE_10) {
                    conflict(pdu);
                }
            })
        },
    ),
    fault(
        "PRGENERATION is always zero",
        "persistent.generation",
        || {
            replies(|cdb, pdu| {
                if is_in(cdb, 0) {
                    patch(&mut pdu.data, 0, &[0; 4]);
                }
            })
        },
    ),
    fault("RESERVE counts, too", "persistent.generation", || {
        let mut reserves = 0;
        replies(move |cdb, pdu| {
            reserves += u8::from(is_out(cdb, RESERVE));
            if is_in(cdb, 0) {
                let low = pdu.data[3].wrapping_add(reserves);
                patch(&mut pdu.data, 3, &[low]);
            }
        })
    }),
    fault(
        "PRGENERATION counts what failed",
        "persistent.generation.failure",
        || {
            let mut failures = 0;
            replies(move |cdb, pdu| {
                failures += u8::from(is_out(cdb, REGISTER) && status(pdu) == Some(0x18));
                if is_in(cdb, 0) {
                    let low = pdu.data[3].wrapping_add(failures);
                    patch(&mut pdu.data, 3, &[low]);
                }
            })
        },
    ),
    fault(
        "a list that is too long will do",
        "persistent.list-length",
        || {
            commands(|cdb, expected, data| {
                if is_out(cdb, REGISTER) && data.len() == 28 {
                    cdb[8] = 24;
                    *expected = 24;
                    data.truncate(24);
                }
            })
        },
    ),
    fault(
        "a short list is filled up",
        "persistent.list-length",
        || {
            commands(|cdb, expected, data| {
                if is_out(cdb, REGISTER) && data.len() == 16 {
                    cdb[8] = 24;
                    *expected = 24;
                    *data = [&data[..], &[0; 8]].concat().into();
                }
            })
        },
    ),
    fault(
        "an unknown service action is an unknown command",
        "persistent.service-action",
        || {
            replies(|cdb, pdu| {
                if is_in(cdb, 0x1f) {
                    fail(pdu, 5, 0x20, 0);
                }
            })
        },
    ),
    fault(
        "an unknown service action does nothing",
        "persistent.service-action",
        || {
            replies(|cdb, pdu| {
                if is_out(cdb, 0x1f) {
                    good(pdu);
                }
            })
        },
    ),
    fault("APTPL is taken and not kept", "persistent.aptpl", || {
        commands(|cdb, _, data| {
            if is_out(cdb, REGISTER) {
                patch(data, 20, &[0]);
            }
        })
    }),
    fault(
        "APTPL is said to be supported and refused",
        "persistent.aptpl",
        || {
            replies(|cdb, pdu| {
                if is_in(cdb, 2) {
                    let can = pdu.data[2] | 1;
                    patch(&mut pdu.data, 2, &[can]);
                }
            })
        },
    ),
    fault(
        "a type is claimed and not supported",
        "persistent.capabilities",
        || {
            replies(|cdb, pdu| {
                if is_out(cdb, RESERVE) && cdb[2] == 8 {
                    fail(pdu, 5, 0x24, 0);
                }
            })
        },
    ),
    fault(
        "REPORT CAPABILITIES is of six bytes",
        "persistent.capabilities",
        || {
            replies(|cdb, pdu| {
                if is_in(cdb, 2) {
                    pdu.data.truncate(6);
                }
            })
        },
    ),
    fault(
        "READ FULL STATUS has the same TransportID for all",
        "persistent.full-status",
        || {
            replies(|cdb, pdu| {
                if is_in(cdb, 3) {
                    // iqn.2013 becomes iqn.1999.
                    patch(&mut pdu.data, 8 + 24 + 4 + 4, b"1999");
                }
            })
        },
    ),
    fault(
        "READ FULL STATUS knows no holder",
        "persistent.full-status",
        || {
            replies(|cdb, pdu| {
                if is_in(cdb, 3) {
                    // The second descriptor lies behind the TransportID of the first one.
                    let second = 8 + 24 + usize::from(pdu.data[8 + 23]);
                    patch(&mut pdu.data, 8 + 12, &[0]);
                    patch(&mut pdu.data, second + 12, &[0]);
                }
            })
        },
    ),
    fault(
        "READ KEYS tells of as many as fit",
        "persistent.keys.allocation-length",
        || {
            replies(|cdb, pdu| {
                if is_in(cdb, 0) && cdb[8] == 8 {
                    patch(&mut pdu.data, 4, &[0; 4]);
                }
            })
        },
    ),
    fault(
        "READ KEYS brings more than asked for",
        "persistent.keys.allocation-length",
        || {
            commands(|cdb, expected, _| {
                if is_in(cdb, 0) && cdb[8] == 8 {
                    cdb[8] = 24;
                    *expected = 24;
                }
            })
        },
    ),
];
