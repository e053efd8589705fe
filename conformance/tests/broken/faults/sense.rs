//! Targets that break the rules of `sense`.

use bytes::Bytes;
use iscsi_proto::wire::Header;

use super::inquiry::is_standard;
use crate::broken::scsi::{Cdb, cdbs, fail, fault, good, patch, replies};
use crate::broken::{Fault, Saboteur};

pub(crate) const FAULTS: &[Fault] = &[
    fault(
        "CHECK CONDITION comes without sense",
        "sense.autosense",
        || {
            replies(|_, pdu| {
                if matches!(pdu.header, Header::ScsiResponse(_)) {
                    pdu.data = Bytes::new();
                }
            })
        },
    ),
    fault(
        "an error of the address has no sense",
        "sense.autosense",
        || {
            replies(|cdb, pdu| {
                if cdb[0] == 0x88 && matches!(pdu.header, Header::ScsiResponse(_)) {
                    pdu.data = Bytes::new();
                }
            })
        },
    ),
    fault(
        "SenseLength counts itself, and more",
        "sense.length",
        || errors(|sense| sense[1] += 4),
    ),
    fault(
        "sense data is eight bytes of fixed format",
        "sense.length",
        || {
            errors(|sense| {
                sense.truncate(10);
                sense[1] = 8;
            })
        },
    ),
    fault("ADDITIONAL SENSE LENGTH is zero", "sense.length", || {
        errors(|sense| sense[2 + 7] = 0)
    }),
    fault(
        "sense is in descriptor format, and D_SENSE zero",
        "sense.format",
        || errors(|sense| *sense = vec![0, 8, 0x72, 5, 0x24, 0, 0, 0, 0, 0]),
    ),
    fault(
        "sense is said to be of an earlier command",
        "sense.format",
        || errors(|sense| sense[2] = 0x71),
    ),
    fault(
        "the field pointer is about the parameter list",
        "sense.field-pointer",
        || errors(|sense| sense[2 + 15] &= !0x40),
    ),
    fault(
        "the field pointer points at the allocation length",
        "sense.field-pointer",
        || errors(|sense| sense[2 + 17] = 4),
    ),
    fault(
        "an unknown operation code is an invalid field",
        "sense.opcode",
        || {
            replies(|cdb, pdu| {
                if cdb[0] == 0x1f {
                    fail(pdu, 5, 0x24, 0);
                }
            })
        },
    ),
    fault("an unknown command is done", "sense.opcode", || {
        replies(|cdb, pdu| {
            if cdb[0] == 0x1f {
                good(pdu);
            }
        })
    }),
    fault(
        "any service action of 9Eh is READ CAPACITY",
        "sense.service-action",
        || {
            cdbs(|cdb| {
                if cdb[..2] == [0x9e, 0x1f] {
                    cdb[1] = 0x10;
                }
            })
        },
    ),
    fault("NACA is passed over", "sense.naca", || {
        cdbs(|cdb| cdb[5] &= !0x04)
    }),
    fault(
        "a missing unit is not ready",
        "sense.unsupported-unit",
        || {
            replies(|cdb, pdu| {
                if cdb[0] == 0
                    && matches!(&pdu.data[..], [_, _, sense @ ..] if sense.get(12) == Some(&0x25))
                {
                    fail(pdu, 2, 0x04, 0);
                }
            })
        },
    ),
    fault(
        "every LUN is the same unit",
        "sense.unsupported-unit",
        || {
            crate::broken::edit::requests(|pdu| {
                if let Header::ScsiCommand(command) = &mut pdu.header {
                    command.lun = 0.into();
                }
            })
        },
    ),
    fault(
        "the block behind the last one is an invalid field",
        "sense.address.beyond",
        || out_of_range_is(0x24),
    ),
    fault(
        "the block behind the last one reads as the last one",
        "sense.address.beyond",
        || {
            cdbs(|cdb| {
                if cdb[0] == 0x88 && cdb[2..10] == BLOCKS.to_be_bytes() {
                    cdb[2..10].copy_from_slice(&(BLOCKS - 1).to_be_bytes());
                }
            })
        },
    ),
    fault(
        "a READ across the end is cut to what there is",
        "sense.address.across",
        || {
            cdbs(|cdb| {
                if cdb[0] == 0x88 && cdb[2..10] == (BLOCKS - 1).to_be_bytes() {
                    cdb[13] = 1;
                }
            })
        },
    ),
    fault(
        "an address wraps to the first block",
        "sense.address.wrap",
        || {
            cdbs(|cdb| {
                if cdb[0] == 0x88 && cdb[2..10] == [0xff; 8] {
                    cdb[2..10].copy_from_slice(&[0; 8]);
                }
            })
        },
    ),
    fault(
        "REQUEST SENSE has always something to say",
        "sense.request.none",
        || {
            replies(|cdb, pdu| {
                if cdb[0] == 0x03 {
                    patch(&mut pdu.data, 2, &[6]);
                    patch(&mut pdu.data, 12, &[0x29]);
                }
            })
        },
    ),
    fault(
        "sense stays pending behind autosense",
        "sense.request.after-autosense",
        || {
            let mut failed = false;
            replies(move |cdb, pdu| {
                if cdb[0] == 0x03 && failed {
                    patch(&mut pdu.data, 2, &[5]);
                    patch(&mut pdu.data, 12, &[0x24]);
                }
                failed =
                    matches!(pdu.header, Header::ScsiResponse(response) if response.status == 2);
            })
        },
    ),
    fault(
        "REQUEST SENSE brings descriptor format unasked",
        "sense.request.fixed",
        || {
            cdbs(|cdb| {
                if cdb[0] == 0x03 {
                    cdb[1] = 1;
                }
            })
        },
    ),
    fault(
        "REQUEST SENSE brings fourteen bytes",
        "sense.request.fixed",
        || {
            cdbs(|cdb| {
                if cdb[0] == 0x03 {
                    cdb[4] = 14;
                }
            })
        },
    ),
    fault("DESC is passed over", "sense.request.descriptor", || {
        cdbs(|cdb| {
            if cdb[0] == 0x03 {
                cdb[1] = 0;
            }
        })
    }),
    fault(
        "DESC makes REQUEST SENSE an unknown command",
        "sense.request.descriptor",
        || {
            replies(|cdb, pdu| {
                if cdb[..2] == [0x03, 1] {
                    fail(pdu, 5, 0x20, 0);
                }
            })
        },
    ),
    fault(
        "REQUEST SENSE for no bytes brings four, as in SCSI-1",
        "sense.request.allocation",
        || {
            cdbs(|cdb| {
                if cdb[0] == 0x03 && cdb[4] == 0 {
                    cdb[4] = 4;
                }
            })
        },
    ),
    fault(
        "ADDITIONAL SENSE LENGTH tells how little is sent",
        "sense.request.allocation",
        || {
            replies(|cdb, pdu| {
                if cdb[0] == 0x03 && cdb[4] == 8 {
                    patch(&mut pdu.data, 7, &[0]);
                }
            })
        },
    ),
    fault(
        "REQUEST SENSE to a missing unit is an error",
        "sense.request.unsupported-unit",
        || {
            replies(|cdb, pdu| {
                if cdb[0] == 0x03 {
                    fail(pdu, 5, 0x25, 0);
                }
            })
        },
    ),
    fault(
        "REQUEST SENSE to a missing unit has nothing to say",
        "sense.request.unsupported-unit",
        || {
            replies(|cdb, pdu| {
                if cdb[0] == 0x03 {
                    patch(&mut pdu.data, 2, &[0]);
                    patch(&mut pdu.data, 12, &[0]);
                }
            })
        },
    ),
];

/// The blocks of the sound target's disk.
const BLOCKS: u64 = 0x1_0000;

/// Other sense of INQUIRY, with the two bytes of its length before it.
fn errors(edit: fn(&mut Vec<u8>)) -> Saboteur {
    replies(move |cdb, pdu| {
        if is_standard(cdb) && matches!(pdu.header, Header::ScsiResponse(_)) {
            let mut sense = pdu.data.to_vec();
            edit(&mut sense);
            pdu.data = sense.into();
        }
    })
}

fn out_of_range_is(asc: u8) -> Saboteur {
    replies(move |cdb: &Cdb, pdu| {
        if cdb[0] == 0x88 && matches!(pdu.header, Header::ScsiResponse(_)) {
            fail(pdu, 5, asc, 0);
        }
    })
}
