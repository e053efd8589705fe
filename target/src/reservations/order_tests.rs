//! Every service action, as SPC-4 §5.13.7 to §5.13.11 spells it out.

use iscsi_proto::scsi::SenseData;
use iscsi_proto::scsi::persistent::ReservationType::{
    ExclusiveAccess, ExclusiveAccessAllRegistrants, ExclusiveAccessRegistrantsOnly, WriteExclusive,
    WriteExclusiveAllRegistrants, WriteExclusiveRegistrantsOnly,
};

use super::Order;
use crate::reservations::persistent::MAX_REGISTRATIONS;
use crate::reservations::testing::{
    Story, move_to, nexus, nexuses, preempt, preempt_and_abort, register, register_and_ignore,
    register_for_good, register_others, release, reserve,
};

const PREEMPTED: [u8; 3] = [6, 0x2a, 0x03];
const RELEASED: [u8; 3] = [6, 0x2a, 0x04];
const REGISTRATION_PREEMPTED: [u8; 3] = [6, 0x2a, 0x05];

/// INVALID FIELD IN PARAMETER LIST, with the bit and the byte pointed at.
fn list_field(byte: u8, bit: u8) -> Vec<u8> {
    vec![0x26, 0, 0, 0x88 | bit, 0, byte]
}

#[test]
fn a_key_is_registered_changed_and_removed() {
    let mut story = Story::default();
    story.idle(1, register(0, 0));
    story.conflict(1, register(7, 1));
    story.tell(1, register(0, 1));
    assert_eq!((story.keys([1, 2]), story.now.generation), ([1, 0], 1));
    story.conflict(1, register(0, 2));
    story.conflict(1, register(2, 0));
    story.tell(1, register(1, 2));
    assert_eq!((story.keys([1, 2]), story.now.generation), ([2, 0], 2));
    story.tell(1, register(2, 0));
    assert_eq!((story.keys([1, 2]), story.now.generation), ([0, 0], 3));
}

#[test]
fn an_existing_key_can_be_ignored() {
    let mut story = Story::default();
    story.idle(1, register_and_ignore(0));
    story.tell(1, register_and_ignore(1));
    story.tell(1, register_and_ignore(2));
    assert_eq!((story.keys([1]), story.now.generation), ([2], 2));
    story.tell(1, register_and_ignore(0));
    assert_eq!((story.keys([1]), story.now.generation), ([0], 3));
}

#[test]
fn others_are_registered_too() {
    let mut story = Story::of(&[(3, 9)]);
    story.tell(1, register_others(0, 5, &[2, 3, 1]));
    assert_eq!(story.keys([1, 2, 3]), [5, 5, 9], "3 keeps its key");
    assert_eq!(story.now.generation, 2);
    // Only who is not registered may name others.
    assert_eq!(
        story.refused(1, register_others(5, 6, &[4])),
        list_field(20, 3)
    );
    assert_eq!(
        story.refused(1, register_others(5, 0, &[4])),
        list_field(20, 3)
    );
    story.conflict(1, register_others(4, 6, &[4]));
    story.idle(4, register_others(0, 0, &[5]));
}

#[test]
fn there_is_a_limit() {
    let mut story = Story::default();
    for number in 0..MAX_REGISTRATIONS {
        let mut one = nexus(0);
        one.isid[..2].copy_from_slice(&u16::try_from(number).unwrap().to_be_bytes());
        story.now.registrations.insert(one, 1);
    }
    let full = story.now.clone();
    assert_eq!(story.refused(1, register(0, 5))[..2], [0x55, 0x04]);
    assert_eq!(story.refused(1, register_and_ignore(5))[..2], [0x55, 0x04]);
    // One place is free, but two are asked for: none is taken.
    story.now.registrations.pop_last();
    assert_eq!(
        story.refused(1, register_others(0, 5, &[2]))[..2],
        [0x55, 0x04]
    );
    story.tell(1, register(0, 5));
    story.tell(1, reserve(5, WriteExclusive));
    assert_eq!(story.refused(1, move_to(5, 6, 2, false))[..2], [0x55, 0x04]);
    story.tell(1, move_to(5, 6, 2, true));
    assert_eq!(story.now.registrations.len(), full.registrations.len());
}

#[test]
fn what_cannot_be_kept_is_not_promised() {
    let mut story = Story::default();
    assert_eq!(story.refused(1, register_for_good(1)), list_field(20, 0));
    story.now.can_persist = true;
    story.tell(1, register_for_good(1));
    assert!(story.now.persists);
    // The last registration decides.
    story.tell(2, register(0, 2));
    assert!(!story.now.persists);
}

#[test]
fn a_registrant_reserves() {
    let mut story = Story::of(&[(1, 1), (2, 2)]);
    story.conflict(3, reserve(0, WriteExclusive));
    story.conflict(1, reserve(2, WriteExclusive));
    assert_eq!(story.tell(1, reserve(1, WriteExclusive)), []);
    assert_eq!(story.now.generation, 2, "RESERVE does not count");
    assert_eq!(story.holders(), (vec![1], Some(1)));
    story.idle(1, reserve(1, WriteExclusive));
    story.conflict(1, reserve(1, ExclusiveAccess));
    story.conflict(2, reserve(2, WriteExclusive));
}

#[test]
fn all_registrants_reserve() {
    let mut story = Story::of(&[(1, 1), (2, 2)]);
    story.tell(1, reserve(1, ExclusiveAccessAllRegistrants));
    assert_eq!(story.holders(), (vec![1, 2], Some(8)));
    story.idle(2, reserve(2, ExclusiveAccessAllRegistrants));
    story.conflict(2, reserve(2, WriteExclusiveAllRegistrants));
    story.tell(3, register(0, 3));
    assert_eq!(story.holders(), (vec![1, 2, 3], Some(8)));
}

#[test]
fn a_wrong_type_is_the_least_of_all_faults() {
    let wrong = |key| Order::Reserve {
        key,
        kind: Err(SenseData::cdb_field(2, 3)),
    };
    let mut story = Story::of(&[(1, 1), (2, 2)]);
    story.conflict(1, wrong(2));
    assert_eq!(story.refused(1, wrong(1)), [0x24, 0, 0, 0xcb, 0, 2]);
    story.tell(2, reserve(2, WriteExclusive));
    story.conflict(1, wrong(1));
}

#[test]
fn the_holder_releases() {
    for (kind, notices) in [
        (WriteExclusive, vec![]),
        (ExclusiveAccess, vec![]),
        (
            WriteExclusiveRegistrantsOnly,
            vec![(RELEASED, nexuses(&[2, 3]))],
        ),
        (
            ExclusiveAccessRegistrantsOnly,
            vec![(RELEASED, nexuses(&[2, 3]))],
        ),
        (
            WriteExclusiveAllRegistrants,
            vec![(RELEASED, nexuses(&[2, 3]))],
        ),
        (
            ExclusiveAccessAllRegistrants,
            vec![(RELEASED, nexuses(&[2, 3]))],
        ),
    ] {
        let mut story = Story::of(&[(1, 1), (2, 2), (3, 3)]);
        story.idle(1, release(1, kind));
        story.tell(1, reserve(1, kind));
        story.conflict(1, release(2, kind));
        story.conflict(4, release(0, kind));
        let other = match kind {
            WriteExclusive => ExclusiveAccess,
            _ => WriteExclusive,
        };
        assert_eq!(
            story.refused(1, release(1, other))[..2],
            [0x26, 0x04],
            "{kind:?}"
        );
        if !kind.all_registrants() {
            // Not an error, but not a release either.
            story.idle(2, release(2, kind));
        }
        assert_eq!(story.tell(1, release(1, kind)), notices, "{kind:?}");
        assert_eq!(story.holders(), (vec![], None));
        assert_eq!(story.keys([1, 2, 3]), [1, 2, 3]);
        assert_eq!(story.now.generation, 3, "RELEASE does not count");
    }
}

#[test]
fn the_holder_unregisters() {
    for (kind, notices) in [
        (WriteExclusive, vec![]),
        (ExclusiveAccess, vec![]),
        (
            WriteExclusiveRegistrantsOnly,
            vec![(RELEASED, nexuses(&[2]))],
        ),
        (
            ExclusiveAccessRegistrantsOnly,
            vec![(RELEASED, nexuses(&[2]))],
        ),
    ] {
        let mut story = Story::of(&[(1, 1), (2, 2)]);
        story.tell(1, reserve(1, kind));
        assert_eq!(story.tell(1, register(1, 0)), notices, "{kind:?}");
        assert_eq!(story.holders(), (vec![], None));
    }
    // Somebody else does: nothing happens to the reservation.
    let mut story = Story::of(&[(1, 1), (2, 2)]);
    story.tell(1, reserve(1, WriteExclusiveRegistrantsOnly));
    assert_eq!(story.tell(2, register(2, 0)), []);
    assert_eq!(story.holders(), (vec![1], Some(5)));
}

#[test]
fn the_last_of_all_registrants_unregisters() {
    let mut story = Story::of(&[(1, 1), (2, 2)]);
    story.tell(1, reserve(1, WriteExclusiveAllRegistrants));
    assert_eq!(story.tell(1, register(1, 0)), []);
    assert_eq!(story.holders(), (vec![2], Some(7)));
    assert_eq!(story.tell(2, register(2, 0)), []);
    assert_eq!(story.holders(), (vec![], None));
    // Registering does not bring the reservation back.
    story.tell(2, register(0, 2));
    assert_eq!(story.holders(), (vec![], None));
}

#[test]
fn a_registrant_clears() {
    let mut story = Story::of(&[(1, 1), (2, 2), (3, 2)]);
    story.tell(1, reserve(1, ExclusiveAccess));
    story.conflict(4, Order::Clear { key: 0 });
    story.conflict(2, Order::Clear { key: 1 });
    let notices = story.tell(2, Order::Clear { key: 2 });
    assert_eq!(notices, [(PREEMPTED, nexuses(&[1, 3]))]);
    assert_eq!(story.keys([1, 2, 3]), [0, 0, 0]);
    assert_eq!(story.holders(), (vec![], None));
    assert_eq!(story.now.generation, 4);
}

#[test]
fn the_holder_is_preempted() {
    let mut story = Story::of(&[(1, 1), (2, 2), (3, 1), (4, 4)]);
    story.tell(1, reserve(1, WriteExclusive));
    story.conflict(5, preempt(0, 1, WriteExclusive));
    story.conflict(2, preempt(1, 1, WriteExclusive));
    let notices = story.tell(2, preempt(2, 1, WriteExclusive));
    assert_eq!(notices, [(REGISTRATION_PREEMPTED, nexuses(&[1, 3]))]);
    assert_eq!(story.keys([1, 2, 3, 4]), [0, 2, 0, 4]);
    assert_eq!(story.holders(), (vec![2], Some(1)));
    assert_eq!(story.now.generation, 5);
}

#[test]
fn a_change_of_type_releases_the_others() {
    let mut story = Story::of(&[(1, 1), (2, 2), (3, 3)]);
    story.tell(1, reserve(1, WriteExclusiveRegistrantsOnly));
    let notices = story.tell(2, preempt(2, 1, ExclusiveAccess));
    assert_eq!(
        notices,
        [
            (REGISTRATION_PREEMPTED, nexuses(&[1])),
            (RELEASED, nexuses(&[3])),
        ]
    );
    assert_eq!(story.holders(), (vec![2], Some(3)));
    // The holder preempts itself: the type changes, the registration stays.
    let notices = story.tell(2, preempt(2, 2, WriteExclusiveAllRegistrants));
    assert_eq!(notices, [(RELEASED, nexuses(&[3]))]);
    assert_eq!(story.keys([1, 2, 3]), [0, 2, 3]);
    assert_eq!(story.holders(), (vec![2, 3], Some(7)));
}

#[test]
fn only_registrations_are_preempted() {
    let mut story = Story::of(&[(1, 1), (2, 2), (3, 3), (4, 3)]);
    story.tell(1, reserve(1, WriteExclusive));
    // The type is of no consequence here, so a wrong one is none either.
    let order = Order::Preempt {
        key: 2,
        victims: 3,
        kind: Err(SenseData::cdb_field(2, 3)),
        abort: false,
    };
    let notices = story.tell(2, order);
    assert_eq!(notices, [(REGISTRATION_PREEMPTED, nexuses(&[3, 4]))]);
    assert_eq!(story.keys([1, 2, 3, 4]), [1, 2, 0, 0]);
    assert_eq!(story.holders(), (vec![1], Some(1)));
    story.conflict(2, preempt(2, 3, WriteExclusive));
    // One's own key is no error. One knows what one has done.
    assert_eq!(story.tell(2, preempt(2, 2, WriteExclusive)), []);
    assert_eq!(story.keys([1, 2]), [1, 0]);
}

#[test]
fn preempting_without_a_reservation() {
    let mut story = Story::of(&[(1, 1), (2, 2)]);
    assert_eq!(
        story.refused(1, preempt(1, 0, WriteExclusive)),
        list_field(8, 7)
    );
    story.conflict(1, preempt(1, 9, WriteExclusive));
    let notices = story.tell(1, preempt(1, 2, WriteExclusive));
    assert_eq!(notices, [(REGISTRATION_PREEMPTED, nexuses(&[2]))]);
    assert_eq!(story.holders(), (vec![], None));
}

#[test]
fn all_registrants_are_preempted() {
    let mut story = Story::of(&[(1, 1), (2, 2), (3, 3)]);
    story.tell(1, reserve(1, WriteExclusiveAllRegistrants));
    let notices = story.tell(2, preempt(2, 3, WriteExclusive));
    assert_eq!(notices, [(REGISTRATION_PREEMPTED, nexuses(&[3]))]);
    assert_eq!(
        story.holders(),
        (vec![1, 2], Some(7)),
        "nothing is taken over"
    );
    // Zero is all the others.
    let notices = story.tell(2, preempt(2, 0, ExclusiveAccess));
    assert_eq!(notices, [(REGISTRATION_PREEMPTED, nexuses(&[1]))]);
    assert_eq!(story.keys([1, 2, 3]), [0, 2, 0]);
    assert_eq!(story.holders(), (vec![2], Some(3)));
    // With one holder zero means nobody.
    assert_eq!(
        story.refused(2, preempt(2, 0, WriteExclusive)),
        list_field(8, 7)
    );
}

#[test]
fn all_registrants_have_the_key_that_is_preempted() {
    let mut story = Story::of(&[(1, 1), (2, 1)]);
    story.tell(1, reserve(1, WriteExclusiveAllRegistrants));
    let notices = story.tell(2, preempt(2 - 1, 1, WriteExclusiveAllRegistrants));
    assert_eq!(notices, [(REGISTRATION_PREEMPTED, nexuses(&[1]))]);
    assert_eq!(story.keys([1, 2]), [0, 0]);
    assert_eq!(story.holders(), (vec![], None));
}

#[test]
fn commands_of_the_preempted_are_aborted() {
    let mut story = Story::of(&[(1, 1), (2, 2), (3, 1)]);
    story.tell(1, reserve(1, WriteExclusive));
    let change = story.change(2, preempt_and_abort(2, 1, WriteExclusive));
    assert_eq!(change.aborted, nexuses(&[1, 3]));
    assert_eq!(story.now.generation, 4);
    let mut story = Story::of(&[(1, 1), (2, 2), (3, 2)]);
    let change = story.change(2, preempt_and_abort(2, 2, WriteExclusive));
    assert_eq!(change.aborted, nexuses(&[3]), "not the one that asks");
    let mut story = Story::of(&[(1, 1), (2, 2)]);
    assert!(
        story
            .change(2, preempt(2, 1, WriteExclusive))
            .aborted
            .is_empty()
    );
}

#[test]
fn a_reservation_moves() {
    let mut story = Story::of(&[(1, 1), (2, 2)]);
    story.conflict(3, move_to(0, 5, 4, false));
    story.conflict(1, move_to(2, 5, 4, false));
    assert_eq!(
        story.refused(1, move_to(1, 5, 4, false)),
        [0x24, 0, 0, 0xcc, 0, 1]
    );
    story.tell(1, reserve(1, ExclusiveAccess));
    story.conflict(2, move_to(2, 5, 4, false));
    assert_eq!(story.refused(1, move_to(1, 0, 4, false)), list_field(8, 7));
    assert_eq!(story.refused(1, move_to(1, 5, 1, false)), list_field(24, 7));
    assert_eq!(story.tell(1, move_to(1, 5, 4, false)), []);
    assert_eq!(story.keys([1, 2, 4]), [1, 2, 5]);
    assert_eq!(
        (story.holders(), story.now.generation),
        ((vec![4], Some(3)), 3)
    );
    // Who is registered already gets the new key, and who moves it may leave.
    assert_eq!(story.tell(4, move_to(5, 6, 2, true)), []);
    assert_eq!(story.keys([1, 2, 4]), [1, 6, 0]);
    assert_eq!(story.holders(), (vec![2], Some(3)));
}

#[test]
fn what_all_hold_does_not_move() {
    for kind in [WriteExclusiveAllRegistrants, ExclusiveAccessAllRegistrants] {
        let mut story = Story::of(&[(1, 1), (2, 2)]);
        story.tell(1, reserve(1, kind));
        story.conflict(1, move_to(1, 5, 4, false));
    }
}
