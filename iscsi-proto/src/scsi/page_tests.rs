//! Vital product data and mode pages as bytes, spelled out from SPC-4 and SBC-3.

use super::mode::{self, ModeQuery, Modes};
use super::vpd::{self, BlockLimits, Designator, Provisioning};
use super::{ModeForm, PageControl, Sense};

const MODES: Modes = Modes {
    write_protected: true,
    write_cache: true,
    blocks: 0x1000,
    block_bytes: 512,
};

fn query(form: ModeForm, page: u8) -> ModeQuery {
    ModeQuery {
        form,
        control: PageControl::Current,
        page,
        subpage: 0,
        no_block_descriptor: true,
    }
}

#[test]
fn designators_name_unit_and_port() {
    let designators = [
        Designator::naa([0x31, 2, 3, 4, 5, 6, 7, 8]),
        Designator::t10_vendor("VMTHNDR", "42"),
        Designator::relative_target_port(0x0102),
        Designator::target_port_group(3),
        Designator::port_name("iqn.a", 1),
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
        maximum_write_same: 0x2_0000,
    };
    let page = limits.build();
    let mut expected = [0u8; 64];
    expected[..20].copy_from_slice(&[
        0, 0xb0, 0, 0x3c, 1, 0, 0, 8, 0, 0, 0x40, 0, 0, 0, 8, 0, 0, 0, 0, 1,
    ]);
    expected[20..32].copy_from_slice(&[0, 0x80, 0, 0, 0, 0, 1, 0, 0, 0, 0, 8]);
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
    let extended = vpd::extended_inquiry_page();
    assert_eq!(
        (extended.len(), &extended[..6]),
        (64, &[0, 0x86, 0, 0x3c, 0, 7][..])
    );
    let characteristics = vpd::characteristics_page();
    assert_eq!(
        (characteristics.len(), &characteristics[..6]),
        (64, &[0, 0xb1, 0, 0x3c, 0, 1][..])
    );
}

#[test]
fn all_mode_pages() {
    let bytes = MODES.build(&query(ModeForm::Six, 0x3f)).unwrap();
    let mut expected = vec![47, 0, 0x90, 0];
    expected.extend([
        0x08, 0x12, 0x04, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ]);
    expected.extend([0x0a, 0x0a, 0, 0x10, 0, 0, 0, 0, 0xff, 0xff, 0, 0]);
    expected.extend([0x1c, 0x0a, 0x08, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bytes.as_ref(), expected);
    let summary = mode::parse(ModeForm::Six, &bytes).unwrap();
    assert!(summary.write_protected && summary.dpo_fua && summary.write_cache == Some(true));
    assert_eq!(
        mode::parse(ModeForm::Six, &bytes[..4]).unwrap().write_cache,
        None
    );
}

#[test]
fn block_descriptors_come_short_and_long() {
    let modes = Modes {
        write_protected: false,
        write_cache: false,
        ..MODES
    };
    let short = ModeQuery {
        no_block_descriptor: false,
        ..query(ModeForm::Ten { long_lba: false }, 0x1c)
    };
    let mut expected = vec![0, 26, 0, 0x10, 0, 0, 0, 8, 0, 0, 0x10, 0, 0, 0, 2, 0];
    expected.extend([0x1c, 0x0a, 0x08, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(modes.build(&short).unwrap().as_ref(), expected);
    let long = ModeQuery {
        form: ModeForm::Ten { long_lba: true },
        ..short
    };
    let bytes = modes.build(&long).unwrap();
    assert_eq!(bytes[..8], [0, 34, 0, 0x10, 1, 0, 0, 16]);
    assert_eq!(
        bytes[8..24],
        [0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, 0, 2, 0]
    );
}

#[test]
fn what_cannot_be_changed_is_zero_and_nothing_is_saved() {
    let form = ModeForm::Six;
    let changeable = ModeQuery {
        control: PageControl::Changeable,
        ..query(form, 0x0a)
    };
    let bytes = MODES.build(&changeable).unwrap();
    assert_eq!(bytes[4..], [0x0a, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let saved = ModeQuery {
        control: PageControl::Saved,
        ..query(form, 0x3f)
    };
    assert_eq!(MODES.build(&saved), Err(Sense::new(5, 0x39, 0)));
    assert_eq!(MODES.build(&query(form, 0x05)), Err(Sense::new(5, 0x24, 0)));
    assert_eq!(
        MODES.build(&ModeQuery {
            subpage: 1,
            ..query(form, 0x0a)
        }),
        Err(Sense::new(5, 0x24, 0))
    );
    assert!(
        MODES
            .build(&ModeQuery {
                subpage: 0xff,
                ..query(form, 0x3f)
            })
            .is_ok()
    );
}

#[test]
fn hostile_mode_data_ends() {
    for bytes in [
        &[0u8; 3][..],
        &[0, 0, 0, 0xff],
        &[0, 0, 0, 0, 0x05, 0, 0x05, 0],
        &[0, 0, 0, 0, 0x48, 1, 0xff, 0xff],
    ] {
        let summary = mode::parse(ModeForm::Six, bytes);
        assert!(summary.is_none_or(|summary| summary.write_cache.is_none()));
    }
}
