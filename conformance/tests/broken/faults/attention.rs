//! Targets that break the rules of `attention`.

use iscsi_proto::wire::{Header, Pdu};

use super::inquiry::{clears_attention, is_standard, sense};
use crate::broken::scsi::{both, cdbs, fail, fault, good, patch, replies};
use crate::broken::{Fault, Saboteur, edit};

pub(crate) const FAULTS: &[Fault] = &[
    fault("a condition is told twice", "attention.once", || {
        let mut told = 0;
        replies(move |cdb, pdu| {
            told += 1;
            if cdb[0] == 0 && told == 2 {
                fail(pdu, 6, 0x29, 0);
            }
        })
    }),
    fault(
        "a condition is told again and again",
        "attention.once",
        || {
            let mut told = 0;
            replies(move |_, pdu| {
                told += 1;
                fail(pdu, 6, 0x2a, told);
            })
        },
    ),
    fault(
        "a reset is told behind other conditions",
        "attention.once",
        || {
            let mut told = 0;
            replies(move |_, pdu| {
                told += 1;
                match told {
                    1 => fail(pdu, 6, 0x3f, 0x0e),
                    2 => fail(pdu, 6, 0x29, 0),
                    _ => {}
                }
            })
        },
    ),
    fault(
        "REPORT LUNS is answered with the Unit Attention",
        "attention.report-luns",
        || {
            replies(|cdb, pdu| {
                if cdb[0] == 0xa0 {
                    fail(pdu, 6, 0x29, 0);
                }
            })
        },
    ),
    fault(
        "REPORT LUNS clears every Unit Attention",
        "attention.report-luns",
        || clears_attention(|cdb| cdb[0] == 0xa0),
    ),
    fault(
        "REQUEST SENSE is answered with the Unit Attention",
        "attention.request-sense",
        || {
            replies(|cdb, pdu| {
                if cdb[0] == 0x03 {
                    fail(pdu, 6, 0x29, 0);
                }
            })
        },
    ),
    fault(
        "REQUEST SENSE leaves pending what it brings",
        "attention.request-sense",
        || {
            let mut brought = None;
            replies(move |cdb, pdu| match (cdb[0], brought) {
                (0x03, _) => brought = Some((pdu.data[12], pdu.data[13])),
                (0, Some((asc, ascq))) => fail(pdu, 6, asc, ascq),
                _ => {}
            })
        },
    ),
    fault(
        "REQUEST SENSE does not see a Unit Attention",
        "attention.request-sense",
        || {
            let nothing = replies(|cdb, pdu| {
                if cdb[0] == 0x03 {
                    patch(&mut pdu.data, 2, &[0]);
                }
            });
            let inquiry = cdbs(|cdb| {
                if cdb[0] == 0x03 {
                    *cdb = [0x12, 0, 0, 0, cdb[4], 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
                }
            });
            both(nothing, inquiry)
        },
    ),
    fault(
        "LOGICAL UNIT RESET tells nobody",
        "attention.unit-reset",
        reset_that_is_none,
    ),
    fault(
        "a reset is told of as changed mode pages",
        "attention.unit-reset",
        || {
            replies(|_, pdu| {
                if is_attention(pdu) {
                    fail(pdu, 6, 0x2a, 1);
                }
            })
        },
    ),
    fault(
        "a reset is told of for ever",
        "attention.unit-reset",
        || {
            let mut reset = false;
            replies(move |_, pdu| {
                reset |= is_unit_reset(pdu);
                if reset {
                    fail(pdu, 6, 0x29, 3);
                }
            })
        },
    ),
    fault(
        "of a reset only one session is told",
        "attention.unit-reset.each",
        || {
            let mut told = 0;
            replies(move |_, pdu| {
                told += usize::from(is_unit_reset(pdu));
                if is_unit_reset(pdu) && told > 1 {
                    good(pdu);
                }
            })
        },
    ),
    fault(
        "a WRITE is carried out, and then ends with the Unit Attention",
        "attention.unit-reset.not-executed",
        || {
            let told = replies(|cdb, pdu| {
                if cdb[0] == 0x2a {
                    fail(pdu, 6, 0x29, 3);
                }
            });
            both(told, reset_that_is_none())
        },
    ),
    fault(
        "INQUIRY clears the Unit Attention of a reset",
        "attention.unit-reset.inquiry",
        || clears_attention(is_standard),
    ),
    fault(
        "INQUIRY is answered with the Unit Attention of a reset",
        "attention.unit-reset.inquiry",
        || {
            replies(|cdb, pdu| {
                if cdb[0] == 0x12 {
                    fail(pdu, 6, 0x29, 3);
                }
            })
        },
    ),
    fault("MODE SELECT tells nobody", "attention.mode-select", || {
        replies(|_, pdu| {
            if sense(pdu) == Some((6, 0x2a, 1)) {
                good(pdu);
            }
        })
    }),
    fault(
        "MODE SELECT tells others of a reset",
        "attention.mode-select",
        || {
            replies(|_, pdu| {
                if sense(pdu) == Some((6, 0x2a, 1)) {
                    fail(pdu, 6, 0x29, 0);
                }
            })
        },
    ),
    fault(
        "MODE SELECT tells its own session, too",
        "attention.mode-select.own",
        || {
            let mut changed = false;
            replies(move |cdb, pdu| match cdb[0] {
                0x55 => changed = cdb[8] != 0,
                0 if changed => {
                    fail(pdu, 6, 0x2a, 1);
                    changed = false;
                }
                _ => {}
            })
        },
    ),
];

/// LOGICAL UNIT RESET is answered, and nothing is done: ABORT TASK SET of no tasks stands in for it.
fn reset_that_is_none() -> Saboteur {
    edit::requests(|pdu| {
        if let Header::TaskManagementRequest(request) = &mut pdu.header
            && request.function & 0x7f == 5
        {
            request.function = 0x82;
        }
    })
}

fn is_attention(pdu: &Pdu) -> bool {
    sense(pdu).is_some_and(|(key, _, _)| key == 6)
}

fn is_unit_reset(pdu: &Pdu) -> bool {
    sense(pdu) == Some((6, 0x29, 3))
}
