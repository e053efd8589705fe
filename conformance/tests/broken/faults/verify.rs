//! Targets that break the rules of `verify`.

use crate::broken::Fault;
use crate::broken::scsi::{both, cdbs, commands, fail, fault, good, idle, replies, status};

const WRITE_10: u8 = 0x2a;
const WRITE_AND_VERIFY_10: u8 = 0x2e;
const VERIFY_10: u8 = 0x2f;
const VERIFY_16: u8 = 0x8f;
const VERIFY_12: u8 = 0xaf;
const PRE_FETCH_10: u8 = 0x34;
const PRE_FETCH_16: u8 = 0x90;
const SYNCHRONIZE_10: u8 = 0x35;
const SYNCHRONIZE_16: u8 = 0x91;

pub(crate) const FAULTS: &[Fault] = &[
    fault("VERIFY always compares", "verify.readable", || {
        replies(|cdb, pdu| {
            if cdb[0] == VERIFY_16 {
                fail(pdu, 0xe, 0x1d, 0);
            }
        })
    }),
    fault(
        "VERIFY (12) compares a block too early",
        "verify.equal",
        || {
            cdbs(|cdb| {
                if cdb[0] == VERIFY_12 {
                    cdb[5] = cdb[5].wrapping_sub(1);
                }
            })
        },
    ),
    fault("BYTCHK is overlooked", "verify.miscompare", || {
        cdbs(|cdb| {
            if cdb[0] == VERIFY_10 {
                cdb[1] = 0;
            }
        })
    }),
    fault(
        "a miscompare is a medium error",
        "verify.miscompare",
        || {
            replies(|cdb, pdu| {
                if cdb[0] == VERIFY_10 && status(pdu) == Some(2) {
                    fail(pdu, 3, 0x11, 0);
                }
            })
        },
    ),
    fault("VERIFY writes its data", "verify.writes-nothing", || {
        cdbs(|cdb| {
            if cdb[0] == VERIFY_10 {
                (cdb[0], cdb[1]) = (WRITE_10, 0);
            }
        })
    }),
    fault(
        "BYTCHK 11b looks at the first block alone",
        "verify.one-block",
        || {
            cdbs(|cdb| {
                if cdb[0] == VERIFY_10 {
                    cdb[8] = 1;
                }
            })
        },
    ),
    fault(
        "VERIFY of no blocks is an error",
        "verify.zero-blocks",
        || {
            replies(|cdb, pdu| {
                if cdb[0] == VERIFY_10 {
                    fail(pdu, 5, 0x24, 0);
                }
            })
        },
    ),
    fault("VERIFY ends at the end", "verify.beyond-end", || {
        replies(|cdb, pdu| {
            if cdb[0] == VERIFY_16 {
                good(pdu);
            }
        })
    }),
    fault("VRPROTECT is overlooked", "verify.protect", || {
        cdbs(|cdb| {
            if cdb[0] == VERIFY_10 {
                cdb[1] &= 0x1f;
            }
        })
    }),
    fault(
        "WRITE AND VERIFY only verifies",
        "write-and-verify.stored",
        || idle(|cdb| cdb[0] == WRITE_AND_VERIFY_10),
    ),
    fault(
        "WRITE AND VERIFY with BYTCHK finds a difference",
        "write-and-verify.stored",
        || {
            replies(|cdb, pdu| {
                if cdb[0] == WRITE_AND_VERIFY_10 && cdb[1] != 0 {
                    fail(pdu, 0xe, 0x1d, 0);
                }
            })
        },
    ),
    fault(
        "WRITE AND VERIFY is cut at the end",
        "write-and-verify.beyond-end",
        || {
            cdbs(|cdb| {
                if cdb[0] == WRITE_AND_VERIFY_10 {
                    cdb[8] = 1;
                }
            })
        },
    ),
    fault(
        "no blocks to synchronize are an error",
        "synchronize-cache.whole",
        || {
            replies(|cdb, pdu| {
                if cdb[0] == SYNCHRONIZE_16 {
                    fail(pdu, 5, 0x24, 0);
                }
            })
        },
    ),
    fault(
        "no blocks from the last one are out of range",
        "synchronize-cache.whole",
        || {
            replies(|cdb, pdu| {
                if cdb[0] == SYNCHRONIZE_10 && cdb[5] != 0 {
                    fail(pdu, 5, 0x21, 0);
                }
            })
        },
    ),
    fault(
        "the cache is dropped instead of written",
        "synchronize-cache.written",
        || {
            commands(|cdb, _, data| {
                if cdb[0] == WRITE_10 {
                    *data = vec![0; data.len()].into();
                }
            })
        },
    ),
    fault("IMMED is unknown", "synchronize-cache.immediate", || {
        replies(|cdb, pdu| {
            if cdb[0] == SYNCHRONIZE_10 {
                fail(pdu, 0xb, 0, 0);
            }
        })
    }),
    fault(
        "only the beginning of the range is looked at",
        "synchronize-cache.beyond-end",
        || idle(|cdb| matches!(cdb[0], SYNCHRONIZE_10 | SYNCHRONIZE_16)),
    ),
    fault("PRE-FETCH is busy", "pre-fetch.status", || {
        replies(|cdb, pdu| {
            if cdb[0] == PRE_FETCH_10 {
                fail(pdu, 0xb, 0, 0);
            }
        })
    }),
    fault(
        "PRE-FETCH does not look at its range",
        "pre-fetch.beyond-end",
        || {
            both(
                idle(|cdb| cdb[0] == PRE_FETCH_10),
                idle(|cdb| cdb[0] == PRE_FETCH_16),
            )
        },
    ),
];
