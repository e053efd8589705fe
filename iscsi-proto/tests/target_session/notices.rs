//! What a target says unasked, and how wide it keeps the window (RFC 7143 §4.2.2.1, §11.9 and §11.19).

use std::time::Duration;

use bytes::Bytes;
use iscsi_proto::session::{AsyncNotice, CloseReason, ConnectionState, TargetEvent};
use iscsi_proto::wire::lun::Lun;

use crate::harness::{EAGER, NO_TAG, Wire, ping, read};

/// CAPACITY DATA HAS CHANGED, a unit attention, in fixed format.
const RESIZED: [u8; 18] = [
    0x70, 0, 0x06, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x2a, 0x09, 0, 0, 0, 0,
];

fn resized() -> AsyncNotice {
    AsyncNotice::Scsi {
        lun: Lun(3 << 48),
        sense: Bytes::from_static(&RESIZED),
    }
}

/// RFC 7143 §11.9.1, §11.9.2, §11.9.3, §11.9.4 and §11.9.4.1: a SCSI event names its unit and brings its sense behind
/// its length; its StatSN counts.
#[test]
fn a_scsi_event_names_the_unit_and_brings_its_sense() {
    let mut wire = Wire::logged_in(EAGER);
    wire.say(&ping(7, 100, b""));
    let stat_sn = wire.hear_one().stat_sn();
    wire.session.notify(resized());
    let heard = wire.hear_one();
    assert_eq!(
        (heard.opcode(), heard.head[1], heard.tag(), heard.stat_sn()),
        (0x32, 0x80, NO_TAG, stat_sn + 1)
    );
    assert_eq!(heard.head[8..16], [0, 3, 0, 0, 0, 0, 0, 0], "LUN");
    assert_eq!(heard.head[36..44], [0; 8], "event 0, no parameters");
    assert_eq!(heard.data, [&[0x00, 18][..], &RESIZED].concat());
    wire.say(&ping(8, 100, b""));
    assert_eq!(wire.hear_one().stat_sn(), stat_sn + 2);
}

/// RFC 7143 §11.9: boot firmware takes an Asynchronous Message for a breach, so an initiator that never pinged is told
/// nothing that it can do without.
#[test]
fn who_never_pinged_hears_of_no_scsi_event() {
    let mut wire = Wire::logged_in(EAGER);
    wire.session.notify(resized());
    assert!(wire.hear().is_empty() && !wire.session.is_closed());
}

/// RFC 7143 §7.4.3: nothing but answers to texts and logouts in a discovery session.
#[test]
fn a_discovery_session_is_told_nothing() {
    let mut wire = Wire::logged_in("SessionType=Discovery");
    wire.say(&ping(7, 100, b""));
    wire.hear();
    wire.session.notify(resized());
    wire.session.set_window(1);
    wire.session.set_window(64);
    wire.pass(Duration::from_secs(3_600));
    assert!(wire.hear().is_empty());
    wire.session
        .notify(AsyncNotice::DropSession { time2wait: 3 });
    assert!(wire.hear().is_empty());
    assert!(matches!(
        wire.event(),
        Some(TargetEvent::Closed(CloseReason::Local))
    ));
}

/// RFC 7143 §4.2.6, §7.5.2 and §11.9.1, events 2 and 3: which connection, when to come back, and that nothing is kept;
/// then the end.
#[test]
fn a_drop_is_announced_and_then_done() {
    // CID 7; Parameter1 is reserved when all connections are meant.
    let cases = [
        (
            AsyncNotice::DropConnection { time2wait: 5 },
            2,
            [0, 7, 0, 5, 0, 0],
        ),
        (
            AsyncNotice::DropSession { time2wait: 5 },
            3,
            [0, 0, 0, 5, 0, 0],
        ),
    ];
    for (notice, event, parameters) in cases {
        let mut wire = Wire::logged_in(EAGER);
        wire.say(&read(1, 100, 0));
        let task = wire.command().task;
        wire.session.notify(notice);
        let heard = wire.hear_one();
        assert_eq!(
            (
                heard.opcode(),
                heard.tag(),
                heard.head[36],
                &heard.head[38..44]
            ),
            (0x32, NO_TAG, event, &parameters[..])
        );
        assert!(heard.data.is_empty());
        assert!(matches!(wire.event(), Some(TargetEvent::Aborted(tasks)) if tasks == [task]));
        assert!(matches!(
            wire.event(),
            Some(TargetEvent::Closed(CloseReason::Local))
        ));
        wire.good(task);
        wire.session.notify(resized());
        assert!(wire.hear().is_empty());
        assert_eq!(wire.session.state(), ConnectionState::Free);
    }
}

/// RFC 7143 §11.9.1, event 1: an initiator that was asked to log out and did not is told that it is dropped.
#[test]
fn an_initiator_that_does_not_log_out_is_told_that_it_is_dropped() {
    let mut wire = Wire::logged_in(EAGER);
    wire.session
        .request_logout(wire.now, Duration::from_secs(10));
    let asked = wire.hear_one();
    assert_eq!((asked.opcode(), asked.head[36]), (0x32, 1));
    wire.pass(Duration::from_secs(10));
    let heard = wire.hear_one();
    assert_eq!(
        (heard.opcode(), heard.head[36], &heard.head[38..44]),
        (0x32, 2, &[0, 7, 0, 0, 0, 0][..])
    );
    assert_eq!(heard.stat_sn(), asked.stat_sn() + 1);
}

/// RFC 7143 §4.2.2.1: MaxCmdSN never goes back; a narrower window closes as commands come.
#[test]
fn a_narrower_window_keeps_what_was_promised() {
    let mut wire = Wire::logged_in(EAGER);
    wire.session.set_window(1);
    assert!(wire.hear().is_empty(), "nothing changed yet");
    for number in 0..4 {
        wire.say(&read(number, 100 + number, 0));
    }
    let tasks: Vec<_> = (0..4).map(|_| wire.command().task).collect();
    for (index, task) in tasks.into_iter().enumerate() {
        wire.good(task);
        let heard = wire.hear_one();
        let max = if index == 3 { 104 } else { 103 };
        assert_eq!((heard.word(28), heard.word(32)), (104, max));
    }
    wire.session.set_window(0);
    wire.say(&read(5, 104, 0));
    wire.command();
}

/// RFC 7143 §11.4.11: a wider window is told at once where no answer is due, or where nothing may be sent until it is.
#[test]
fn a_wider_window_is_told_where_nobody_else_tells_it() {
    let mut wire = Wire::logged_in(EAGER);
    wire.session.set_window(8);
    let heard = wire.hear_one();
    assert_eq!(
        (heard.opcode(), heard.tag(), heard.word(20), heard.word(32)),
        (0x20, NO_TAG, NO_TAG, 107)
    );
    wire.say(&read(1, 100, 0));
    let task = wire.command().task;
    wire.session.set_window(16);
    assert!(wire.hear().is_empty(), "the answer will say it");
    wire.good(task);
    assert_eq!(wire.hear_one().word(32), 116);
}

/// RFC 7143 §4.2.2.1, with RFC 1982: the numbers wrap, and a promise from before the wrap does not come back.
#[test]
fn the_window_wraps() {
    let mut wire = Wire::logged_in_at(0xffff_fffe, EAGER);
    wire.session.set_window(2);
    for number in 0..6_u32 {
        let cmd_sn = 0xffff_fffe_u32.wrapping_add(number);
        wire.say(&read(number, cmd_sn, 0));
        let task = wire.command().task;
        wire.good(task);
        let heard = wire.hear_one();
        assert_eq!(heard.word(28), cmd_sn.wrapping_add(1));
        let room = heard.word(32).wrapping_sub(heard.word(28)).wrapping_add(1);
        assert_eq!(room, if number == 0 { 3 } else { 2 });
        wire.say(&read(number, cmd_sn, 0));
        assert!(
            wire.event().is_none(),
            "a duplicate, on either side of the wrap"
        );
    }
}
