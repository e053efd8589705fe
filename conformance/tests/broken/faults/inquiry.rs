//! Targets that break the rules of `inquiry`.

use iscsi_proto::wire::{Header, Pdu};

use crate::broken::scsi::{Cdb, cdbs, conflict, fail, fault, good, patch, replies};
use crate::broken::{Act, Fault, Saboteur, Seen};

pub(crate) const FAULTS: &[Fault] = &[
    fault("INQUIRY brings 32 bytes", "inquiry.standard.length", || {
        cdbs(|cdb| {
            if is_standard(cdb) {
                cdb[4] = 32;
            }
        })
    }),
    fault(
        "ADDITIONAL LENGTH counts the five bytes before it",
        "inquiry.standard.additional-length",
        || standard(4, |old| old + 5),
    ),
    fault(
        "the unit says that nothing is connected",
        "inquiry.standard.connected",
        || standard(0, |old| old | 0x20),
    ),
    fault("the disk is a tape", "inquiry.standard.connected", || {
        standard(0, |_| 0x01)
    }),
    fault(
        "VERSION 00h: no standard is claimed",
        "inquiry.standard.version",
        || standard(2, |_| 0),
    ),
    fault(
        "the response data is in the format of SCSI-1",
        "inquiry.standard.response-format",
        || standard(3, |old| old & 0xf0),
    ),
    fault(
        "the vendor ends with zeros instead of spaces",
        "inquiry.standard.vendor",
        || standard(15, |_| 0),
    ),
    fault(
        "the vendor begins with a space",
        "inquiry.standard.vendor",
        || standard(8, |_| b' '),
    ),
    fault("the revision is binary", "inquiry.standard.product", || {
        standard(33, |_| 0x01)
    }),
    fault(
        "the product is right-aligned",
        "inquiry.standard.product",
        || standard(16, |_| b' '),
    ),
    fault("CMDQUE is forgotten", "inquiry.standard.task-model", || {
        standard(7, |old| old & !2)
    }),
    fault("BQUE beside CMDQUE", "inquiry.standard.task-model", || {
        standard(6, |old| old | 0x80)
    }),
    fault(
        "TPGS is claimed and REPORT TARGET PORT GROUPS is not known",
        "inquiry.standard.port-groups",
        || unknown(|cdb| cdb[0] == 0xa3 && cdb[1] & 0x1f == 0x0a),
    ),
    fault(
        "3PC is claimed and no copy is known",
        "inquiry.standard.third-party-copy",
        || unknown(|cdb| matches!(cdb[0], 0x83 | 0x84)),
    ),
    fault(
        "PROT_EN is one on a unit without PROTECT",
        "inquiry.standard.protect",
        || {
            replies(|cdb, pdu| {
                if cdb[..2] == [0x9e, 0x10] {
                    patch(&mut pdu.data, 12, &[1]);
                }
            })
        },
    ),
    fault(
        "a page code without EVPD is passed over",
        "inquiry.page-without-evpd",
        || {
            cdbs(|cdb| {
                if is_standard(cdb) {
                    cdb[2] = 0;
                }
            })
        },
    ),
    fault(
        "a page code without EVPD brings the page",
        "inquiry.page-without-evpd",
        || {
            cdbs(|cdb| {
                if is_standard(cdb) && cdb[2] != 0 {
                    cdb[1] = 1;
                }
            })
        },
    ),
    fault(
        "ALLOCATION LENGTH 0 is an error",
        "inquiry.allocation.zero",
        || {
            replies(|cdb, pdu| {
                if is_standard(cdb) && cdb[3..5] == [0, 0] {
                    fail(pdu, 5, 0x24, 0);
                }
            })
        },
    ),
    fault(
        "ADDITIONAL LENGTH tells how little is sent",
        "inquiry.allocation.five",
        || {
            replies(|cdb, pdu| {
                if is_standard(cdb) && cdb[4] == 5 {
                    patch(&mut pdu.data, 4, &[0]);
                }
            })
        },
    ),
    fault(
        "ALLOCATION LENGTH 0 means 36 bytes",
        "inquiry.allocation.zero",
        || {
            cdbs(|cdb| {
                if is_standard(cdb) && cdb[3..5] == [0, 0] {
                    cdb[4] = 36;
                }
            })
        },
    ),
    fault(
        "INQUIRY never brings less than 36 bytes",
        "inquiry.allocation.five",
        || {
            cdbs(|cdb| {
                if is_standard(cdb) && cdb[4] == 5 {
                    cdb[4] = 36;
                }
            })
        },
    ),
    fault(
        "an odd ALLOCATION LENGTH is rounded down",
        "inquiry.allocation.five",
        || {
            cdbs(|cdb| {
                if is_standard(cdb) {
                    cdb[4] &= !3;
                }
            })
        },
    ),
    fault(
        "ALLOCATION LENGTH is one byte",
        "inquiry.allocation.two-bytes",
        || {
            cdbs(|cdb| {
                if cdb[0] == 0x12 {
                    cdb[3] = 0;
                }
            })
        },
    ),
    fault(
        "what INQUIRY does not bring is no residual",
        "inquiry.allocation.residual",
        || {
            replies(|cdb, pdu| {
                if let (0x12, Header::DataIn(header)) = (cdb[0], &mut pdu.header) {
                    header.flags &= !0x02;
                    header.residual_count = 0.into();
                }
            })
        },
    ),
    fault(
        "INQUIRY to a missing unit is an error",
        "inquiry.unsupported-unit",
        || {
            replies(|cdb, pdu| {
                if is_standard(cdb) && pdu.data.first() == Some(&0x7f) {
                    fail(pdu, 5, 0x25, 0);
                }
            })
        },
    ),
    fault(
        "a missing unit looks like a disk",
        "inquiry.unsupported-unit",
        || standard(0, |_| 0),
    ),
    fault(
        "INQUIRY is answered with the Unit Attention",
        "inquiry.attention",
        || {
            replies(|cdb, pdu| {
                if cdb[0] == 0x12 {
                    fail(pdu, 6, 0x29, 0);
                }
            })
        },
    ),
    fault(
        "INQUIRY clears the Unit Attention",
        "inquiry.attention",
        || clears_attention(is_standard),
    ),
    fault(
        "a reservation keeps INQUIRY out",
        "inquiry.reservation",
        || {
            let mut reserved = false;
            replies(move |cdb, pdu| match cdb[0] {
                0x5f => reserved = cdb[1] == 1,
                0x12 if reserved => conflict(pdu),
                _ => {}
            })
        },
    ),
];

/// INQUIRY for standard data.
pub(super) fn is_standard(cdb: &Cdb) -> bool {
    cdb[..2] == [0x12, 0]
}

/// Another byte in the standard data.
fn standard(at: usize, new: fn(u8) -> u8) -> Saboteur {
    replies(move |cdb, pdu| {
        if let (true, Some(old)) = (is_standard(cdb), pdu.data.get(at).copied()) {
            patch(&mut pdu.data, at, &[new(old)]);
        }
    })
}

/// Commands that end with INVALID COMMAND OPERATION CODE.
pub(super) fn unknown(which: fn(&Cdb) -> bool) -> Saboteur {
    replies(move |cdb, pdu| {
        if which(cdb) {
            fail(pdu, 5, 0x20, 0);
        }
    })
}

/// Sense key, code and qualifier that a SCSI Response brings.
pub(super) fn sense(pdu: &Pdu) -> Option<(u8, u8, u8)> {
    let (Header::ScsiResponse(_), [_, _, sense @ ..]) = (&pdu.header, &*pdu.data) else {
        return None;
    };
    let sense = iscsi_proto::scsi::Sense::parse(sense)?;
    Some((sense.key, sense.asc, sense.ascq))
}

/// Commands behind which no Unit Attention is left on their connection: that of the sound target becomes GOOD.
pub(super) fn clears_attention(which: fn(&Cdb) -> bool) -> Saboteur {
    let mut cleared = Vec::new();
    Box::new(move |seen, lane| match seen {
        Seen::Request(pdu) => {
            if crate::broken::scsi::cdb(pdu).is_some_and(|cdb| which(&cdb)) {
                cleared.push(lane.number);
            }
            Act::Pass
        }
        Seen::Response(pdu) if cleared.contains(&lane.number) => {
            let mut pdu = pdu.clone();
            if sense(&pdu).is_some_and(|(key, _, _)| key == 6) {
                good(&mut pdu);
            }
            Act::Replace(vec![pdu])
        }
        _ => Act::Pass,
    })
}
