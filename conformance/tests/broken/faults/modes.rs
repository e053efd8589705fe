//! Targets that break the rules of `modes`.

use bytes::Bytes;

use super::inquiry::unknown;
use crate::broken::scsi::{Cdb, both, cdbs, commands, fail, fault, good, patch, replies};
use crate::broken::{Fault, Saboteur};

pub(crate) const FAULTS: &[Fault] = &[
    fault(
        "MODE DATA LENGTH of (6) counts itself",
        "modes.six.length",
        || sensed(0x1a, |data| data[0] += 1),
    ),
    fault(
        "MODE DATA LENGTH of (10) counts what (6) has",
        "modes.ten.length",
        || sensed(0x5a, |data| data[1] -= 3),
    ),
    fault(
        "MODE SENSE (6) pays no attention to DBD",
        "modes.six.no-descriptors",
        || {
            cdbs(|cdb| {
                if cdb[0] == 0x1a {
                    cdb[1] = 0;
                }
            })
        },
    ),
    fault(
        "MODE SENSE (10) pays no attention to DBD",
        "modes.ten.no-descriptors",
        || {
            cdbs(|cdb| {
                if cdb[0] == 0x5a {
                    cdb[1] = 0;
                }
            })
        },
    ),
    fault(
        "the block descriptor has blocks of no bytes",
        "modes.descriptor",
        || described(|data| data[8 + 6] = 0),
    ),
    fault(
        "the block descriptor tells the last block",
        "modes.descriptor",
        || described(|data| data[8..12].copy_from_slice(&[0, 0, 0xff, 0xff])),
    ),
    fault(
        "the block descriptor is cut in half",
        "modes.descriptor",
        || {
            described(|data| {
                data[7] = 4;
                data.drain(8..12);
            })
        },
    ),
    fault("MODE SENSE (10) forgets a page", "modes.agree", || {
        sensed(0x5a, |data| {
            data.truncate(data.len() - 12);
        })
    }),
    fault(
        "DPOFUA is told by MODE SENSE (10) alone",
        "modes.agree",
        || sensed(0x1a, |data| data[2] &= !0x10),
    ),
    fault(
        "MODE SENSE pays no attention to ALLOCATION LENGTH",
        "modes.allocation",
        || {
            cdbs(|cdb| {
                if cdb[0] == 0x5a {
                    cdb[7] = 1;
                }
            })
        },
    ),
    fault(
        "MODE DATA LENGTH tells how little is sent",
        "modes.allocation",
        || {
            replies(|cdb, pdu| {
                if cdb[0] == 0x5a && cdb[8] == 4 {
                    patch(&mut pdu.data, 1, &[2]);
                }
            })
        },
    ),
    fault(
        "WP is told of a unit that is written to",
        "modes.write-protect",
        || sensed(0x5a, |data| data[3] |= 0x80),
    ),
    fault(
        "what cannot be written has no WP",
        "modes.write-protect",
        || {
            replies(|cdb, pdu| {
                if cdb[0] == 0x2a {
                    fail(pdu, 7, 0x27, 0);
                }
            })
        },
    ),
    fault(
        "DPOFUA is told and FUA is an invalid field",
        "modes.force-unit-access",
        || {
            replies(|cdb, pdu| {
                if cdb[0] == 0x28 && cdb[1] & 0x08 != 0 {
                    fail(pdu, 5, 0x24, 0);
                }
            })
        },
    ),
    fault("the pages are in no order", "modes.pages.order", || {
        sensed(0x5a, |data| {
            let last = data.split_off(data.len() - 12);
            let tail = data.split_off(8);
            data.extend(last);
            data.extend(tail);
        })
    }),
    fault(
        "page 00h comes before all others",
        "modes.pages.order",
        || {
            sensed(0x5a, |data| {
                data.splice(8..8, [0, 0]);
            })
        },
    ),
    fault("the last page is cut", "modes.pages.order", || {
        sensed(0x5a, |data| data.truncate(data.len() - 2))
    }),
    fault("a page alone is another one", "modes.pages.each", || {
        replies(|cdb, pdu| {
            if cdb[0] == 0x5a && cdb[2] == 0x08 {
                patch(&mut pdu.data, 10, &[0]);
            }
        })
    }),
    fault("for one page all of them come", "modes.pages.each", || {
        cdbs(|cdb| {
            if cdb[0] == 0x5a {
                cdb[2] |= 0x3f;
            }
        })
    }),
    fault(
        "the caching page is that of SCSI-2",
        "modes.pages.lengths",
        || {
            sensed(0x5a, |data| {
                let at = find(data, 0x08);
                data[at + 1] = 0x0a;
                data.drain(at + 12..at + 20);
            })
        },
    ),
    fault(
        "the control page has six bytes",
        "modes.pages.lengths",
        || {
            sensed(0x5a, |data| {
                let at = find(data, 0x0a);
                data[at + 1] = 0x06;
                data.drain(at + 8..at + 12);
            })
        },
    ),
    fault(
        "for an unknown page nothing comes, and GOOD",
        "modes.pages.unknown",
        || {
            replies(|cdb, pdu| {
                if cdb[0] == 0x5a && matches!(cdb[2], 0x0b..=0x0f) {
                    good(pdu);
                }
            })
        },
    ),
    fault(
        "an unknown page is an unknown command",
        "modes.pages.unknown",
        || unknown(|cdb| cdb[0] == 0x5a && matches!(cdb[2], 0x0b..=0x0f)),
    ),
    fault(
        "subpages are not looked at",
        "modes.pages.unknown-subpage",
        || {
            cdbs(|cdb| {
                if cdb[0] == 0x5a {
                    cdb[3] = 0;
                }
            })
        },
    ),
    fault("a subpage comes unasked", "modes.pages.subpages", || {
        sensed(0x5a, |data| {
            let at = find(data, 0x1c);
            data.splice(at..at, [0x4a, 0x01, 0, 4, 0, 0, 0, 0]);
        })
    }),
    fault(
        "changeable values are refused",
        "modes.control.changeable",
        || {
            replies(|cdb, pdu| {
                if cdb[0] == 0x5a && cdb[2] >> 6 == 1 {
                    fail(pdu, 5, 0x24, 0);
                }
            })
        },
    ),
    fault(
        "only pages with something changeable have a mask",
        "modes.control.changeable",
        || {
            replies(|cdb, pdu| {
                if cdb[0] == 0x5a && cdb[2] >> 6 == 1 {
                    without_last_page(pdu);
                }
            })
        },
    ),
    fault(
        "default values are refused",
        "modes.control.default",
        || {
            replies(|cdb, pdu| {
                if cdb[0] == 0x5a && cdb[2] >> 6 == 2 {
                    fail(pdu, 5, 0x39, 0);
                }
            })
        },
    ),
    fault(
        "a page has no default values",
        "modes.control.default",
        || {
            replies(|cdb, pdu| {
                if cdb[0] == 0x5a && cdb[2] >> 6 == 2 {
                    without_last_page(pdu);
                }
            })
        },
    ),
    fault(
        "saved values are an invalid field",
        "modes.control.saved",
        || {
            replies(|cdb, pdu| {
                if cdb[0] == 0x5a && cdb[2] >> 6 == 3 {
                    fail(pdu, 5, 0x24, 0);
                }
            })
        },
    ),
    fault(
        "saved values are an unknown command",
        "modes.control.saved",
        || unknown(|cdb| cdb[0] == 0x5a && cdb[2] >> 6 == 3),
    ),
    fault(
        "a page has PS set, and nothing is saved",
        "modes.control.savable",
        || {
            sensed(0x5a, |data| {
                let at = find(data, 0x08);
                data[at] |= 0x80;
            })
        },
    ),
    fault(
        "MODE SELECT is done, and nothing is changed",
        "modes.select.effect",
        || nothing_selected(|list| list[8] == 0x0a),
    ),
    fault(
        "what MODE SELECT changed stays as it is",
        "modes.select.effect",
        || {
            let mut selects = 0;
            commands(move |cdb, _, data| {
                if cdb[0] == 0x55 && !data.is_empty() {
                    selects += 1;
                    if selects > 1 {
                        patch(data, 8 + 2, &[0x06]);
                    }
                }
            })
        },
    ),
    fault(
        "what cannot be changed is passed over",
        "modes.select.unchangeable",
        || nothing_selected(|list| list[8] == 0x0a && list[10] & 0x20 != 0),
    ),
    fault(
        "what cannot be changed is an invalid field of the CDB",
        "modes.select.unchangeable",
        || selecting(5, 0x26, 0, |pdu| fail(pdu, 5, 0x24, 0)),
    ),
    fault(
        "a MODE SELECT that is refused has changed something",
        "modes.select.unchangeable",
        || {
            let refused = replies(|cdb, pdu| {
                if cdb[0] == 0x55 && cdb[8] != 0 {
                    fail(pdu, 5, 0x26, 0);
                }
            });
            let other = commands(|cdb, _, data| {
                if cdb[0] == 0x55 && data.len() > 10 {
                    patch(data, 10, &[data[10] & !0x20 | 0x04]);
                }
            });
            both(refused, other)
        },
    ),
    fault(
        "pages without a change are refused",
        "modes.select.unchanged",
        || {
            replies(|cdb, pdu| {
                if cdb[0] == 0x55 && cdb[8] != 0 {
                    fail(pdu, 5, 0x26, 0);
                }
            })
        },
    ),
    fault(
        "unknown pages are passed over",
        "modes.select.unknown-page",
        || nothing_selected(|list| matches!(list[8], 0x0b..=0x0f)),
    ),
    fault(
        "an unknown page is an invalid field of the CDB",
        "modes.select.unknown-page",
        || selecting(5, 0x26, 0, |pdu| fail(pdu, 5, 0x24, 0)),
    ),
    fault(
        "an empty list is a wrong length",
        "modes.select.empty",
        || {
            replies(|cdb, pdu| {
                if cdb[0] == 0x55 && cdb[8] == 0 {
                    fail(pdu, 5, 0x1a, 0);
                }
            })
        },
    ),
    fault(
        "half a header is as good as none",
        "modes.select.cut-header",
        || selecting(5, 0x1a, 0, good),
    ),
    fault(
        "half a header is an invalid field of the list",
        "modes.select.cut-header",
        || selecting(5, 0x1a, 0, |pdu| fail(pdu, 5, 0x26, 0)),
    ),
    fault(
        "half a page is taken for what it says",
        "modes.select.cut-page",
        || selecting(5, 0x1a, 0, good),
    ),
    fault(
        "half a page is an invalid field of the list",
        "modes.select.cut-page",
        || selecting(5, 0x1a, 0, |pdu| fail(pdu, 5, 0x26, 0)),
    ),
    fault("SP is passed over", "modes.select.save", || {
        cdbs(|cdb| {
            if cdb[0] == 0x55 {
                cdb[1] &= !0x01;
            }
        })
    }),
    fault(
        "SP is answered as saved values are",
        "modes.select.save",
        || {
            replies(|cdb, pdu| {
                if cdb[0] == 0x55 && cdb[1] & 1 != 0 {
                    fail(pdu, 5, 0x39, 0);
                }
            })
        },
    ),
];

/// Other mode data for all pages, current values, without block descriptors; its length does not go along.
fn sensed(opcode: u8, edit: fn(&mut Vec<u8>)) -> Saboteur {
    replies(move |cdb, pdu| {
        let whole = opcode == 0x1a || cdb[7..9] != [0, 8];
        if cdb[0] == opcode && cdb[2] == 0x3f && whole && pdu.data.len() > 40 {
            let mut data = pdu.data.to_vec();
            edit(&mut data);
            pdu.data = data.into();
        }
    })
}

/// Other mode data with a block descriptor.
fn described(edit: fn(&mut Vec<u8>)) -> Saboteur {
    replies(move |cdb, pdu| {
        if cdb[..2] == [0x5a, 0] && pdu.data.len() > 40 {
            let mut data = pdu.data.to_vec();
            edit(&mut data);
            pdu.data = data.into();
        }
    })
}

/// Where a page of MODE SENSE (10) data without block descriptors begins.
fn find(data: &[u8], code: u8) -> usize {
    let mut at = 8;
    while data[at] & 0x3f != code {
        at += 2 + usize::from(data[at + 1]);
    }
    at
}

fn without_last_page(pdu: &mut iscsi_proto::wire::Pdu) {
    let cut = pdu.data.len().saturating_sub(12);
    pdu.data.truncate(cut);
}

/// MODE SELECT (10) lists that are said to be obeyed, and are empty for the sound target.
fn nothing_selected(which: fn(&[u8]) -> bool) -> Saboteur {
    commands(move |cdb, expected, data| {
        if is_select(cdb) && data.len() > 10 && which(data) {
            cdb[8] = 0;
            *expected = 0;
            *data = Bytes::new();
        }
    })
}

/// Another answer to MODE SELECT where the sound target has this sense.
fn selecting(key: u8, asc: u8, ascq: u8, edit: fn(&mut iscsi_proto::wire::Pdu)) -> Saboteur {
    replies(move |cdb, pdu| {
        if is_select(cdb) && super::inquiry::sense(pdu) == Some((key, asc, ascq)) {
            edit(pdu);
        }
    })
}

fn is_select(cdb: &Cdb) -> bool {
    cdb[0] == 0x55
}
