//! Targets that break the rules of `vpd`.

use bytes::Bytes;

use super::capacity::is_capacity_16;
use super::inquiry::unknown;
use crate::broken::scsi::{Cdb, cdbs, fail, fault, good, patch, replies};
use crate::broken::{Fault, Saboteur};

pub(crate) const FAULTS: &[Fault] = &[
    fault(
        "the pages are listed as they were invented",
        "vpd.list.ascending",
        || body(0x00, |list| list.swap(1, 2)),
    ),
    fault("page 00h is not listed", "vpd.list.ascending", || {
        body(0x00, |list| {
            list.remove(0);
        })
    }),
    fault("page 83h is not listed", "vpd.list.mandatory", || {
        body(0x00, |list| list.retain(|page| *page != 0x83))
    }),
    fault("what is listed is refused", "vpd.pages.code", || {
        replies(|cdb, pdu| {
            if is_page(cdb, 0x86) {
                fail(pdu, 5, 0x24, 0);
            }
        })
    }),
    fault("page B1h says that it is B0h", "vpd.pages.code", || {
        page(0xb1, 1, &[0xb0])
    }),
    fault("PAGE LENGTH counts the header", "vpd.pages.length", || {
        page(0xb2, 3, &[8])
    }),
    fault(
        "PAGE LENGTH has one byte, the other is rubbish",
        "vpd.pages.length",
        || page(0x80, 2, &[0x20]),
    ),
    fault(
        "page 80h is of an unknown device",
        "vpd.pages.peripheral",
        || page(0x80, 0, &[0x7f]),
    ),
    fault("an unlisted page is empty", "vpd.pages.unlisted", || {
        cdbs(|cdb| {
            if cdb[..2] == [0x12, 1] && cdb[2] == 0x9f {
                cdb[2] = 0x00;
            }
        })
    }),
    fault(
        "an unlisted page is an unknown command",
        "vpd.pages.unlisted",
        || unknown(|cdb| is_page(cdb, 0x9f)),
    ),
    fault(
        "a page pays no attention to ALLOCATION LENGTH",
        "vpd.allocation",
        || {
            cdbs(|cdb| {
                if is_page(cdb, 0x83) {
                    cdb[3..5].copy_from_slice(&[0x0f, 0xff]);
                }
            })
        },
    ),
    fault(
        "PAGE LENGTH tells how little is sent",
        "vpd.allocation",
        || {
            replies(|cdb, pdu| {
                if is_page(cdb, 0x83) && cdb[4] == 6 {
                    patch(&mut pdu.data, 3, &[2]);
                }
            })
        },
    ),
    fault("the serial number is binary", "vpd.serial.text", || {
        page(0x80, 4, &[0x01])
    }),
    fault("the serial number is empty", "vpd.serial.text", || {
        body(0x80, Vec::clear)
    }),
    fault(
        "page 86h is one of SPC-2 times",
        "vpd.extended.length",
        || body(0x86, |body| body.truncate(8)),
    ),
    fault(
        "the last designator is longer than the page",
        "vpd.designators.lengths",
        || {
            body(0x83, |body| {
                body.pop();
            })
        },
    ),
    fault("a designator is empty", "vpd.designators.lengths", || {
        body(0x83, |body| body.extend([0x51, 0x94, 0, 0]))
    }),
    fault("only the port has a name", "vpd.designators.unit", || {
        descriptors(|one| one[1] = one[1] & 0xcf | 0x10)
    }),
    fault(
        "a vendor's own type is all that names the unit",
        "vpd.designators.unit",
        || {
            descriptors(|one| {
                if one[1] & 0x30 == 0 {
                    one[1] &= 0xf0;
                }
            })
        },
    ),
    fault(
        "an NAA designator is ASCII",
        "vpd.designators.forms",
        || {
            descriptors(|one| {
                if one[1] & 0x0f == 3 {
                    one[0] = one[0] & 0xf0 | 2;
                }
            })
        },
    ),
    fault(
        "an NAA designator of sixteen bytes has the format of eight",
        "vpd.designators.forms",
        || {
            descriptors(|one| {
                if one[1] & 0x0f == 3 {
                    one[3] = 16;
                    one.extend([0; 8]);
                }
            })
        },
    ),
    fault(
        "the name of the port is that of the target alone",
        "vpd.designators.port-name",
        || {
            descriptors(|one| {
                if one[1] & 0x0f == 8 {
                    let comma = one.iter().position(|byte| *byte == b',').unwrap();
                    one[comma..].fill(0);
                }
            })
        },
    ),
    fault(
        "the name of the port has another portal group",
        "vpd.designators.port-name",
        || {
            descriptors(|one| {
                if one[1] & 0x0f == 8 {
                    let digit = one.iter().rposition(|byte| *byte != 0).unwrap();
                    one[digit] = b'9';
                }
            })
        },
    ),
    fault(
        "the name of the port is not said to be of iSCSI",
        "vpd.designators.port-name",
        || {
            descriptors(|one| {
                if one[1] & 0x0f == 8 {
                    one[1] &= 0x7f;
                }
            })
        },
    ),
    fault(
        "the relative target port is zero",
        "vpd.designators.relative-port",
        || {
            descriptors(|one| {
                if one[1] & 0x0f == 4 {
                    one[4..].fill(0);
                }
            })
        },
    ),
    fault(
        "the unit's name changes with every question",
        "vpd.designators.stable",
        || {
            let mut asked = 0;
            replies(move |cdb, pdu| {
                if is_page(cdb, 0x83) && pdu.data.len() > 12 {
                    asked += 1;
                    patch(&mut pdu.data, 15, &[asked]);
                }
            })
        },
    ),
    fault("page B0h ends in the middle", "vpd.limits.length", || {
        body(0xb0, |body| body.truncate(0x10))
    }),
    fault(
        "page B0h is as short as in SBC-2, and the unit is thin",
        "vpd.limits.length",
        || body(0xb0, |body| body.truncate(0x0c)),
    ),
    fault(
        "COMPARE AND WRITE exists and its limit is zero",
        "vpd.limits.compare-and-write",
        || page(0xb0, 5, &[0]),
    ),
    fault(
        "COMPARE AND WRITE has a limit and does not exist",
        "vpd.limits.compare-and-write",
        || unknown(|cdb| cdb[0] == 0x89),
    ),
    fault(
        "UNMAP exists and may name no block",
        "vpd.limits.unmap",
        || page(0xb0, 20, &[0; 4]),
    ),
    fault(
        "UNMAP exists and may have no descriptor",
        "vpd.limits.unmap",
        || page(0xb0, 24, &[0; 4]),
    ),
    fault(
        "the medium turns twice in a minute",
        "vpd.characteristics",
        || page(0xb1, 4, &[0, 2]),
    ),
    fault("page B1h has four bytes", "vpd.characteristics", || {
        body(0xb1, |body| body.truncate(4))
    }),
    fault(
        "LBPU is told and LBPME is not",
        "vpd.provisioning.claimed",
        || capacity(14, |old| old & 0x7f),
    ),
    fault(
        "LBPME is told and page B2h is not there",
        "vpd.provisioning.told",
        || body(0x00, |list| list.retain(|page| *page != 0xb2)),
    ),
    fault(
        "LBPME is told and no way to give blocks back",
        "vpd.provisioning.told",
        || page(0xb2, 5, &[0x04]),
    ),
    fault(
        "LBPRZ is told in page B2h alone",
        "vpd.provisioning.zeros",
        || capacity(14, |old| old & 0xbf),
    ),
    fault(
        "LBPRZ is told by READ CAPACITY alone",
        "vpd.provisioning.zeros",
        || page(0xb2, 5, &[0xe0]),
    ),
    fault(
        "LBPU is told and UNMAP is not known",
        "vpd.provisioning.unmap",
        || unknown(|cdb| cdb[0] == 0x42),
    ),
    fault(
        "UNMAP is known and LBPU is not told",
        "vpd.provisioning.unmap",
        || page(0xb2, 5, &[0x64]),
    ),
    fault(
        "an empty UNMAP is done by a unit that says it has none",
        "vpd.provisioning.unmap",
        || {
            let hidden = page(0xb2, 5, &[0]);
            let done = replies(|cdb, pdu| {
                if cdb[0] == 0x42 {
                    good(pdu);
                }
            });
            crate::broken::scsi::both(hidden, done)
        },
    ),
];

fn is_page(cdb: &Cdb, page: u8) -> bool {
    cdb[..3] == [0x12, 1, page]
}

/// Other bytes in a page.
fn page(code: u8, at: usize, with: &'static [u8]) -> Saboteur {
    replies(move |cdb, pdu| {
        if is_page(cdb, code) {
            patch(&mut pdu.data, at, with);
        }
    })
}

/// Another body of a page, whose length goes along.
fn body(code: u8, edit: fn(&mut Vec<u8>)) -> Saboteur {
    replies(move |cdb, pdu| {
        if is_page(cdb, code) && pdu.data.len() > 4 {
            let mut body = pdu.data[4..].to_vec();
            edit(&mut body);
            let length = u16::try_from(body.len()).unwrap().to_be_bytes();
            pdu.data = Bytes::from([&pdu.data[..2], &length, &body].concat());
        }
    })
}

/// Other designation descriptors in page 83h.
fn descriptors(edit: fn(&mut Vec<u8>)) -> Saboteur {
    replies(move |cdb, pdu| {
        if !is_page(cdb, 0x83) || pdu.data.len() < 8 {
            return;
        }
        let mut rest = &pdu.data[4..];
        let mut body = Vec::new();
        while let [_, _, _, length, ..] = *rest {
            let (one, behind) = rest.split_at(4 + usize::from(length));
            let mut one = one.to_vec();
            edit(&mut one);
            body.extend(one);
            rest = behind;
        }
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        pdu.data = Bytes::from([&pdu.data[..2], &length, &body].concat());
    })
}

/// Another byte of READ CAPACITY (16).
fn capacity(at: usize, new: fn(u8) -> u8) -> Saboteur {
    replies(move |cdb, pdu| {
        if let (true, Some(old)) = (is_capacity_16(cdb), pdu.data.get(at).copied()) {
            patch(&mut pdu.data, at, &[new(old)]);
        }
    })
}
