//! Targets that break the rules of `write`.

use bytes::Bytes;

use crate::broken::scsi::{both, cdbs, commands, fail, fault, good, idle, replies, spoil};
use crate::broken::{Act, Fault, Seen};

const READ_6: u8 = 0x08;
const WRITE_6: u8 = 0x0a;
const WRITE_10: u8 = 0x2a;
const READ_12: u8 = 0xa8;
const WRITE_12: u8 = 0xaa;
const WRITE_16: u8 = 0x8a;

pub(crate) const FAULTS: &[Fault] = &[
    fault("WRITE (6) writes nothing", "write.six", || {
        idle(|cdb| cdb[0] == WRITE_6)
    }),
    fault(
        "WRITE (6) with length 0 writes nothing",
        "write.six.zero-is-256",
        || idle(|cdb| cdb[0] == WRITE_6 && cdb[4] == 0),
    ),
    fault("WRITE (10) writes a block later", "write.ten", || {
        cdbs(|cdb| {
            if cdb[0] == WRITE_10 {
                cdb[5] += 1;
            }
        })
    }),
    fault("WRITE (12) forgets the last block", "write.twelve", || {
        cdbs(|cdb| {
            if cdb[0] == WRITE_12 {
                cdb[9] -= 1;
            }
        })
    }),
    fault("WRITE (16) spoils a byte", "write.sixteen", || {
        commands(|cdb, _, data| {
            if cdb[0] == WRITE_16 {
                spoil(data, 511);
            }
        })
    }),
    fault(
        "READ (12) begins a block late",
        "write.read-in-all-forms",
        || {
            cdbs(|cdb| {
                if cdb[0] == READ_12 {
                    cdb[5] += 1;
                }
            })
        },
    ),
    fault("READ (6) knows old data", "write.read-in-all-forms", || {
        replies(|cdb, pdu| {
            if cdb[0] == READ_6 {
                pdu.data = Bytes::from(vec![0; pdu.data.len()]);
            }
        })
    }),
    fault(
        "a WRITE clears the block behind it",
        "write.neighbours",
        || {
            commands(|cdb, expected, data| {
                if cdb[0] == WRITE_10 && cdb[5] == 1 {
                    cdb[8] += 1;
                    *expected += 512;
                    *data = [&data[..], &[0; 512]].concat().into();
                }
            })
        },
    ),
    fault("the first of two WRITEs wins", "write.overlapping", || {
        // Address 260 is half-way into the first one.
        idle(|cdb| cdb[0] == WRITE_10 && cdb[5] == 4)
    }),
    fault(
        "a WRITE of no blocks is an error",
        "write.zero-blocks",
        || {
            replies(|cdb, pdu| {
                if cdb[0] == WRITE_12 {
                    fail(pdu, 5, 0x24, 0);
                }
            })
        },
    ),
    fault(
        "a WRITE behind the end is dropped",
        "write.beyond-end",
        || {
            replies(|cdb, pdu| {
                if cdb[0] == WRITE_16 {
                    good(pdu);
                }
            })
        },
    ),
    fault(
        "a WRITE over the end is cut there",
        "write.partly-beyond-end",
        || cut_at_the_end(),
    ),
    fault("the last block takes no data", "write.last-block", || {
        idle(|cdb| cdb[0] == WRITE_10 && cdb[2..6] == [0, 0, 0xff, 0xff])
    }),
    fault("the address wraps", "write.wraparound", || {
        cdbs(|cdb| {
            if cdb[0] == WRITE_16 && cdb[2] == 0xff {
                cdb[2..10].copy_from_slice(&[0; 8]);
            }
        })
    }),
    fault(
        "WRITE (16) has 32 bits of address",
        "write.sixteen.address",
        || {
            cdbs(|cdb| {
                if cdb[0] == WRITE_16 {
                    cdb[2..6].copy_from_slice(&[0; 4]);
                }
            })
        },
    ),
    fault("a WRITE with FUA is lost", "write.fua-and-dpo", || {
        idle(|cdb| cdb[0] == WRITE_10 && cdb[1] & 0x08 != 0)
    }),
    fault(
        "DPO is refused though DPOFUA is 1",
        "write.fua-and-dpo",
        || {
            replies(|cdb, pdu| {
                if cdb[0] == WRITE_10 && cdb[1] == 0x10 {
                    fail(pdu, 5, 0x24, 0);
                }
            })
        },
    ),
    fault("WRPROTECT is overlooked", "write.protect", || {
        cdbs(|cdb| {
            if cdb[0] == WRITE_10 {
                cdb[1] &= 0x1f;
            }
        })
    }),
    fault(
        "WRPROTECT is refused behind the write",
        "write.protect",
        || {
            let refuse = replies(|cdb, pdu| {
                if cdb[0] == WRITE_10 && cdb[1] != 0 {
                    fail(pdu, 5, 0x24, 0);
                }
            });
            let write = cdbs(|cdb| {
                if cdb[0] == WRITE_10 {
                    cdb[1] &= 0x1f;
                }
            });
            both(refuse, write)
        },
    ),
    fault("the data of one R2T is spoilt", "write.long", || {
        Box::new(|seen, _| match seen {
            Seen::Request(pdu) => match &pdu.header {
                iscsi_proto::wire::Header::DataOut(out) if out.buffer_offset.get() > 500_000 => {
                    let mut pdu = pdu.clone();
                    spoil(&mut pdu.data, 0);
                    Act::Replace(vec![pdu])
                }
                _ => Act::Pass,
            },
            _ => Act::Pass,
        })
    }),
    fault(
        "MAXIMUM TRANSFER LENGTH is no limit",
        "write.maximum",
        || {
            replies(|cdb, pdu| {
                if cdb[0] == WRITE_16 {
                    good(pdu);
                }
            })
        },
    ),
    fault(
        "every session has a cache of its own",
        "write.seen-by-others",
        || {
            Box::new(|seen, lane| match seen {
                // The second session reads what the medium held before.
                Seen::Response(pdu) if lane.number == 2 && pdu.data.len() >= 4096 => {
                    let mut pdu = pdu.clone();
                    pdu.data = Bytes::from(vec![0; pdu.data.len()]);
                    Act::Replace(vec![pdu])
                }
                _ => Act::Pass,
            })
        },
    ),
    fault(
        "what was not flushed goes with the session",
        "write.outlives-session",
        || {
            Box::new(|seen, lane| match seen {
                Seen::Request(pdu) if lane.number == 1 => match &pdu.header {
                    iscsi_proto::wire::Header::ScsiCommand(command)
                        if command.cdb[0] == WRITE_10 =>
                    {
                        let mut pdu = pdu.clone();
                        if let iscsi_proto::wire::Header::ScsiCommand(command) = &mut pdu.header {
                            command.cdb = [0; 16];
                        }
                        Act::Replace(vec![pdu])
                    }
                    _ => Act::Pass,
                },
                _ => Act::Pass,
            })
        },
    ),
];

fn cut_at_the_end() -> crate::broken::Saboteur {
    cdbs(|cdb| {
        if cdb[0] == WRITE_16 && cdb[2..10] == [0, 0, 0, 0, 0, 0, 0xff, 0xff] {
            cdb[13] = 1;
        }
    })
}
