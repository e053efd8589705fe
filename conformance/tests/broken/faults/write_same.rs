//! Targets that break the rules of `write_same`.

use crate::broken::Fault;
use crate::broken::scsi::{cdbs, commands, fail, fault, good, idle, replies};

const TEN: u8 = 0x41;
const SIXTEEN: u8 = 0x93;

pub(crate) const FAULTS: &[Fault] = &[
    fault("WRITE SAME (10) writes one block", "write-same.ten", || {
        cdbs(|cdb| {
            if cdb[0] == TEN {
                cdb[8] = 1;
            }
        })
    }),
    fault(
        "WRITE SAME (16) writes a block too many",
        "write-same.sixteen",
        || {
            cdbs(|cdb| {
                if cdb[0] == SIXTEEN {
                    cdb[13] += 1;
                }
            })
        },
    ),
    fault(
        "WRITE SAME (10) of no blocks writes nothing",
        "write-same.no-blocks",
        || idle(|cdb| cdb[0] == TEN),
    ),
    fault(
        "MAXIMUM WRITE SAME LENGTH is no limit",
        "write-same.maximum",
        || {
            replies(|cdb, pdu| {
                if cdb[0] == SIXTEEN {
                    good(pdu);
                }
            })
        },
    ),
    fault(
        "WRITE SAME ends at the end",
        "write-same.beyond-end",
        || {
            cdbs(|cdb| {
                if cdb[0] == TEN {
                    cdb[8] = 1;
                }
            })
        },
    ),
    fault(
        "behind the end is an invalid field",
        "write-same.beyond-end",
        || {
            replies(|cdb, pdu| {
                if cdb[0] == SIXTEEN {
                    fail(pdu, 5, 0x24, 0);
                }
            })
        },
    ),
    fault(
        "WRITE SAME with UNMAP does nothing",
        "write-same.unmap.zeros",
        || idle(|cdb| cdb[0] == SIXTEEN && cdb[1] & 8 != 0),
    ),
    fault(
        "WRITE SAME with UNMAP does not look at its block",
        "write-same.unmap.data",
        || {
            commands(|cdb, _, data| {
                if cdb[0] == SIXTEEN && cdb[1] & 8 != 0 {
                    *data = vec![0; data.len()].into();
                }
            })
        },
    ),
    fault("NDOB writes nothing", "write-same.no-data-out", || {
        idle(|cdb| cdb[0] == SIXTEEN && cdb[1] & 1 != 0)
    }),
    fault("ANCHOR is overlooked", "write-same.anchor", || {
        cdbs(|cdb| {
            if cdb[0] == SIXTEEN {
                cdb[1] &= !0x10;
            }
        })
    }),
    fault("WRPROTECT is overlooked", "write-same.protect", || {
        cdbs(|cdb| {
            if cdb[0] == TEN {
                cdb[1] &= 0x1f;
            }
        })
    }),
];
