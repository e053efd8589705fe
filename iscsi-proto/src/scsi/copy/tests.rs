//! Copies as bytes, spelled out from SPC-4.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_assert_eq, prop_oneof, proptest};

use super::{CopyList, CopyState, CopyStatus, Cscd, ListIdUsage, OperatingParameters, Segment};
use crate::scsi::vpd::Designator;
use crate::scsi::{Sense, SenseData};

fn naa() -> Cscd {
    Cscd {
        null: false,
        device_type: 0,
        relative_initiator_port: 0,
        designator: Designator::naa([0x31, 2, 3, 4, 5, 6, 7, 8]),
        pad: false,
        block_bytes: 512,
    }
}

fn segment() -> Segment {
    Segment {
        counts_destination: true,
        carry: false,
        source: 0,
        destination: 1,
        blocks: 0x0800,
        source_lba: 0x0102_0304_0506_0708,
        destination_lba: 9,
    }
}

fn list() -> CopyList {
    CopyList {
        list_id: 7,
        usage: ListIdUsage::Discard,
        sequential: true,
        priority: 1,
        cscds: vec![naa()],
        segments: vec![segment()],
    }
}

const LIST: [u8; 76] = [
    7, 0x31, 0, 32, 0, 0, 0, 0, 0, 0, 0, 28, 0, 0, 0, 0, //
    0xe4, 0, 0, 0, 0x01, 0x03, 0, 8, 0x31, 2, 3, 4, 5, 6, 7, 8, //
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, //
    0x02, 0x02, 0, 0x18, 0, 0, 0, 1, 0, 0, 8, 0, //
    1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0, 0, 0, 9,
];

/// The list with some bytes replaced.
fn changed(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut out = LIST.to_vec();
    out[at..at + bytes.len()].copy_from_slice(bytes);
    out
}

#[test]
fn one_copy_in_bytes() {
    assert_eq!(list().build().as_ref(), LIST);
    assert_eq!(CopyList::parse(&LIST), Ok(list()));
}

#[test]
fn a_list_that_is_cut_off_has_the_wrong_length() {
    for length in [0, 15, 16, 16 + 31, 16 + 32, 16 + 32 + 27] {
        assert_eq!(
            CopyList::parse(&LIST[..length]),
            Err(Sense::new(5, 0x1a, 0).into()),
            "{length}"
        );
    }
}

#[test]
fn what_is_not_supported_says_which() {
    let sense = |ascq| Err(Sense::new(5, 0x26, ascq).into());
    let at = |byte, bit| Err(SenseData::list_field(byte, bit));
    let refused = [
        (changed(16, &[0xe0]), sense(7)),
        (changed(48, &[0x03]), sense(9)),
        (changed(15, &[1]), sense(0x0b)),
        (changed(23, &[21]), at(23, 7)),
        (changed(50, &[0, 0x17]), at(50, 7)),
        (changed(1, &[0x08]), at(1, 4)),
        (changed(1, &[0x18]), at(0, 7)),
        (changed(11, &[27]), at(8, 7)),
    ];
    for (bytes, expected) in refused {
        assert_eq!(CopyList::parse(&bytes), expected, "{bytes:02x?}");
    }
    // SPC-4 §6.4.5.3: LU ID TYPE is ignored where a designator names the unit.
    assert_eq!(CopyList::parse(&changed(17, &[0x80])), Ok(list()));
    let mut shared = changed(0, &[0, 0x18]);
    shared[17] = 0x20;
    let parsed = CopyList::parse(&shared).unwrap();
    assert_eq!(
        (parsed.usage, parsed.cscds[0].null),
        (ListIdUsage::None, true)
    );
}

/// Initiators send one more descriptor than allowed and expect to be told so, and all together to be too long.
#[test]
fn too_many_descriptors_say_so_and_too_long_a_list_comes_first() {
    let with = |cscds, segments| CopyList {
        cscds: vec![naa(); cscds],
        segments: vec![segment(); segments],
        ..list()
    };
    let refused = |cscds, segments| CopyList::parse(&with(cscds, segments).build()).unwrap_err();
    assert_eq!(refused(9, 1), Sense::new(5, 0x26, 6).into());
    assert_eq!(refused(1, 65), Sense::new(5, 0x26, 8).into());
    assert_eq!(refused(9, 65), Sense::new(5, 0x1a, 0).into());
    assert!(CopyList::parse(&with(8, 64).build()).is_ok());
}

#[test]
fn results_in_bytes() {
    let status = CopyStatus {
        state: CopyState::Completed,
        segments: 0x0102,
        bytes: 0x0010_0000,
    };
    let expected = [0, 0, 0, 8, 1, 1, 2, 0, 0, 0x10, 0, 0];
    assert_eq!(status.build().as_ref(), expected);
    assert_eq!(CopyStatus::parse(&expected), Some(status));
    // 5 GiB do not fit 32 bits, 5 MiKiB do.
    let large = CopyStatus {
        bytes: 5 << 30,
        state: CopyState::Failed,
        ..status
    };
    let expected = [0, 0, 0, 8, 2, 1, 2, 1, 0, 0x50, 0, 0];
    assert_eq!(large.build().as_ref(), expected);
    assert_eq!(CopyStatus::parse(&expected), Some(large));
    assert_eq!(CopyStatus::parse(&expected[..11]), None);
    assert_eq!(CopyStatus::parse(&[0xff; 12]), None);
}

#[test]
fn operating_parameters_in_bytes() {
    let parameters = OperatingParameters::new(0x0100_0000, 4, 9);
    let mut expected = vec![0, 0, 0, 42, 1, 0, 0, 0, 0, 8, 0, 64, 0, 0, 8, 0, 1, 0, 0, 0];
    expected.extend([0; 14]);
    expected.extend([0, 4, 4, 9, 0, 0, 0, 0, 0, 2, 0x02, 0xe4]);
    assert_eq!(parameters.build().as_ref(), expected);
    assert_eq!(OperatingParameters::parse(&expected), Some(parameters));
    assert_eq!(OperatingParameters::parse(&expected[..43]), None);
    let cut = OperatingParameters::parse(&expected[..45]).unwrap();
    assert_eq!(cut.types, [0x02]);
}

fn cscd() -> impl Strategy<Value = Cscd> {
    let designator = (0u8..4, 0u8..16, 0u8..16, vec(any::<u8>(), 0..=20)).prop_map(
        |(association, kind, code_set, value)| Designator {
            association,
            kind,
            code_set,
            value: Bytes::from(value),
        },
    );
    (
        designator,
        any::<(bool, bool, u16)>(),
        0u8..32,
        0u32..1 << 24,
    )
        .prop_map(
            |(designator, (null, pad, relative_initiator_port), device_type, block_bytes)| Cscd {
                null,
                device_type,
                relative_initiator_port,
                designator,
                pad,
                block_bytes,
            },
        )
}

fn segments() -> impl Strategy<Value = Segment> {
    any::<(bool, bool, u16, u16, u16, u64, u64)>().prop_map(
        |(counts_destination, carry, source, destination, blocks, source_lba, destination_lba)| {
            Segment {
                counts_destination,
                carry,
                source,
                destination,
                blocks,
                source_lba,
                destination_lba,
            }
        },
    )
}

fn lists() -> impl Strategy<Value = CopyList> {
    let id = prop_oneof![
        any::<u8>().prop_map(|id| (id, ListIdUsage::Hold)),
        any::<u8>().prop_map(|id| (id, ListIdUsage::Discard)),
        Just((0, ListIdUsage::None)),
    ];
    (
        id,
        any::<bool>(),
        0u8..8,
        vec(cscd(), 0..=8),
        vec(segments(), 0..=64),
    )
        .prop_map(
            |((list_id, usage), sequential, priority, cscds, segments)| CopyList {
                list_id,
                usage,
                sequential,
                priority,
                cscds,
                segments,
            },
        )
}

proptest! {
    #[test]
    fn what_is_built_parses_to_the_same(list in lists()) {
        prop_assert_eq!(CopyList::parse(&list.build()), Ok(list));
    }

    #[test]
    fn hostile_lists_end(mut bytes in vec(any::<u8>(), 0..128), lengths in any::<(u8, u8)>()) {
        // Random lengths alone would never get past the header.
        if let Some(header) = bytes.first_chunk_mut::<16>() {
            header[2..16].fill(0);
            (header[3], header[11]) = lengths;
        }
        if let Ok(list) = CopyList::parse(&bytes) {
            prop_assert_eq!(CopyList::parse(&list.build()), Ok(list));
        }
        let _ = (CopyStatus::parse(&bytes), OperatingParameters::parse(&bytes));
    }
}
