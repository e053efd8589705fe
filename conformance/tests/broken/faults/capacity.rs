//! Targets that break the rules of `capacity`.

use bytes::Bytes;
use iscsi_proto::wire::Header;

use super::inquiry::is_standard;
use crate::broken::scsi::{Cdb, cdbs, fail, fault, good, patch, replies};
use crate::broken::{Fault, Saboteur};

pub(crate) const FAULTS: &[Fault] = &[
    fault(
        "READ CAPACITY (10) brings zeros behind its data",
        "capacity.ten.length",
        || padded(|cdb| cdb[0] == 0x25, 12),
    ),
    fault(
        "what READ CAPACITY (10) does not bring is no residual",
        "capacity.ten.length",
        || no_residual(|cdb| cdb[0] == 0x25),
    ),
    fault(
        "READ CAPACITY (10) tells the number of blocks",
        "capacity.ten.agrees",
        || {
            replies(|cdb, pdu| {
                if cdb[0] == 0x25 {
                    patch(&mut pdu.data, 0, &[0, 1, 0, 0]);
                }
            })
        },
    ),
    fault(
        "READ CAPACITY (10) has other blocks",
        "capacity.ten.agrees",
        || {
            replies(|cdb, pdu| {
                if cdb[0] == 0x25 {
                    patch(&mut pdu.data, 4, &[0, 0, 0x10, 0]);
                }
            })
        },
    ),
    fault(
        "a unit of 2 TiB has FFFFFFFEh as its last block in (10)",
        "capacity.ten.agrees",
        || {
            replies(|cdb, pdu| match cdb[0] {
                0x25 => patch(&mut pdu.data, 0, &[0xff, 0xff, 0xff, 0xfe]),
                0x9e => patch(&mut pdu.data, 0, &[0, 0, 0, 1, 0, 0, 0, 0]),
                _ => {}
            })
        },
    ),
    fault(
        "READ CAPACITY (16) brings twelve bytes",
        "capacity.sixteen.length",
        || {
            cdbs(|cdb| {
                if is_capacity_16(cdb) {
                    cdb[13] = 12;
                }
            })
        },
    ),
    fault(
        "READ CAPACITY (16) fills what is allocated",
        "capacity.sixteen.length",
        || padded(is_capacity_16, 64),
    ),
    fault(
        "READ CAPACITY (16) pays no attention to ALLOCATION LENGTH",
        "capacity.sixteen.allocation",
        || {
            cdbs(|cdb| {
                if is_capacity_16(cdb) {
                    cdb[13] = 32;
                }
            })
        },
    ),
    fault(
        "READ CAPACITY (16) for no bytes is an error",
        "capacity.sixteen.allocation",
        || {
            replies(|cdb, pdu| {
                if is_capacity_16(cdb) && cdb[13] == 0 {
                    fail(pdu, 5, 0x24, 0);
                }
            })
        },
    ),
    fault(
        "physical blocks begin at block 7 where they are logical ones",
        "capacity.sixteen.alignment",
        || {
            replies(|cdb, pdu| {
                if is_capacity_16(cdb) {
                    patch(&mut pdu.data, 15, &[7]);
                }
            })
        },
    ),
    fault(
        "READ CAPACITY (16) tells the number of blocks",
        "capacity.last-block",
        || {
            replies(|cdb, pdu| {
                if is_capacity_16(cdb) {
                    patch(&mut pdu.data, 0, &[0, 0, 0, 0, 0, 1, 0, 0]);
                }
            })
        },
    ),
    fault("REPORT LUNS forgets the unit", "luns.own", || {
        listing(0, |list| list[1] = 9)
    }),
    fault("REPORT LUNS says that there is none", "luns.own", || {
        listing(0, |list| list.clear())
    }),
    fault("LUN LIST LENGTH counts the header", "luns.length", || {
        replies(|cdb, pdu| {
            if cdb[0] == 0xa0 {
                patch(&mut pdu.data, 3, &[16]);
            }
        })
    }),
    fault(
        "LUN LIST LENGTH counts logical units",
        "luns.length",
        || {
            replies(|cdb, pdu| {
                if cdb[0] == 0xa0 {
                    patch(&mut pdu.data, 3, &[1]);
                }
            })
        },
    ),
    fault("a unit is listed twice", "luns.unique", || {
        listing(0, |list| list.extend([0; 8]))
    }),
    fault(
        "a unit is listed that INQUIRY does not find",
        "luns.each-is-there",
        || listing(0, |list| list.extend([0, 5, 0, 0, 0, 0, 0, 0])),
    ),
    fault(
        "what is listed is said not to exist",
        "luns.each-is-there",
        || {
            replies(|cdb, pdu| {
                if is_standard(cdb) {
                    patch(&mut pdu.data, 0, &[0x7f]);
                }
            })
        },
    ),
    fault(
        "LUN LIST LENGTH is that of the cut list",
        "luns.allocation",
        || {
            replies(|cdb, pdu| {
                if cdb[0] == 0xa0 && cdb[6..10] == [0, 0, 0, 8] {
                    patch(&mut pdu.data, 0, &[0; 4]);
                }
            })
        },
    ),
    fault(
        "a list that does not fit is no list at all",
        "luns.allocation",
        || {
            replies(|cdb, pdu| {
                if cdb[0] == 0xa0 && cdb[6..10] == [0, 0, 0, 8] {
                    good(pdu);
                }
            })
        },
    ),
    fault("a cut list is told as an overflow", "luns.overflow", || {
        replies(|cdb, pdu| {
            if let (0xa0, Header::DataIn(header)) = (cdb[0], &mut pdu.header) {
                header.flags |= 0x04;
                header.residual_count = 8.into();
            }
        })
    }),
    fault(
        "SELECT REPORT 02h lists well known units alone",
        "luns.select",
        || listing(2, |list| list.clear()),
    ),
    fault(
        "SELECT REPORT 02h lists what 00h hides",
        "luns.select",
        || listing(2, |list| list.extend([0, 5, 0, 0, 0, 0, 0, 0])),
    ),
    fault(
        "SELECT REPORT is not looked at",
        "luns.select.well-known",
        || {
            cdbs(|cdb| {
                if cdb[0] == 0xa0 {
                    cdb[2] = 0;
                }
            })
        },
    ),
    fault("any SELECT REPORT will do", "luns.select.reserved", || {
        cdbs(|cdb| {
            if cdb[0] == 0xa0 && cdb[2] > 2 {
                cdb[2] = 0;
            }
        })
    }),
    fault("REPORT LUNS is an unknown command", "luns.zero", || {
        replies(|cdb, pdu| {
            if cdb[0] == 0xa0 {
                fail(pdu, 5, 0x20, 0);
            }
        })
    }),
];

/// READ CAPACITY (16).
pub(super) fn is_capacity_16(cdb: &Cdb) -> bool {
    cdb[..2] == [0x9e, 0x10]
}

/// Zeros behind what a command brings, up to so many bytes.
pub(super) fn padded(which: fn(&Cdb) -> bool, bytes: usize) -> Saboteur {
    replies(move |cdb, pdu| {
        if which(cdb) && (1..bytes).contains(&pdu.data.len()) {
            let mut data = pdu.data.to_vec();
            data.resize(bytes, 0);
            pdu.data = data.into();
        }
    })
}

/// What a command does not bring is not told.
pub(super) fn no_residual(which: fn(&Cdb) -> bool) -> Saboteur {
    replies(move |cdb, pdu| {
        if let (true, Header::DataIn(header)) = (which(cdb), &mut pdu.header) {
            header.flags &= !0x02;
            header.residual_count = 0.into();
        }
    })
}

/// Another list of logical units for one SELECT REPORT; its length goes along.
fn listing(select: u8, edit: fn(&mut Vec<u8>)) -> Saboteur {
    replies(move |cdb, pdu| {
        if cdb[0] == 0xa0 && cdb[2] == select && pdu.data.len() >= 8 {
            let mut list = pdu.data[8..].to_vec();
            edit(&mut list);
            let length = u32::try_from(list.len()).unwrap().to_be_bytes();
            let data = [&length[..], &[0; 4], &list].concat();
            pdu.data = Bytes::from(data);
        }
    })
}
