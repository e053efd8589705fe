//! CmdSN, StatSN and the Reject PDU (RFC 7143 §4.2.2 and §11.17).

use iscsi_proto::session::{Breach, CloseReason, SessionLimits, TargetEvent};

use crate::harness::{EAGER, NO_TAG, Say, Wire, data_out, manage, ping, read, text, write};

/// RFC 7143 §4.2.2.1 and §7.2.1: ignored without a word.
#[test]
fn duplicates_and_strangers_to_the_window_are_ignored() {
    let mut wire = Wire::logged_in(EAGER);
    wire.say(&read(1, 100, 0));
    let first = wire.command();
    wire.say(&read(1, 100, 0));
    wire.say(&read(2, 100, 0));
    wire.say(&read(3, 104, 0));
    wire.say(&read(4, 99, 0));
    assert!(wire.event().is_none() && wire.hear().is_empty());
    assert_eq!(wire.session.stats().ignored, 4);
    wire.good(first.task);
    let heard = wire.hear_one();
    assert_eq!(
        (heard.word(28), heard.word(32)),
        (101, 104),
        "ExpCmdSN and MaxCmdSN"
    );
}

/// RFC 7143 §4.2.2.1 and §11.3.2: the order of CmdSN is the order of delivery.
#[test]
fn commands_are_delivered_in_order_and_immediate_ones_at_once() {
    let mut wire = Wire::logged_in(EAGER);
    wire.say(&read(2, 101, 12));
    wire.say(&read(3, 102, 13));
    assert!(wire.event().is_none(), "100 is missing");
    wire.say(&read(9, 100, 19).byte(0, 0x41));
    assert_eq!(wire.command().expected_length, 19);
    assert!(wire.event().is_none());
    wire.say(&read(1, 100, 11));
    let order: Vec<u32> = (0..3).map(|_| wire.command().expected_length).collect();
    assert_eq!(order, [11, 12, 13]);
    assert_eq!(wire.session.stats().commands, 4);
}

/// RFC 7143 §4.2.2.1 and §11.4.10: MaxCmdSN = ExpCmdSN - 1 closes the window.
#[test]
fn the_window_closes_with_the_tasks_and_opens_again() {
    let mut wire = Wire::logged_in(EAGER);
    for number in 0..4 {
        wire.say(&read(number, 100 + number, 0));
    }
    let tasks: Vec<_> = (0..4).map(|_| wire.command().task).collect();
    wire.say(&ping(50, 104, b""));
    let closed = wire.hear_one();
    assert_eq!(
        (closed.word(28), closed.word(32)),
        (104, 103),
        "MaxCmdSN is ExpCmdSN - 1"
    );
    wire.say(&read(5, 104, 0));
    assert!(wire.event().is_none());
    wire.good(tasks[2]);
    let opened = wire.hear_one();
    assert_eq!((opened.word(28), opened.word(32)), (104, 104));
    wire.say(&read(5, 104, 0));
    wire.command();
}

/// RFC 7143 §4.2.2.2, §11.4.9, §11.8.3 and §11.17.3: what advances StatSN and what does not.
#[test]
fn stat_sn_counts_what_it_has_to_count() {
    let mut wire = Wire::logged_in(EAGER);
    wire.say(&ping(50, 100, b"x"));
    let start = wire.hear_one().stat_sn();
    wire.say(&write(1, 100, 8, true, b""));
    let task = wire.command().task;
    wire.session.receive(task, 8);
    let r2t = wire.hear_one();
    assert_eq!(
        (r2t.opcode(), r2t.stat_sn()),
        (0x31, start + 1),
        "an R2T shows the next one"
    );
    wire.say(&data_out(1, r2t.word(20), 0, 0, true, &[7; 8]));
    wire.good(task);
    assert_eq!(wire.hear_one().stat_sn(), start + 1);
    let snack = Say::new(0x10, 0x80, 3);
    wire.say(&snack);
    let reject = wire.hear_one();
    assert_eq!((reject.opcode(), reject.stat_sn()), (0x3f, start + 2));
    wire.say(&ping(51, 101, b""));
    assert_eq!(wire.hear_one().stat_sn(), start + 3);
}

/// RFC 7143 §11.2.1.2, §11.2.1.8, §11.17 and §11.17.4: the reason, and the header of the PDU that is refused.
#[test]
fn what_is_no_request_is_rejected_with_its_header() {
    let mut wire = Wire::logged_in(EAGER);
    let cases = [
        (0x04, Say::new(0x10, 0x80, 3)),
        (0x05, Say::new(0x1c, 0x80, 3)),
        (0x04, Say::new(0x20, 0x80, 3)),
        (0x04, Say::new(0x43, 0x87, 3)),
        (0x09, read(NO_TAG, 100, 0)),
        (0x09, read(3, 100, 0).byte(1, 0x41)),
        (
            0x09,
            Say::new(0x00, 0x80, NO_TAG).word(20, NO_TAG).cmd_sn(100),
        ),
        (0x09, data_out(77, 5, 0, 0, true, b"data")),
        (0x09, text(5, 100, 5, 0x80, b"")),
        (0x04, text(5, 101, NO_TAG, 0xc0, b"")),
        (0x09, Say::new(0x06, 0x83, 3).cmd_sn(102)),
    ];
    for (reason, bad) in cases {
        wire.say(&bad);
        wire.hear_reject(reason, &bad);
    }
    wire.say(&read(1, 102, 0));
    wire.command();
    let twice = read(1, 103, 0);
    wire.say(&twice);
    wire.hear_reject(0x07, &twice);
    wire.say(&read(2, 103, 0));
    wire.command();
    assert_eq!(wire.session.stats().rejects, 12);
}

/// RFC 7143 §7.3 and §11.17.1: the number of a rejected command is a gap until the initiator fills it.
#[test]
fn a_rejected_command_counts_as_not_received() {
    let mut wire = Wire::logged_in(EAGER);
    wire.say(&read(2, 101, 0));
    assert!(wire.event().is_none(), "it waits for number 100");
    let bad = read(1, 100, 0).byte(1, 0x41);
    wire.say(&bad);
    let reject = wire.hear_one();
    assert_eq!(
        (reject.opcode(), reject.head[2], reject.word(28)),
        (0x3f, 0x09, 100),
        "ExpCmdSN is still its number"
    );
    assert!(wire.event().is_none(), "nothing passes the gap");
    wire.say(&read(3, 150, 0).byte(1, 0x41));
    assert!(
        wire.hear().is_empty(),
        "a number outside the window is not answered"
    );
    wire.say(&read(1, 100, 512));
    assert_eq!(wire.command().expected_length, 512);
    assert_eq!(wire.command().expected_length, 0, "the one that waited");
}

/// RFC 7143 §7.3 and §7.11: ABORT TASK of a rejected command fills the gap that it left.
#[test]
fn an_abort_fills_the_gap_of_a_rejected_command() {
    let mut wire = Wire::logged_in(EAGER);
    let bad = read(1, 100, 0).byte(1, 0x41);
    wire.say(&bad);
    wire.hear_reject(0x09, &bad);
    wire.say(&read(2, 101, 0));
    assert!(wire.event().is_none(), "it waits for number 100");
    wire.say(&manage(1, 9, 102, 1, 100));
    let answer = wire.hear_one();
    assert_eq!(
        (answer.opcode(), answer.head[2], answer.tag()),
        (0x22, 0, 9)
    );
    wire.command();
}

/// RFC 7143 §4.2.2.1: the first PDU of a number counts.
#[test]
fn a_bad_duplicate_does_not_push_a_waiting_command_out() {
    let mut wire = Wire::logged_in(EAGER);
    wire.say(&read(2, 101, 0));
    wire.say(&read(3, 101, 0).byte(1, 0x41));
    wire.say(&read(1, 100, 0));
    wire.command();
    wire.command();
    assert!(wire.hear().is_empty());
}

/// RFC 7143 §4.2.2.1: room for one task management request and one other immediate request, always.
#[test]
fn immediate_commands_are_limited_but_there_is_always_room_for_one_of_each_kind() {
    let mut wire = Wire::logged_in(EAGER);
    for tag in 0..8 {
        wire.say(&read(tag, 100, 0).byte(0, 0x41));
        wire.command();
    }
    let ninth = read(8, 100, 0).byte(0, 0x41);
    wire.say(&ninth);
    wire.hear_reject(0x06, &ninth);
    wire.say(&Say::new(0x42, 0x85, 20).word(20, NO_TAG).cmd_sn(100));
    assert!(
        matches!(wire.event(), Some(TargetEvent::Management { affected, .. }) if affected.len() == 8)
    );
    wire.say(&ping(30, 100, b"still here"));
    assert_eq!(wire.hear_one().data, b"still here");
}

/// RFC 7143 §4.2.2.1: the window comes before everything else.
#[test]
fn outside_the_window_not_even_a_running_tag_is_rejected() {
    let mut wire = Wire::logged_in(EAGER);
    wire.say(&read(1, 100, 0));
    wire.command();
    wire.say(&read(1, 150, 0));
    wire.say(&read(1, 99, 0));
    assert!(wire.hear().is_empty() && wire.event().is_none());
    assert_eq!(wire.session.stats().ignored, 2);
}

/// RFC 7143 §4.2.2.1: an immediate command carries the present number and does not use it; it comes whatever the
/// window is.
#[test]
fn an_immediate_command_needs_no_window() {
    let mut wire = Wire::logged_in(EAGER);
    for number in 0..4 {
        wire.say(&read(number, 100 + number, 0));
        wire.command();
    }
    wire.say(&read(9, 104, 0).byte(0, 0x41));
    wire.command();
    wire.say(&read(10, 400, 0).byte(0, 0x41));
    wire.command();
    wire.say(&ping(50, 104, b""));
    let heard = wire.hear_one();
    assert_eq!((heard.word(28), heard.word(32)), (104, 103));
}

/// RFC 7143 §11: reserved fields and bits are ignored by who receives them.
#[test]
fn reserved_bits_are_ignored() {
    let mut wire = Wire::logged_in(EAGER);
    // Bit 7 of byte 0, the reserved bits of the flags, bytes 2 and 3.
    wire.say(
        &read(1, 100, 0)
            .byte(0, 0x81)
            .byte(1, 0xd9)
            .byte(2, 0xff)
            .byte(3, 0xff),
    );
    let task = wire.command().task;
    wire.good(task);
    assert_eq!(wire.hear_one().head[3], 0x00);
    wire.say(
        &ping(2, 101, b"x")
            .byte(1, 0xff)
            .byte(2, 0xff)
            .word(36, 0xdead_beef),
    );
    assert_eq!(wire.hear_one().data, b"x");
    wire.say(
        &Say::new(0x42, 0x81, 3)
            .byte(2, 0xff)
            .word(20, 77)
            .cmd_sn(101)
            .word(32, 99)
            .word(44, 0xffff_ffff),
    );
    assert_eq!(wire.hear_one().head[2], 1);
    wire.say(
        &Say::new(0xc6, 0x80, 4)
            .byte(3, 0xff)
            .cmd_sn(101)
            .word(36, 1),
    );
    assert_eq!(wire.hear_one().opcode(), 0x26);
}

/// RFC 7143 §11.16: without recovery no SNACK of any kind is honoured.
#[test]
fn snacks_are_refused() {
    let mut wire = Wire::logged_in(EAGER);
    for kind in 0..4 {
        let snack = Say::new(0x10, 0x80 | kind, 1).word(20, NO_TAG);
        wire.say(&snack);
        wire.hear_reject(0x04, &snack);
    }
}

/// RFC 7143 §4.2.2.1: commands ahead of their turn are kept, but not their data without end.
#[test]
fn commands_that_wait_hold_no_more_data_than_anybody_needs() {
    let limits = SessionLimits {
        write_bytes: 4_000,
        ..SessionLimits::default()
    };
    let mut wire = Wire::limited(limits, EAGER);
    wire.say(&write(2, 101, 2_048, true, &[7; 2_048]));
    assert!(!wire.session.is_closed());
    wire.say(&write(3, 102, 2_048, true, &[7; 2_048]));
    assert!(matches!(
        wire.event(),
        Some(TargetEvent::Closed(CloseReason::ProtocolError(
            Breach::EarlyData
        )))
    ));
}
