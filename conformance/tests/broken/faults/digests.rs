//! Targets that make wrong digests, or see wrong ones where there are none.

use iscsi_proto::wire::bhs::FINAL;
use iscsi_proto::wire::{Header, Pdu};

use crate::broken::{Act, Fault, Lane, Saboteur, Seen, edit};

use super::numbering::plain;

pub(crate) const FAULTS: &[Fault] = &[
    plain(
        "CRC32C is chosen wherever it is on the list",
        "digest.list.order",
        || lists("None,CRC32C", "CRC32C,None"),
    ),
    plain(
        "None is chosen wherever it is on the list",
        "digest.list.order",
        || lists("CRC32C,None", "None,CRC32C"),
    ),
    plain(
        "a digest that is not known spoils the list",
        "digest.list.unknown",
        || lists("Y-example.org.sum,None", "Y-example.org.sum"),
    ),
    plain(
        "the last Login Response has a digest",
        "digest.begin",
        || {
            raw(|pdu, bytes| {
                if matches!(&pdu.header, Header::LoginResponse(login) if login.flags & (FINAL | 3) == FINAL | 3)
                {
                    let digest = crc(&bytes[..48]);
                    bytes.extend(digest);
                }
            })
        },
    ),
    plain("digests begin one PDU late", "digest.begin", || {
        let mut is_first = true;
        raw(move |pdu, bytes| {
            if !matches!(pdu.header, Header::LoginResponse(_)) && std::mem::take(&mut is_first) {
                bytes.drain(48..52);
                bytes.truncate(bytes.len() - 4);
            }
        })
    }),
    plain(
        "the digest of a NOP-In is made before its numbers",
        "digest.header.pdus",
        || bad_header(|pdu| matches!(pdu.header, Header::NopIn(_))),
    ),
    plain(
        "task management is answered with an empty digest",
        "digest.header.pdus",
        || {
            raw(|pdu, bytes| {
                if matches!(pdu.header, Header::TaskManagementResponse(_)) {
                    bytes[48..].fill(0);
                }
            })
        },
    ),
    plain(
        "the digest of an R2T is that of the last one",
        "digest.header.r2t",
        || bad_header(|pdu| matches!(pdu.header, Header::ReadyToTransfer(_))),
    ),
    plain(
        "the header digest covers 48 bytes",
        "digest.header.ahs",
        || {
            Box::new(|seen, lane| match seen {
                Seen::Request(pdu) if !pdu.ahs.is_empty() => {
                    lane.hang_up();
                    Act::Replace(Vec::new())
                }
                _ => Act::Pass,
            })
        },
    ),
    plain("sense data has no right digest", "digest.data.pdus", || {
        bad_data(|pdu| {
            matches!(&pdu.header, Header::ScsiResponse(r) if r.status == 2)
                && pdu.data.get(14) == Some(&0x24)
        })
    }),
    plain(
        "the digest of Data-In goes on over all PDUs",
        "digest.data.pdus",
        || bad_data(|pdu| matches!(&pdu.header, Header::DataIn(data) if data.data_sn.get() > 0)),
    ),
    plain(
        "the data digest leaves the padding out",
        "digest.data.padding",
        || {
            raw(|pdu, bytes| {
                if matches!(pdu.header, Header::DataIn(_)) && pdu.data.len() % 4 != 0 {
                    let at = bytes.len() - 4;
                    bytes[at..].copy_from_slice(&crc(&pdu.data));
                }
            })
        },
    ),
    plain(
        "padding is not expected under the digest",
        "digest.data.padding-of-ours",
        || reject_pings(|pdu| pdu.data.len() % 4 != 0),
    ),
    plain(
        "the padding of others counts as zeros",
        "digest.data.padding-of-any-kind",
        || reject_pings(|pdu| pdu.data == b"stuff"[..]),
    ),
    plain("no data has a digest, too", "digest.data.empty", || {
        raw(|pdu, bytes| {
            if matches!(pdu.header, Header::NopIn(_)) && pdu.data.is_empty() {
                bytes.extend([0; 4]);
            }
        })
    }),
    plain(
        "with both digests the second one is wrong",
        "digest.both",
        || bad_data(|pdu| matches!(pdu.header, Header::NopIn(_))),
    ),
    plain(
        "the digest is written over the data",
        "digest.write",
        || {
            edit::requests(|pdu| {
                if matches!(pdu.header, Header::DataOut(_)) {
                    let mut data = pdu.data.to_vec();
                    let digest = crc(&data);
                    data[..4].copy_from_slice(&digest);
                    pdu.data = data.into();
                }
            })
        },
    ),
];

fn crc(bytes: &[u8]) -> [u8; 4] {
    crc32c::crc32c(bytes).to_le_bytes()
}

/// Takes one list of digests for another.
fn lists(sent: &'static str, read: &'static str) -> Saboteur {
    edit::asked_keys(move |pairs| {
        for (key, value) in pairs {
            if key.ends_with("Digest") && value == sent {
                read.clone_into(value);
            }
        }
    })
}

/// Rewrites the bytes of PDUs from the target.
fn raw(mut edit: impl FnMut(&Pdu, &mut Vec<u8>) + Send + 'static) -> Saboteur {
    Box::new(move |seen, lane| match seen {
        Seen::Response(pdu) => {
            let mut bytes = lane.encode(pdu);
            edit(pdu, &mut bytes);
            lane.bytes_to_initiator(bytes.into());
            Act::Replace(Vec::new())
        }
        _ => Act::Pass,
    })
}

/// Header digests of some PDUs are wrong.
fn bad_header(which: fn(&Pdu) -> bool) -> Saboteur {
    raw(move |pdu, bytes| {
        if which(pdu) {
            bytes[48] ^= 0xff;
        }
    })
}

/// Data digests of some PDUs are wrong.
fn bad_data(which: fn(&Pdu) -> bool) -> Saboteur {
    raw(move |pdu, bytes| {
        if which(pdu) && !pdu.data.is_empty() {
            let last = bytes.len() - 1;
            bytes[last] ^= 0xff;
        }
    })
}

/// Some pings are rejected for a wrong data digest.
fn reject_pings(which: fn(&Pdu) -> bool) -> Saboteur {
    edit::answer(move |pdu, lane: &Lane| {
        (matches!(pdu.header, Header::NopOut(_)) && which(pdu))
            .then(|| vec![edit::reject(pdu, 2, lane)])
    })
}
