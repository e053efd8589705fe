//! The file byte by byte, and everything that it must not be.

use std::fs;

use iscsi_proto::scsi::persistent::ReservationType;
use proptest::prelude::{any, prop, prop_assert, prop_assert_eq, proptest};

use super::{Damage, StateFile, decode, encode};
use crate::reservations::persistent::Persistent;
use crate::reservations::testing::{Story, nexus, register, reserve};

/// 1 and 2 are registered, 2 holds Write Exclusive.
fn some() -> Persistent {
    let mut story = Story::of(&[(1, 0x11), (2, 0x22)]);
    story.tell(2, reserve(0x22, ReservationType::WriteExclusive));
    kept(story)
}

/// What is left of it after the loss of power.
fn kept(story: Story) -> Persistent {
    Persistent {
        persists: true,
        generation: 0,
        ..story.now
    }
}

#[test]
fn the_bytes() {
    let mut body = vec![2, 0, 1, 0, 1, 0];
    for number in [1, 2] {
        body.extend([
            number * 0x11,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            1,
            0,
            0,
            2,
            0x3d,
            0,
            0,
            number,
        ]);
        body.push(25);
        body.extend(format!("iqn.2001-04.com.example:{number}").bytes());
    }
    let mut expected = b"iscsi-pr".to_vec();
    expected.extend([1, 0, 0, 0, 110, 0, 0, 0]);
    expected.extend(crc32c::crc32c(&body).to_le_bytes());
    expected.extend(body);
    assert_eq!(encode(&some()), expected);
    assert_eq!(decode(&expected), Ok(some()));
}

#[test]
fn every_kind_of_state_comes_back() {
    for kind in ReservationType::ALL {
        let mut story = Story::of(&[(1, 0x11), (2, 0x22)]);
        story.tell(2, reserve(0x22, kind));
        let state = kept(story);
        assert_eq!(decode(&encode(&state)), Ok(state), "{kind:?}");
    }
    let empty = kept(Story::default());
    assert_eq!(decode(&encode(&empty)), Ok(empty));
}

#[test]
fn what_is_wrong_is_said() {
    let sound = encode(&some());
    let changed = |at: usize, to: u8| {
        let mut bytes = sound.clone();
        bytes[at] = to;
        decode(&bytes)
    };
    assert_eq!(decode(&[]), Err(Damage::Magic));
    assert_eq!(changed(0, b'I'), Err(Damage::Magic));
    assert_eq!(changed(8, 2), Err(Damage::Version(2)));
    assert_eq!(changed(12, 109), Err(Damage::Length));
    assert_eq!(decode(&sound[..109]), Err(Damage::Length));
    assert_eq!(decode(&sound[..10]), Err(Damage::Length));
    assert_eq!(changed(26, 0x12), Err(Damage::Checksum));
}

/// A checksum keeps accidents out, but not hostile hands: what it covers is checked, too.
#[test]
fn a_right_checksum_is_not_enough() {
    let changed = |at: usize, to: u8| {
        let mut bytes = encode(&some());
        bytes[20 + at] = to;
        let checksum = crc32c::crc32c(&bytes[20..]).to_le_bytes();
        bytes[16..20].copy_from_slice(&checksum);
        decode(&bytes)
    };
    assert_eq!(changed(0, 2), Ok(some()));
    let wrong = [
        (0, 1, "something behind the last registration"),
        (0, 3, "too few registrations"),
        (1, 0xff, "too many registrations"),
        (2, 2, "no such type"),
        (2, 0, "a holder of nothing"),
        (2, 7, "one holder where all are"),
        (3, 1, "a reserved byte"),
        (4, 2, "a holder that is not registered"),
        (6, 0, "a key of zero"),
        (22, 24, "a name that ends too early"),
        (23, b'h', "no iSCSI name"),
        (23, 0xff, "no text"),
        (47, b'3', "out of order"),
    ];
    for (at, to, why) in wrong {
        assert_eq!(changed(at, to), Err(Damage::Content), "{why}");
    }
}

#[test]
fn a_file_comes_and_goes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("reservations");
    let file = StateFile::new(&path);
    assert_eq!(file.load().unwrap(), None);
    file.store(&some()).unwrap();
    assert_eq!(file.load().unwrap(), Some(some()));
    assert_eq!(
        fs::read_dir(folder.path()).unwrap().count(),
        1,
        "nothing beside it"
    );
    let forgotten = Persistent {
        persists: false,
        ..some()
    };
    file.store(&forgotten).unwrap();
    assert!(!path.exists());
    file.store(&forgotten).unwrap();
    assert_eq!(file.load().unwrap(), None);
}

#[test]
fn what_a_crash_left_beside_the_file_is_no_hindrance() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("reservations");
    fs::write(folder.path().join("reservations.new"), b"half of it").unwrap();
    let file = StateFile::new(&path);
    assert_eq!(file.load().unwrap(), None);
    file.store(&some()).unwrap();
    assert_eq!(file.load().unwrap(), Some(some()));
}

#[test]
fn errors_are_not_taken_for_an_absence() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("reservations");
    fs::write(&path, b"").unwrap();
    assert!(StateFile::new(&path).load().is_err(), "empty");
    fs::write(&path, vec![0; 1 << 20]).unwrap();
    assert!(StateFile::new(&path).load().is_err(), "endless");
    assert!(StateFile::new(folder.path()).load().is_err(), "a folder");
    let nowhere = folder.path().join("missing").join("reservations");
    assert!(StateFile::new(&nowhere).load().is_err());
    assert!(StateFile::new(&nowhere).store(&some()).is_err());
}

#[test]
fn the_largest_state_fits() {
    let mut state = kept(Story::default());
    for number in 0..1024u16 {
        let mut one = nexus(0);
        one.initiator = format!("iqn.2001-04.{}", "x".repeat(211)).parse().unwrap();
        one.isid[..2].copy_from_slice(&number.to_be_bytes());
        state.registrations.insert(one, u64::MAX);
    }
    let folder = tempfile::tempdir().unwrap();
    let file = StateFile::new(&folder.path().join("reservations"));
    file.store(&state).unwrap();
    assert_eq!(file.load().unwrap(), Some(state));
}

proptest! {
    /// Whatever is taken for a state is one that can be written, byte by byte.
    #[test]
    fn hostile_bytes(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in any::<prop::sample::Index>(),
        checksum in any::<bool>(),
    ) {
        let mut bytes = encode(&some());
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if checksum {
            let sum = crc32c::crc32c(&bytes[20..]).to_le_bytes();
            bytes[16..20].copy_from_slice(&sum);
        }
        if let Ok(state) = decode(&bytes) {
            prop_assert_eq!(encode(&state), bytes.clone());
            prop_assert!(state.persists && state.generation == 0);
        }
        prop_assert!(decode(&bytes[..cut.index(bytes.len())]).is_err());
    }

    #[test]
    fn states_come_back(registered in prop::collection::vec((any::<u8>(), 1..u64::MAX), 0..20)) {
        let mut story = Story::default();
        for (number, key) in registered {
            let present = story.keys([number])[0];
            story.tell(number, register(present, key));
        }
        let state = kept(story);
        prop_assert_eq!(decode(&encode(&state)), Ok(state));
    }
}
