//! Targets that break the rules of `read`.

use iscsi_proto::wire::Header;

use crate::broken::Fault;
use crate::broken::scsi::{cdbs, fail, fault, good, replies, spoil};

const READ_6: u8 = 0x08;
const READ_10: u8 = 0x28;
const READ_16: u8 = 0x88;
const READ_12: u8 = 0xa8;

pub(crate) const FAULTS: &[Fault] = &[
    fault("READ (12) brings a block less", "read.forms", || {
        cdbs(|cdb| {
            if cdb[0] == READ_12 {
                cdb[9] -= 1;
            }
        })
    }),
    fault("READ (6) reads something else", "read.forms", || {
        replies(|cdb, pdu| {
            if cdb[0] == READ_6 {
                spoil(&mut pdu.data, 0);
            }
        })
    }),
    fault(
        "READ (10) of no blocks reads one",
        "read.zero-blocks",
        || {
            cdbs(|cdb| {
                if cdb[0] == READ_10 && cdb[7..9] == [0, 0] {
                    cdb[8] = 1;
                }
            })
        },
    ),
    fault(
        "READ (6) of no blocks is an error",
        "read.six.zero-is-256",
        || {
            replies(|cdb, pdu| {
                if cdb[0] == READ_6 && cdb[4] == 0 {
                    fail(pdu, 5, 0x24, 0);
                }
            })
        },
    ),
    fault(
        "READ (6) with length 0 reads nothing",
        "read.six.zero-is-256",
        || {
            cdbs(|cdb| {
                if cdb[0] == READ_6 && cdb[4] == 0 {
                    *cdb = [
                        READ_10, 0, 0, 0, cdb[2], cdb[3], 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                    ];
                }
            })
        },
    ),
    fault(
        "READ (6) drops five bits of its address",
        "read.six.address",
        || {
            cdbs(|cdb| {
                if cdb[0] == READ_6 {
                    cdb[1] = 0;
                }
            })
        },
    ),
    fault("the end is a block late", "read.beyond-end", || {
        cdbs(|cdb| {
            if cdb[0] == READ_12 && cdb[2..6] == [0, 1, 0, 0] {
                cdb[2..6].copy_from_slice(&[0, 0, 0xff, 0xff]);
            }
        })
    }),
    fault(
        "behind the end is an invalid field",
        "read.beyond-end",
        || {
            replies(|cdb, pdu| {
                if cdb[0] == READ_10 {
                    fail(pdu, 5, 0x24, 0);
                }
            })
        },
    ),
    fault(
        "a READ over the end is cut there",
        "read.partly-beyond-end",
        || {
            cdbs(|cdb| {
                if cdb[0] == READ_10 && cdb[2..6] == [0, 0, 0xff, 0xff] {
                    cdb[8] = 1;
                }
            })
        },
    ),
    fault("the last block is out of range", "read.last-block", || {
        replies(|cdb, pdu| {
            if cdb[0] == READ_16 {
                fail(pdu, 5, 0x21, 0);
            }
        })
    }),
    fault("the address wraps", "read.wraparound", || {
        cdbs(|cdb| {
            if cdb[0] == READ_16 && cdb[2] == 0xff {
                cdb[2..10].copy_from_slice(&[0; 8]);
            }
        })
    }),
    fault(
        "READ (16) has 32 bits of address",
        "read.sixteen.address",
        || {
            cdbs(|cdb| {
                if cdb[0] == READ_16 {
                    cdb[2..6].copy_from_slice(&[0; 4]);
                }
            })
        },
    ),
    fault(
        "READ (12) has 16 bits of length",
        "read.sixteen.length",
        || {
            cdbs(|cdb| {
                if cdb[0] == READ_12 {
                    cdb[6..8].copy_from_slice(&[0; 2]);
                }
            })
        },
    ),
    fault(
        "FUA is refused though DPOFUA is 1",
        "read.fua-and-dpo",
        || {
            replies(|cdb, pdu| {
                if matches!(cdb[0], READ_10 | READ_16) && cdb[1] & 0x08 != 0 {
                    fail(pdu, 5, 0x24, 0);
                }
            })
        },
    ),
    fault("RDPROTECT is overlooked", "read.protect", || {
        cdbs(|cdb| {
            if cdb[0] == READ_10 {
                cdb[1] &= 0x1f;
            }
        })
    }),
    fault(
        "a GROUP NUMBER reads another place",
        "read.group-number",
        || {
            replies(|cdb, pdu| {
                if cdb[0] == READ_10 && cdb[6] != 0 {
                    spoil(&mut pdu.data, 100);
                }
            })
        },
    ),
    fault(
        "an obsolete bit makes the command unknown",
        "read.reserved-bits",
        || {
            replies(|cdb, pdu| {
                if cdb[0] == READ_10 && cdb[1] == 1 {
                    fail(pdu, 5, 0x20, 0);
                }
            })
        },
    ),
    fault("the second burst of a READ is wrong", "read.long", || {
        replies(|_, pdu| {
            if matches!(&pdu.header, Header::DataIn(data) if data.buffer_offset.get() >= 262_144) {
                spoil(&mut pdu.data, 7);
            }
        })
    }),
    fault(
        "MAXIMUM TRANSFER LENGTH is no limit",
        "read.maximum",
        || {
            replies(|cdb, pdu| {
                if cdb[0] == READ_16 {
                    good(pdu);
                }
            })
        },
    ),
];
