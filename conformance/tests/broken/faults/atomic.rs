//! Targets that break the rules of `atomic`.

use bytes::Bytes;

use crate::broken::scsi::{
    Cdb, both, cdbs, commands, fail, fail_with, fault, good, idle, patch, replies, status,
};
use crate::broken::{Fault, Saboteur};

const COMPARE_AND_WRITE: u8 = 0x89;
const WRITE_16: u8 = 0x8a;
const ORWRITE: u8 = 0x8b;
const WRITE_ATOMIC: u8 = 0x9c;

pub(crate) const FAULTS: &[Fault] = &[
    fault(
        "COMPARE AND WRITE only compares",
        "compare-and-write.equal",
        || {
            commands(|cdb, _, data| {
                if is_compare(cdb) {
                    let half = data.slice(..data.len() / 2);
                    *data = Bytes::from(half.repeat(2));
                }
            })
        },
    ),
    fault(
        "COMPARE AND WRITE does not compare",
        "compare-and-write.miscompare",
        blind,
    ),
    fault(
        "a miscompare is an aborted command",
        "compare-and-write.miscompare",
        || {
            replies(|cdb, pdu| {
                if is_compare(cdb) && status(pdu) == Some(2) {
                    fail(pdu, 0xb, 0, 0);
                }
            })
        },
    ),
    fault(
        "a miscompare is found when all is written",
        "compare-and-write.untouched",
        || {
            let refuse = replies(|cdb, pdu| {
                if is_compare(cdb) {
                    fail_with(pdu, 0xe, 0x1d, 0, Some(512));
                }
            });
            both(refuse, blind())
        },
    ),
    fault(
        "a miscompare does not tell where",
        "compare-and-write.offset",
        || {
            replies(|cdb, pdu| {
                if is_compare(cdb) {
                    fail(pdu, 0xe, 0x1d, 0);
                }
            })
        },
    ),
    fault(
        "a miscompare tells the address of the block",
        "compare-and-write.offset",
        || {
            replies(|cdb, pdu| {
                if is_compare(cdb) {
                    fail_with(pdu, 0xe, 0x1d, 0, Some(256));
                }
            })
        },
    ),
    fault(
        "no blocks to compare are an error",
        "compare-and-write.zero-blocks",
        || {
            replies(|cdb, pdu| {
                if is_compare(cdb) {
                    fail(pdu, 5, 0x24, 0);
                }
            })
        },
    ),
    fault(
        "behind the end nothing is compared",
        "compare-and-write.beyond-end",
        || {
            replies(|cdb, pdu| {
                if is_compare(cdb) {
                    good(pdu);
                }
            })
        },
    ),
    fault(
        "what was not sent is written as zeros",
        "compare-and-write.half-the-data",
        || {
            commands(|cdb, expected, data| {
                if is_compare(cdb) {
                    *expected *= 2;
                    *data = [&data[..], &vec![0; data.len()]].concat().into();
                }
            })
        },
    ),
    fault(
        "COMPARE AND WRITE writes a block too many",
        "compare-and-write.neighbours",
        || {
            commands(|cdb, _, data| {
                if is_compare(cdb) {
                    cdb[0] = WRITE_16;
                    cdb[13] = 2;
                    let new = data.slice(data.len() / 2..);
                    *data = Bytes::from(new.repeat(2));
                }
            })
        },
    ),
    fault(
        "both of two sessions win",
        "compare-and-write.one-winner",
        blind,
    ),
    fault(
        "increments are lost",
        "compare-and-write.no-lost-update",
        || {
            // Every seventh one.
            let mut count = 0;
            idle(move |cdb| {
                count += usize::from(is_compare(cdb));
                is_compare(cdb) && count % 7 == 0
            })
        },
    ),
    fault(
        "WRPROTECT is overlooked",
        "compare-and-write.protect",
        || {
            cdbs(|cdb| {
                if is_compare(cdb) {
                    cdb[1] &= 0x1f;
                }
            })
        },
    ),
    fault("ORWRITE writes", "orwrite.either", || {
        cdbs(|cdb| {
            if cdb[0] == ORWRITE {
                cdb[0] = WRITE_16;
            }
        })
    }),
    fault("ORWRITE forgets the first byte", "orwrite.either", || {
        commands(|cdb, _, data| {
            if cdb[0] == ORWRITE {
                patch(data, 0, &[0; 16]);
            }
        })
    }),
    fault(
        "ORWRITE of no blocks is an error",
        "orwrite.zero-blocks",
        || {
            replies(|cdb, pdu| {
                if cdb[0] == ORWRITE {
                    fail(pdu, 5, 0x24, 0);
                }
            })
        },
    ),
    fault("ORWRITE is cut at the end", "orwrite.beyond-end", || {
        cdbs(|cdb| {
            if cdb[0] == ORWRITE {
                cdb[13] = 1;
            }
        })
    }),
    fault(
        "WRITE ATOMIC writes half of it",
        "write-atomic.stored",
        || {
            cdbs(|cdb| {
                if cdb[0] == WRITE_ATOMIC {
                    (cdb[0], cdb[13]) = (WRITE_16, cdb[13] / 2);
                }
            })
        },
    ),
    fault(
        "WRITE ATOMIC is cut at the end",
        "write-atomic.beyond-end",
        cut_whole,
    ),
    fault(
        "WRITE ATOMIC is refused when it is half done",
        "write-atomic.untouched",
        || {
            let refuse = replies(|cdb, pdu| {
                if cdb[0] == WRITE_ATOMIC {
                    fail(pdu, 5, 0x21, 0);
                }
            });
            both(refuse, cut_whole())
        },
    ),
    fault(
        "MAXIMUM ATOMIC TRANSFER LENGTH is no limit",
        "write-atomic.maximum",
        || {
            cdbs(|cdb| {
                if cdb[0] == WRITE_ATOMIC {
                    cdb[0] = WRITE_16;
                }
            })
        },
    ),
];

/// Writes one block where two are over the end.
fn cut_whole() -> Saboteur {
    cdbs(|cdb| {
        if cdb[0] == WRITE_ATOMIC {
            (cdb[0], cdb[13]) = (WRITE_16, 1);
        }
    })
}

fn is_compare(cdb: &Cdb) -> bool {
    cdb[0] == COMPARE_AND_WRITE
}

/// Writes without comparing.
fn blind() -> Saboteur {
    commands(|cdb, expected, data| {
        if is_compare(cdb) {
            cdb[0] = WRITE_16;
            *expected /= 2;
            *data = data.slice(data.len() / 2..);
        }
    })
}
