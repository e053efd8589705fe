//! Sense as bytes, spelled out from SPC-4 §4.5.

use proptest::prelude::{Strategy, any, prop_assert_eq, prop_oneof, proptest};

use super::{Sense, SenseData, SenseSpecific};

#[test]
fn a_field_in_error_in_both_formats() {
    let data = SenseData::cdb_field(0x0102, 4);
    let fixed = [
        0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x24, 0, 0, 0xcc, 1, 2,
    ];
    assert_eq!(data.to_fixed_bytes().as_ref(), fixed);
    assert_eq!(SenseData::parse(&fixed), Some(data));
    let descriptor = [0x72, 5, 0x24, 0, 0, 0, 0, 8, 0x02, 6, 0, 0, 0xcc, 1, 2, 0];
    assert_eq!(data.to_descriptor_bytes().as_ref(), descriptor);
    assert_eq!(SenseData::parse(&descriptor), Some(data));
    let list = SenseData::list_field(7, 0).to_fixed_bytes();
    assert_eq!(list[12..], [0x26, 0, 0, 0x88, 0, 7]);
}

#[test]
fn an_address_in_both_formats() {
    let data = SenseData::from(Sense::UNRECOVERED_READ_ERROR).with_information(0x0102_0304);
    let fixed = [0xf0, 0, 3, 1, 2, 3, 4, 10, 0, 0, 0, 0, 0x11, 0, 0, 0, 0, 0];
    assert_eq!(data.to_fixed_bytes().as_ref(), fixed);
    assert_eq!(SenseData::parse(&fixed), Some(data));
    let descriptor = [
        0x72, 3, 0x11, 0, 0, 0, 0, 12, 0x00, 10, 0x80, 0, 0, 0, 0, 0, 1, 2, 3, 4,
    ];
    assert_eq!(data.to_descriptor_bytes().as_ref(), descriptor);
    assert_eq!(SenseData::parse(&descriptor), Some(data));
}

/// SPC-4 §4.5.3: where INFORMATION does not fit the four bytes of fixed format, VALID is zero.
#[test]
fn an_address_that_does_not_fit_is_left_out_of_fixed_format() {
    let data = SenseData::from(Sense::MISCOMPARE).with_information(0x1_0000_0000);
    let fixed = data.to_fixed_bytes();
    assert_eq!(fixed[..8], [0x70, 0, 0x0e, 0, 0, 0, 0, 10]);
    assert_eq!(
        data.to_descriptor_bytes()[8..],
        [0x00, 10, 0x80, 0, 0, 0, 0, 1, 0, 0, 0, 0]
    );
}

#[test]
fn progress_in_both_formats() {
    let data = SenseData::progress(Sense::SANITIZE_IN_PROGRESS, 0x8001);
    let fixed = [
        0x70, 0, 2, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x04, 0x1b, 0, 0x80, 0x80, 0x01,
    ];
    assert_eq!(data.to_fixed_bytes().as_ref(), fixed);
    assert_eq!(SenseData::parse(&fixed), Some(data));
    assert_eq!(SenseData::parse(&data.to_descriptor_bytes()), Some(data));
}

#[test]
fn foreign_descriptors_are_passed_over() {
    // Field replaceable unit, an information descriptor without VALID, a descriptor of a vendor, one that is cut off.
    let bytes = [
        0x72, 5, 0x24, 0, 0, 0, 0, 30, 0x03, 2, 0, 9, 0x00, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0x80,
        0, 0x02, 6, 0, 0, 0xc0, 0, 2, 0, 0x00, 10, 0x80, 0,
    ];
    let expected = SenseData {
        specific: Some(SenseSpecific::Field {
            in_command: true,
            byte: 2,
            bit: None,
        }),
        ..Sense::INVALID_FIELD_IN_CDB.into()
    };
    assert_eq!(SenseData::parse(&bytes), Some(expected));
}

fn data() -> impl Strategy<Value = SenseData> {
    let field =
        (any::<(bool, u16, bool)>(), 0u8..8).prop_map(|((in_command, byte, has_bit), bit)| {
            let bit = has_bit.then_some(bit);
            let specific = SenseSpecific::Field {
                in_command,
                byte,
                bit,
            };
            (5, specific)
        });
    let progress = (prop_oneof![0u8..1, 2u8..3], any::<u16>())
        .prop_map(|(key, done)| (key, SenseSpecific::Progress(done)));
    let specific = prop_oneof![
        prop_oneof![field, progress].prop_map(|(key, specific)| (key, Some(specific))),
        (0u8..16).prop_map(|key| (key, None)),
    ];
    (specific, any::<(u8, u8)>(), any::<Option<u64>>()).prop_map(
        |((key, specific), (asc, ascq), information)| SenseData {
            sense: Sense::new(key, asc, ascq),
            information,
            specific,
        },
    )
}

proptest! {
    #[test]
    fn what_is_built_parses_to_the_same(data in data()) {
        prop_assert_eq!(SenseData::parse(&data.to_descriptor_bytes()), Some(data));
        let short = SenseData {
            information: data.information.filter(|value| u32::try_from(*value).is_ok()),
            ..data
        };
        prop_assert_eq!(SenseData::parse(&data.to_fixed_bytes()), Some(short));
    }

    #[test]
    fn hostile_sense_ends(mut bytes in proptest::collection::vec(any::<u8>(), 0..64), code in 0x70u8..0x74) {
        if let Some(first) = bytes.first_mut() {
            *first = code;
        }
        prop_assert_eq!(SenseData::parse(&bytes).map(|data| data.sense), Sense::parse(&bytes));
    }
}
