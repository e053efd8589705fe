//! Targets that break the rules of `opcodes`.

use bytes::Bytes;
use iscsi_proto::wire::Header;

use super::inquiry::{is_standard, unknown};
use crate::broken::scsi::{Cdb, cdbs, fail, fault, good, patch, replies};
use crate::broken::{Fault, Saboteur, edit};

pub(crate) const FAULTS: &[Fault] = &[
    fault("REQUEST SENSE is not known", "opcodes.primary", || {
        unknown(|cdb| cdb[0] == 0x03)
    }),
    fault("INQUIRY is not known", "opcodes.primary", || {
        unknown(is_standard)
    }),
    fault("READ (10) is not known", "opcodes.block", || {
        unknown(|cdb| cdb[0] == 0x28)
    }),
    fault("READ CAPACITY (10) is not known", "opcodes.block", || {
        unknown(|cdb| cdb[0] == 0x25)
    }),
    fault("READ (16) is not known", "opcodes.block.sixteen", || {
        unknown(|cdb| cdb[0] == 0x88)
    }),
    fault(
        "READ CAPACITY (16) is not known",
        "opcodes.block.sixteen",
        || unknown(|cdb| cdb[..2] == [0x9e, 0x10]),
    ),
    fault(
        "ABORT TASK is claimed and not supported",
        "opcodes.management.abort-task",
        || managed(5),
    ),
    fault(
        "ABORT TASK is there and not claimed",
        "opcodes.management.abort-task",
        || functions(|old| old & 0x7f),
    ),
    fault(
        "ABORT TASK SET is claimed and rejected",
        "opcodes.management.abort-task-set",
        || managed(255),
    ),
    fault(
        "ABORT TASK SET is there and not claimed",
        "opcodes.management.abort-task-set",
        || functions(|old| old & 0xbf),
    ),
    fault(
        "LOGICAL UNIT RESET is claimed and not supported",
        "opcodes.management.unit-reset",
        || managed(5),
    ),
    fault(
        "LOGICAL UNIT RESET is there and not claimed",
        "opcodes.management.unit-reset",
        || functions(|old| old & 0xf7),
    ),
    fault(
        "COMMAND DATA LENGTH counts itself",
        "opcodes.all.lengths",
        || all(|data| data[3] = data[3].wrapping_add(4)),
    ),
    fault(
        "the last command descriptor is cut",
        "opcodes.all.lengths",
        || {
            all(|data| {
                data.truncate(data.len() - 3);
                let length = u32::try_from(data.len() - 4).unwrap();
                data[..4].copy_from_slice(&length.to_be_bytes());
            })
        },
    ),
    fault(
        "every command has sixteen bytes",
        "opcodes.all.cdb-lengths",
        || each(|one| one[7] = 16),
    ),
    fault(
        "the list leaves INQUIRY out",
        "opcodes.all.mandatory",
        || only(|one| one[0] != 0x12),
    ),
    fault(
        "the list leaves itself out",
        "opcodes.all.mandatory",
        || only(|one| one[0] != 0xa3 || one[3] != 0x0c),
    ),
    fault(
        "LOG SENSE is listed and not known",
        "opcodes.all.known",
        || unknown(|cdb| cdb[0] == 0x4d),
    ),
    fault(
        "GET LBA STATUS is listed and not known",
        "opcodes.all.known",
        || unknown(|cdb| cdb[..2] == [0x9e, 0x12]),
    ),
    fault(
        "VERIFY (16) works and is not listed",
        "opcodes.all.complete",
        || only(|one| one[0] != 0x8f),
    ),
    fault(
        "commands with service actions are listed without them",
        "opcodes.all.complete",
        || each(|one| one[5] &= !1),
    ),
    fault(
        "SUPPORT is 001b of everything",
        "opcodes.one.agrees",
        || one(|data| data[1] = data[1] & !7 | 1),
    ),
    fault("SUPPORT is a reserved value", "opcodes.one.agrees", || {
        one(|data| data[1] |= 7)
    }),
    fault(
        "service actions cannot be asked for",
        "opcodes.one.agrees",
        || {
            replies(|cdb, pdu| {
                if is_report(cdb) && cdb[2] & 7 == 2 {
                    fail(pdu, 5, 0x24, 0);
                }
            })
        },
    ),
    fault(
        "CDB USAGE DATA begins behind the operation code",
        "opcodes.one.usage",
        || {
            one(|data| {
                data.remove(4);
                data.push(0);
            })
        },
    ),
    fault(
        "CDB SIZE is that of the longest command",
        "opcodes.one.usage",
        || {
            one(|data| {
                data[3] = 16;
                data.resize(20, 0);
            })
        },
    ),
    fault(
        "CDB USAGE DATA has a mask where the service action is",
        "opcodes.one.usage",
        || one(|data| data[5] = 0x1f),
    ),
    fault(
        "SUPPORT of an unknown command is 011b",
        "opcodes.one.unsupported",
        || {
            replies(|cdb, pdu| {
                if is_report(cdb) && cdb[2..4] == [1, 0x1f] {
                    patch(&mut pdu.data, 1, &[3]);
                }
            })
        },
    ),
    fault(
        "to ask for an unknown command is an error",
        "opcodes.one.unsupported",
        || {
            replies(|cdb, pdu| {
                if is_report(cdb) && cdb[2..4] == [1, 0x1f] {
                    fail(pdu, 5, 0x24, 0);
                }
            })
        },
    ),
    fault(
        "a missing service action is the first one",
        "opcodes.options.without-action",
        || {
            cdbs(|cdb| {
                if is_report(cdb) && cdb[2] == 1 && cdb[3] == 0xa3 {
                    cdb[2] = 2;
                    cdb[5] = 0x0a;
                }
            })
        },
    ),
    fault(
        "a needless service action is passed over",
        "opcodes.options.with-action",
        || {
            cdbs(|cdb| {
                if is_report(cdb) && cdb[2] == 2 && cdb[3] == 0 {
                    cdb[2] = 1;
                }
            })
        },
    ),
    fault(
        "reserved REPORTING OPTIONS bring all commands",
        "opcodes.options.reserved",
        || {
            cdbs(|cdb| {
                if is_report(cdb) && cdb[2] == 7 {
                    cdb[2] = 0;
                }
            })
        },
    ),
    fault(
        "ALLOCATION LENGTH of the list is not looked at",
        "opcodes.allocation",
        || {
            cdbs(|cdb| {
                if is_report(cdb) {
                    cdb[8] = 0x20;
                }
            })
        },
    ),
    fault(
        "COMMAND DATA LENGTH tells how little is sent",
        "opcodes.allocation",
        || {
            replies(|cdb, pdu| {
                if is_report(cdb) && cdb[9] == 6 {
                    patch(&mut pdu.data, 0, &[0, 0, 0, 2]);
                }
            })
        },
    ),
    fault(
        "a timeouts descriptor counts itself",
        "opcodes.timeouts",
        || {
            replies(|cdb, pdu| {
                if is_report(cdb) && cdb[2] == 0x80 {
                    patch(&mut pdu.data, 12, &[0, 12]);
                }
            })
        },
    ),
    fault(
        "CTDP is set and no timeouts descriptor follows",
        "opcodes.timeouts",
        || {
            let plain = cdbs(|cdb| {
                if is_report(cdb) {
                    cdb[2] &= 0x7f;
                }
            });
            let claimed = replies(|cdb, pdu| {
                if is_report(cdb) && cdb[2] == 0x80 {
                    patch(&mut pdu.data, 4 + 5, &[2]);
                }
            });
            crate::broken::scsi::both(claimed, plain)
        },
    ),
    fault(
        "with timeouts some commands are left out",
        "opcodes.timeouts",
        || {
            replies(|cdb, pdu| {
                if is_report(cdb) && cdb[2] == 0x80 {
                    let cut = pdu.data.len() - 20;
                    pdu.data.truncate(cut);
                }
            })
        },
    ),
    fault(
        "a command that is not listed is done all the same",
        "opcodes.all.complete",
        || {
            let done = replies(|cdb, pdu| {
                if cdb[0] == 0x91 {
                    good(pdu);
                }
            });
            crate::broken::scsi::both(done, only(|one| one[0] != 0x91))
        },
    ),
];

/// REPORT SUPPORTED OPERATION CODES.
fn is_report(cdb: &Cdb) -> bool {
    cdb[..2] == [0xa3, 0x0c]
}

/// Task management requests are answered with this.
fn managed(response: u8) -> Saboteur {
    edit::responses(move |pdu| {
        if let Header::TaskManagementResponse(answer) = &mut pdu.header {
            answer.response = response;
        }
    })
}

/// Other functions in REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS.
fn functions(new: fn(u8) -> u8) -> Saboteur {
    replies(move |cdb, pdu| {
        if let ([0xa3, 0x0d, ..], Some(old)) = (cdb, pdu.data.first().copied()) {
            patch(&mut pdu.data, 0, &[new(old)]);
        }
    })
}

/// Another list of all commands.
fn all(edit: fn(&mut Vec<u8>)) -> Saboteur {
    replies(move |cdb, pdu| {
        if is_report(cdb) && cdb[2] == 0 && pdu.data.len() > 4 {
            let mut data = pdu.data.to_vec();
            edit(&mut data);
            pdu.data = data.into();
        }
    })
}

/// Other command descriptors in the list.
fn each(edit: fn(&mut [u8])) -> Saboteur {
    replies(move |cdb, pdu| {
        if is_report(cdb) && cdb[2] == 0 && pdu.data.len() > 4 {
            let mut data = pdu.data.to_vec();
            data[4..].chunks_mut(8).for_each(edit);
            pdu.data = data.into();
        }
    })
}

/// A list of some of the commands alone; its length goes along.
fn only(which: fn(&[u8]) -> bool) -> Saboteur {
    replies(move |cdb, pdu| {
        if is_report(cdb) && cdb[2] == 0 && pdu.data.len() > 4 {
            let kept: Vec<&[u8]> = pdu.data[4..].chunks(8).filter(|one| which(one)).collect();
            let kept = kept.concat();
            let length = u32::try_from(kept.len()).unwrap().to_be_bytes();
            pdu.data = Bytes::from([&length[..], &kept].concat());
        }
    })
}

/// Something else told of one command.
fn one(edit: fn(&mut Vec<u8>)) -> Saboteur {
    replies(move |cdb, pdu| {
        if is_report(cdb) && cdb[2] != 0 && pdu.data.len() > 8 {
            let mut data = pdu.data.to_vec();
            edit(&mut data);
            pdu.data = data.into();
        }
    })
}
