//! Mode pages as bytes, spelled out from SPC-4 and SBC-4.

use proptest::collection::vec;
use proptest::prelude::{Strategy, any, prop_assert, prop_assert_eq, proptest};

use super::{ModeQuery, Modes, Settings};
use crate::scsi::{ModeForm, PageControl, Sense, SenseData};

const CACHED: Settings = Settings {
    write_cache: true,
    descriptor_sense: false,
    software_write_protect: false,
    task_aborted_status: false,
    queue_error: 0,
};

const MODES: Modes = Modes {
    write_protected: true,
    current: CACHED,
    default: Settings {
        write_cache: false,
        ..CACHED
    },
    changeable: Settings {
        descriptor_sense: true,
        software_write_protect: true,
        ..CACHED
    },
    blocks: 0x1000,
    block_bytes: 512,
};

const LONG: ModeForm = ModeForm::Ten { long_lba: true };
const TEN: ModeForm = ModeForm::Ten { long_lba: false };

fn query(form: ModeForm, page: u8) -> ModeQuery {
    ModeQuery {
        form,
        control: PageControl::Current,
        page,
        subpage: 0,
        no_block_descriptor: true,
    }
}

const RECOVERY: [u8; 12] = [0x01, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const CACHING: [u8; 20] = [
    0x08, 0x12, 0x04, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
];
const CONTROL: [u8; 12] = [0x0a, 0x0a, 2, 0x10, 0, 0, 0, 0, 0xff, 0xff, 0, 0];
const EXCEPTIONS: [u8; 12] = [0x1c, 0x0a, 0x08, 0, 0, 0, 0, 0, 0, 0, 0, 0];

#[test]
fn all_mode_pages() {
    let bytes = MODES.build(&query(ModeForm::Six, 0x3f)).unwrap();
    let mut expected = vec![59, 0, 0x90, 0];
    expected.extend(RECOVERY);
    expected.extend(CACHING);
    expected.extend(CONTROL);
    expected.extend(EXCEPTIONS);
    assert_eq!(bytes.as_ref(), expected);
    let summary = super::parse(ModeForm::Six, &bytes).unwrap();
    assert!(summary.write_protected && summary.dpo_fua && summary.write_cache == Some(true));
    let header = super::parse(ModeForm::Six, &bytes[..4]).unwrap();
    assert_eq!(header.write_cache, None);
    let with_subpages = ModeQuery {
        subpage: 0xff,
        ..query(ModeForm::Six, 0x3f)
    };
    assert_eq!(MODES.build(&with_subpages).unwrap(), bytes);
}

#[test]
fn what_can_be_set_is_in_its_place() {
    let all = Settings {
        write_cache: true,
        descriptor_sense: true,
        software_write_protect: true,
        task_aborted_status: true,
        queue_error: 3,
    };
    let modes = Modes {
        current: all,
        ..MODES
    };
    let bytes = modes.build(&query(ModeForm::Six, 0x0a)).unwrap();
    assert_eq!(
        bytes[4..],
        [0x0a, 0x0a, 0x06, 0x16, 0x08, 0x40, 0, 0, 0xff, 0xff, 0, 0]
    );
}

#[test]
fn block_descriptors_come_short_and_long() {
    let modes = Modes {
        write_protected: false,
        ..MODES
    };
    let short = ModeQuery {
        no_block_descriptor: false,
        ..query(TEN, 0x1c)
    };
    let mut expected = vec![0, 26, 0, 0x10, 0, 0, 0, 8, 0, 0, 0x10, 0, 0, 0, 2, 0];
    expected.extend(EXCEPTIONS);
    assert_eq!(modes.build(&short).unwrap().as_ref(), expected);
    let long = ModeQuery {
        form: LONG,
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
fn four_kinds_of_values() {
    let of = |control, page| {
        MODES.build(&ModeQuery {
            control,
            ..query(ModeForm::Six, page)
        })
    };
    let changeable = of(PageControl::Changeable, 0x0a).unwrap();
    assert_eq!(
        changeable[4..],
        [0x0a, 0x0a, 0x04, 0, 0x08, 0, 0, 0, 0, 0, 0, 0]
    );
    assert_eq!(of(PageControl::Changeable, 0x08).unwrap()[6], 0x04);
    assert_eq!(of(PageControl::Changeable, 0x1c).unwrap()[6], 0);
    assert_eq!(of(PageControl::Default, 0x08).unwrap()[6], 0);
    assert_eq!(
        of(PageControl::Saved, 0x3f),
        Err(Sense::new(5, 0x39, 0).into())
    );
}

#[test]
fn pages_that_do_not_exist_are_pointed_at() {
    let refused = MODES.build(&query(ModeForm::Six, 0x05));
    assert_eq!(refused, Err(SenseData::cdb_field(2, 5)));
    for subpage in [1, 0xfe] {
        let refused = MODES.build(&ModeQuery {
            subpage,
            ..query(ModeForm::Six, 0x0a)
        });
        assert_eq!(refused, Err(SenseData::cdb_field(3, 7)));
    }
}

fn select(list: &[&[u8]]) -> Result<Settings, SenseData> {
    MODES.select(ModeForm::Six, true, &list.concat())
}

#[test]
fn a_list_changes_what_may_change() {
    let mut control = CONTROL;
    (control[2], control[4]) = (0x06, 0x08);
    let mut caching = CACHING;
    caching[2] = 0;
    let expected = Settings {
        write_cache: false,
        descriptor_sense: true,
        software_write_protect: true,
        ..CACHED
    };
    // The PS bit is reserved here; what MODE SENSE told may come back.
    caching[0] |= 0x80;
    assert_eq!(select(&[&[0, 0, 0, 0], &caching, &control]), Ok(expected));
    let block = [0, 0, 0x10, 0, 0, 0, 2, 0];
    assert_eq!(
        select(&[&[0, 0, 0x90, 8], &block, &RECOVERY]),
        Ok(CACHED),
        "repeating what is so changes nothing"
    );
    assert_eq!(select(&[]), Ok(CACHED));
    assert_eq!(select(&[&[0, 0, 0, 0]]), Ok(CACHED));
    let list = [&[0, 0, 0, 0, 0, 0, 0, 0][..], &control].concat();
    let ten = MODES.select(TEN, true, &list).unwrap();
    assert!(ten.descriptor_sense && ten.write_cache);
    let block = [0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, 0, 2, 0];
    let list = [&[0, 0, 0, 0, 1, 0, 0, 16][..], &block, &control].concat();
    assert_eq!(MODES.select(TEN, true, &list), Ok(ten));
}

#[test]
fn lists_that_end_too_early_have_the_wrong_length() {
    let short = Err(Sense::new(5, 0x1a, 0).into());
    for list in [
        &[0, 0, 0][..],
        &[0, 0, 0, 8, 0, 0, 0],
        &[0, 0, 0, 0, 0x0a],
        &[0, 0, 0, 0, 0x0a, 0x0a, 0, 0x10],
    ] {
        assert_eq!(select(&[list]), short, "{list:02x?}");
    }
    assert_eq!(MODES.select(TEN, true, &[0; 7]), short);
}

#[test]
fn what_may_not_change_is_pointed_at() {
    let at = |byte, bit| Err(SenseData::list_field(byte, bit));
    let header = [0, 0, 0, 0];
    let changed = |index: usize, value| {
        let mut page = CONTROL;
        page[index] = value;
        page
    };
    assert_eq!(select(&[&header, &changed(3, 0x16)]), at(7, 2));
    assert_eq!(select(&[&header, &changed(5, 0x40)]), at(9, 6));
    assert_eq!(select(&[&header, &changed(8, 0)]), at(12, 7));
    assert_eq!(select(&[&header, &changed(1, 0x09)]), at(5, 7));
    assert_eq!(select(&[&header, &changed(0, 0x05)]), at(4, 5));
    assert_eq!(select(&[&header, &changed(0, 0x4a)]), at(4, 5));
    assert_eq!(select(&[&header, &changed(0, 0x3f)]), at(4, 5));
    assert_eq!(select(&[&header, &CACHING, &changed(3, 0x50)]), at(27, 6));
    let size = [0, 0, 0, 8, 0, 0, 0x10, 1, 0, 0, 2, 0];
    assert_eq!(select(&[&size]), at(4, 7));
    let length = [0, 0, 0, 8, 0, 0, 0x10, 0, 0, 0, 0x10, 0];
    assert_eq!(select(&[&length]), at(9, 7));
    assert_eq!(select(&[&[0, 0, 0, 3, 0, 0, 0]]), at(3, 7));
    let vendor = MODES.select(ModeForm::Six, false, &[&header[..], &CONTROL].concat());
    assert_eq!(vendor, Err(SenseData::cdb_field(1, 4)));
}

#[test]
fn hostile_mode_data_ends() {
    for bytes in [
        &[0u8; 3][..],
        &[0, 0, 0, 0xff],
        &[0, 0, 0, 0, 0x05, 0, 0x05, 0],
        &[0, 0, 0, 0, 0x48, 1, 0xff, 0xff],
    ] {
        let summary = super::parse(ModeForm::Six, bytes);
        assert!(summary.is_none_or(|summary| summary.write_cache.is_none()));
    }
}

fn settings() -> impl Strategy<Value = Settings> {
    (any::<(bool, bool, bool, bool)>(), 0u8..4).prop_map(
        |(
            (write_cache, descriptor_sense, software_write_protect, task_aborted_status),
            queue_error,
        )| Settings {
            write_cache,
            descriptor_sense,
            software_write_protect,
            task_aborted_status,
            queue_error,
        },
    )
}

proptest! {
    #[test]
    fn what_is_listed_is_set(from in settings(), to in settings(), six in any::<bool>()) {
        let form = if six { ModeForm::Six } else { TEN };
        let changeable = Settings {
            write_cache: true,
            descriptor_sense: true,
            software_write_protect: true,
            task_aborted_status: true,
            queue_error: 3,
        };
        let modes = Modes { current: from, changeable, ..MODES };
        prop_assert_eq!(modes.select(form, true, &to.list(form)), Ok(to));
        // Where nothing may change, only the same is taken.
        let fixed = Modes { changeable: Settings::default(), ..modes };
        prop_assert_eq!(fixed.select(form, true, &to.list(form)).is_ok(), from == to);
    }

    #[test]
    fn what_is_sensed_can_be_selected(current in settings(), page in 0u8..0x40, bare in any::<bool>()) {
        let modes = Modes { current, ..MODES };
        let query = ModeQuery { no_block_descriptor: bare, ..query(TEN, page) };
        if let Ok(bytes) = modes.build(&query) {
            prop_assert_eq!(modes.select(TEN, true, &bytes), Ok(current));
        }
    }

    #[test]
    fn hostile_lists_change_only_what_may(list in vec(any::<u8>(), 0..64), six in any::<bool>()) {
        let form = if six { ModeForm::Six } else { TEN };
        if let Ok(settings) = MODES.select(form, true, &list) {
            prop_assert!(settings.queue_error == 0 && !settings.task_aborted_status);
        }
    }
}
