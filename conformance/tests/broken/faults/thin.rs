//! Targets that break the rules of `thin`.

use crate::broken::Fault;
use crate::broken::scsi::{
    Cdb, both, cdbs, commands, fail, fault, good, idle, patch, replies, status,
};

const READ_10: u8 = 0x28;
const WRITE_10: u8 = 0x2a;
const UNMAP: u8 = 0x42;

pub(crate) const FAULTS: &[Fault] = &[
    fault(
        "an unmapped block reads as ones",
        "unmap.zeros-or-data",
        || {
            replies(|cdb, pdu| {
                if cdb[0] == READ_10 {
                    pdu.data = vec![0xff; pdu.data.len()].into();
                }
            })
        },
    ),
    fault(
        "UNMAP only marks blocks as deallocated",
        "unmap.deallocated-reads-zeros",
        || {
            let told = replies(|cdb, pdu| {
                if is_status(cdb) {
                    patch(&mut pdu.data, 20, &[1]);
                }
            });
            both(told, idle(|cdb| cdb[0] == UNMAP))
        },
    ),
    fault(
        "UNMAP goes on for two blocks more",
        "unmap.neighbours",
        || {
            commands(|cdb, _, data| {
                if cdb[0] == UNMAP {
                    let low = data[19].wrapping_add(2);
                    patch(data, 19, &[low]);
                }
            })
        },
    ),
    fault(
        "UNMAP begins where its granularity begins",
        "unmap.neighbours",
        || {
            commands(|cdb, _, data| {
                if cdb[0] == UNMAP {
                    let lba = data[15] & !7;
                    patch(data, 15, &[lba]);
                }
            })
        },
    ),
    fault(
        "UNMAP goes from the first to the last of its runs",
        "unmap.several-runs",
        || {
            commands(|cdb, _, data| {
                if cdb[0] == UNMAP && data.len() == 56 {
                    // The second one begins first, and 48 blocks later the first one ends.
                    patch(data, 32, &[0, 0, 0, 48]);
                }
            })
        },
    ),
    fault(
        "what was unmapped stays deallocated",
        "unmap.written-again",
        || {
            replies(|cdb, pdu| {
                if is_status(cdb) {
                    patch(&mut pdu.data, 20, &[1]);
                }
            })
        },
    ),
    fault(
        "what was unmapped cannot be written again",
        "unmap.written-again",
        || {
            let mut gone = false;
            idle(move |cdb| {
                gone |= cdb[0] == UNMAP;
                gone && cdb[0] == WRITE_10
            })
        },
    ),
    fault("no blocks mean one", "unmap.no-blocks", || {
        commands(|cdb, _, data| {
            if cdb[0] == UNMAP {
                patch(data, 19, &[1]);
            }
        })
    }),
    fault(
        "UNMAP behind the end does nothing",
        "unmap.beyond-end",
        || idle(|cdb| cdb[0] == UNMAP),
    ),
    fault("an empty list is too short", "unmap.list.empty", || {
        replies(|cdb, pdu| {
            if cdb[0] == UNMAP && cdb[8] == 0 {
                fail(pdu, 5, 0x1a, 0);
            }
        })
    }),
    fault("a short list is no list", "unmap.list.short", || {
        idle(|cdb| cdb[0] == UNMAP)
    }),
    fault(
        "half a descriptor is an error",
        "unmap.list.incomplete",
        || {
            replies(|cdb, pdu| {
                if cdb[0] == UNMAP {
                    fail(pdu, 5, 0x26, 0);
                }
            })
        },
    ),
    fault(
        "half a descriptor is filled up",
        "unmap.list.incomplete",
        || {
            commands(|cdb, expected, data| {
                if cdb[0] == UNMAP && data.len() == 36 {
                    cdb[8] = 40;
                    *expected = 40;
                    *data = [&data[..], &[0; 4]].concat().into();
                    patch(data, 0, &[0, 38, 0, 32]);
                }
            })
        },
    ),
    fault("ANCHOR is overlooked", "unmap.anchor", || {
        cdbs(|cdb| {
            if cdb[0] == UNMAP {
                cdb[1] = 0;
            }
        })
    }),
    fault(
        "the number of descriptors has no limit",
        "unmap.descriptor-limit",
        || {
            replies(|cdb, pdu| {
                if cdb[0] == UNMAP {
                    good(pdu);
                }
            })
        },
    ),
    fault(
        "each descriptor has the limit for itself",
        "unmap.block-limit",
        || {
            replies(|cdb, pdu| {
                if cdb[0] == UNMAP && status(pdu) == Some(2) {
                    good(pdu);
                }
            })
        },
    ),
    fault("nothing is ever mapped", "lba-status.written", || {
        replies(|cdb, pdu| {
            if is_status(cdb) {
                patch(&mut pdu.data, 20, &[1]);
            }
        })
    }),
    fault(
        "the status is of the block before",
        "lba-status.descriptors",
        || {
            replies(|cdb, pdu| {
                if is_status(cdb) {
                    let lba = pdu.data[15].wrapping_add(1);
                    patch(&mut pdu.data, 15, &[lba]);
                }
            })
        },
    ),
    fault(
        "a descriptor goes on behind the end",
        "lba-status.descriptors",
        || {
            replies(|cdb, pdu| {
                if is_status(cdb) {
                    patch(&mut pdu.data, 16, &[0x7f, 0xff, 0xff, 0xff]);
                }
            })
        },
    ),
    fault(
        "ALLOCATION LENGTH is overlooked",
        "lba-status.allocation-length",
        || {
            cdbs(|cdb| {
                if is_status(cdb) {
                    cdb[13] = 64;
                }
            })
        },
    ),
    fault(
        "behind the end all is deallocated",
        "lba-status.beyond-end",
        || {
            replies(|cdb, pdu| {
                if is_status(cdb) && status(pdu) == Some(2) {
                    good(pdu);
                }
            })
        },
    ),
];

fn is_status(cdb: &Cdb) -> bool {
    cdb[0] == 0x9e && cdb[1] == 0x12
}
