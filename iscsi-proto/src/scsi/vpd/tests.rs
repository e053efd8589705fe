//! Vital product data as bytes, spelled out from SPC-4 and SBC-4.

use bytes::Bytes;
use proptest::prelude::{any, prop_assert_eq, proptest};

use crate::scsi::copy::OperatingParameters;
use crate::scsi::vpd::{
    self, BlockLimits, Characteristics, CopySupport, Designator, ExtendedInquiry, Provisioning,
};

/// RFC 7143 §4.4.2: the name of a target port.
#[test]
fn designators_name_unit_and_port() {
    let designators = [
        Designator::naa([0x31, 2, 3, 4, 5, 6, 7, 8]),
        Designator::t10_vendor("VMTHNDR", "42"),
        Designator::relative_target_port(0x0102),
        Designator::target_port_group(3),
        Designator::port_name("iqn.a", 1),
        Designator::device_name("iqn.a"),
    ];
    let page = vpd::designators_page(&designators);
    let mut expected = vec![0x00, 0x83, 0x00, 70];
    expected.extend([0x01, 0x03, 0, 8, 0x31, 2, 3, 4, 5, 6, 7, 8]);
    expected.extend([0x02, 0x01, 0, 10]);
    expected.extend(b"VMTHNDR 42");
    expected.extend([0x51, 0x94, 0, 4, 0, 0, 1, 2]);
    expected.extend([0x51, 0x95, 0, 4, 0, 0, 0, 3]);
    expected.extend([0x53, 0x98, 0, 16]);
    expected.extend(b"iqn.a,t,0x0001\0\0");
    expected.extend([0x53, 0xa8, 0, 8]);
    expected.extend(b"iqn.a\0\0\0");
    expected[3] = u8::try_from(expected.len() - 4).unwrap();
    assert_eq!(page.as_ref(), expected);
    assert_eq!(vpd::parse_designators(&page).unwrap(), designators);
    assert_eq!(
        vpd::parse_designators(&page[..40]).unwrap(),
        designators[..3],
        "what was cut off is left out"
    );
    assert_eq!(vpd::parse_designators(&page[1..]), None);
}

#[test]
fn numbers_of_ports_are_told_from_names_of_units() {
    let designator = |association, kind, value: &[u8]| Designator {
        association,
        kind,
        code_set: 1,
        value: Bytes::copy_from_slice(value),
    };
    let port = designator(1, 4, &[0, 0, 1, 2]);
    assert_eq!(port.as_relative_target_port(), Some(0x0102));
    assert_eq!(port.as_target_port_group(), None);
    let group = designator(1, 5, &[0, 0, 0, 9]);
    assert_eq!(group.as_target_port_group(), Some(9));
    assert_eq!(designator(0, 5, &[0, 0, 0, 9]).as_target_port_group(), None);
    assert_eq!(designator(1, 5, &[0, 9]).as_target_port_group(), None);
    let naming: Vec<u8> = (0..16)
        .filter(|kind| designator(0, *kind, &[1]).names_unit())
        .collect();
    assert_eq!(naming, [1, 2, 3, 8, 10]);
    assert!(!designator(1, 3, &[1]).names_unit());
}

#[test]
fn names_end_with_a_zero_and_fill_words() {
    // ",t,0x0001" and the zero add ten bytes.
    for (name, length) in [("iq", 12), ("iqn", 16), ("iqn.a", 16)] {
        assert_eq!(Designator::port_name(name, 1).value.len(), length);
    }
}

#[test]
fn limits_in_bytes() {
    let limits = BlockLimits {
        no_empty_write_same: true,
        optimal_granularity: 8,
        maximum_transfer: 0x4000,
        optimal_transfer: 0x800,
        maximum_prefetch: 1,
        maximum_unmap_blocks: 0x80_0000,
        maximum_unmap_descriptors: 256,
        unmap_granularity: 8,
        unmap_alignment: Some(4),
        maximum_write_same: 0x2_0000,
        maximum_compare_and_write: 1,
        maximum_atomic: 0x100,
        atomic_alignment: 8,
        atomic_granularity: 9,
        maximum_atomic_with_boundary: 10,
        maximum_atomic_boundary: 11,
    };
    let page = limits.build();
    let mut expected = [0u8; 64];
    expected[..20].copy_from_slice(&[
        0, 0xb0, 0, 0x3c, 1, 1, 0, 8, 0, 0, 0x40, 0, 0, 0, 8, 0, 0, 0, 0, 1,
    ]);
    expected[20..32].copy_from_slice(&[0, 0x80, 0, 0, 0, 0, 1, 0, 0, 0, 0, 8]);
    expected[32..36].copy_from_slice(&[0x80, 0, 0, 4]);
    expected[44..].copy_from_slice(&[0, 0, 1, 0, 0, 0, 0, 8, 0, 0, 0, 9, 0, 0, 0, 10, 0, 0, 0, 11]);
    expected[36..44].copy_from_slice(&[0, 0, 0, 0, 0, 2, 0, 0]);
    assert_eq!(page.as_ref(), expected);
    assert_eq!(BlockLimits::parse(&page), Some(limits));
    // SBC-2 had twelve bytes of body.
    let short = [0, 0xb0, 0, 0x0c, 0, 0, 0, 1, 0, 0, 0x10, 0, 0, 0, 0, 8];
    let parsed = BlockLimits::parse(&short).unwrap();
    assert_eq!(
        (parsed.maximum_transfer, parsed.maximum_unmap_blocks),
        (0x1000, 0)
    );
}

#[test]
fn provisioning_in_bytes() {
    let all = Provisioning {
        unmap: true,
        write_same_16: true,
        write_same_10: true,
        reads_zeros: true,
        thin: true,
    };
    assert_eq!(all.build().as_ref(), [0, 0xb2, 0, 4, 0, 0xe4, 2, 0]);
    assert_eq!(Provisioning::parse(&all.build()), Some(all));
    assert_eq!(
        Provisioning::default().build().as_ref(),
        [0, 0xb2, 0, 4, 0, 0, 0, 0]
    );
}

#[test]
fn plain_pages_in_bytes() {
    let serial = vpd::serial_page("0a1b");
    assert_eq!(serial.as_ref(), [0, 0x80, 0, 4, b'0', b'a', b'1', b'b']);
    let policy = vpd::mode_page_policy_page();
    assert_eq!(policy.as_ref(), [0, 0x87, 0, 4, 0x3f, 0xff, 0, 0]);
}

#[test]
fn extended_inquiry_in_bytes() {
    let extended = ExtendedInquiry {
        volatile_cache: true,
        nonvolatile_cache: false,
        clears_attentions: true,
        maximum_sense_bytes: 28,
    };
    let page = extended.build();
    let front = [0, 0x86, 0, 0x3c, 0, 7, 1, 1, 0, 0, 0, 0, 0, 28, 0, 0];
    assert_eq!((page.len(), &page[..16]), (64, &front[..]));
    assert_eq!(ExtendedInquiry::parse(&page), Some(extended));
    let bare = ExtendedInquiry::default().build();
    assert_eq!(bare[..8], [0, 0x86, 0, 0x3c, 0, 7, 0, 0]);
}

#[test]
fn characteristics_in_bytes() {
    let erased = Characteristics {
        rotation_rate: 7200,
        form_factor: 3,
        after_block_erase: 1,
        after_cryptographic_erase: 2,
        verifies_unmapped: false,
    };
    let page = erased.build();
    assert_eq!(page.len(), 64);
    assert_eq!(page[..9], [0, 0xb1, 0, 0x3c, 0x1c, 0x20, 0, 0x63, 0]);
    assert_eq!(Characteristics::parse(&page), Some(erased));
    let still = Characteristics::default().build();
    assert_eq!(still[..9], [0, 0xb1, 0, 0x3c, 0, 1, 0, 0, 1]);
}

#[test]
fn third_party_copy_in_bytes() {
    let parameters = OperatingParameters::new(0x0100_0000, 4, 9);
    let page = vpd::third_party_copy_page(&CopySupport::LID1, &parameters);
    let mut expected = vec![0, 0x8f, 0, 0x54];
    expected.extend([0, 1, 0, 12, 9, 0x83, 1, 0, 0x84, 4, 0, 1, 3, 4, 0, 0]);
    expected.extend([0, 4, 0, 28, 0, 0, 0, 0, 0, 8, 0, 64, 0, 0, 8, 0]);
    expected.extend([0; 16]);
    expected.extend([0, 8, 0, 4, 2, 0x02, 0xe4, 0]);
    expected.extend([0, 0x0c, 0, 4, 0, 0, 0, 0]);
    expected.extend([0x80, 1, 0, 32, 0, 0, 0, 4, 0, 0, 0, 4, 1, 0, 0, 0, 9]);
    expected.extend([0; 19]);
    expected[3] = u8::try_from(expected.len() - 4).unwrap();
    assert_eq!(page.as_ref(), expected);
}

proptest! {
    #[test]
    fn hostile_pages_end(bytes in proptest::collection::vec(any::<u8>(), 0..96), code in 0x80u8..0xb3) {
        let mut bytes = bytes;
        if let Some(own) = bytes.get_mut(1) {
            *own = code;
        }
        let _ = (vpd::parse_designators(&bytes), BlockLimits::parse(&bytes), Provisioning::parse(&bytes));
        let _ = (Characteristics::parse(&bytes), ExtendedInquiry::parse(&bytes));
    }

    #[test]
    fn designators_that_are_built_parse_to_the_same(
        names in proptest::collection::vec((0u8..4, 0u8..16, 0u8..16, proptest::collection::vec(any::<u8>(), 0..64)), 0..8),
    ) {
        let designators: Vec<_> = names
            .into_iter()
            .map(|(association, kind, code_set, value)| Designator { association, kind, code_set, value: Bytes::from(value) })
            .collect();
        prop_assert_eq!(vpd::parse_designators(&vpd::designators_page(&designators)).unwrap(), designators);
    }
}
