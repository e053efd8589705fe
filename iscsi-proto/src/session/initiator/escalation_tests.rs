//! A command that takes too long, and a target that will not end it.

use std::time::Duration;

use crate::session::initiator::bench::{Bench, headers};
use crate::session::initiator::pdus::{management_response, nop_in, small_params};
use crate::session::{Outcome, ProtocolError, Request, RequestId, SessionEnd, Transfer};
use crate::wire::lun::Lun;

/// Lets time pass while the target answers pings and nothing else. Gives the task management functions that are sent:
/// function and tag.
fn live(bench: &mut Bench, seconds: u64) -> Vec<(u8, u32)> {
    let mut managed = Vec::new();
    for second in 0..=seconds {
        bench.pass(Duration::from_secs(u64::from(second > 0)));
        let sent = bench.sent();
        for header in headers(&sent) {
            let tag = u32::from_be_bytes([header[16], header[17], header[18], header[19]]);
            match header[0] {
                0x40 => {
                    let stat_sn = due(bench);
                    bench.receive(nop_in(tag, 0xffff_ffff, stat_sn, 102, 110));
                }
                0x42 => managed.push((header[1], tag)),
                _ => {}
            }
        }
    }
    managed
}

/// The StatSN that is due.
fn due(bench: &mut Bench) -> u32 {
    bench.full().expect("logged in").numbers.exp_stat_sn().0
}

fn answer(bench: &mut Bench, tag: u32, response: u8) {
    let stat_sn = due(bench);
    bench.receive(management_response(tag, response, stat_sn));
}

/// A command that took too long, a younger one of the same unit, and the tag of the abort.
fn stuck() -> (Bench, RequestId, RequestId, u32) {
    let mut bench = Bench::new(small_params());
    let stuck = bench.submit(Transfer::Read(512));
    assert!(live(&mut bench, 30).is_empty());
    let younger = bench.submit(Transfer::Read(512));
    let [(0x81, abort)] = live(&mut bench, 30)[..] else {
        panic!("no abort")
    };
    (bench, stuck, younger, abort)
}

/// The tag of the reset that is to be sent within this time, and nothing else.
fn reset(bench: &mut Bench, seconds: u64) -> u32 {
    let managed = live(bench, seconds);
    let [(0x85, tag)] = managed[..] else {
        panic!("{managed:?}")
    };
    tag
}

/// RFC 7143 §11.5.1: LOGICAL UNIT RESET ends what ABORT TASK did not.
#[test]
fn where_an_abort_is_refused_the_unit_is_reset() {
    for refusal in [5, 6, 255] {
        let (mut bench, stuck, younger, abort) = stuck();
        answer(&mut bench, abort, refusal);
        let reset = reset(&mut bench, 0);
        answer(&mut bench, reset, 0);
        assert_eq!(bench.completed(), (stuck, Outcome::TimedOut));
        assert_eq!(bench.completed(), (younger, Outcome::Aborted));
        assert_eq!(bench.ended(), None);
    }
}

#[test]
fn where_an_abort_is_not_answered_the_unit_is_reset_and_a_late_answer_is_ignored() {
    let (mut bench, stuck, younger, abort) = stuck();
    let reset = reset(&mut bench, 15);
    answer(&mut bench, abort, 0);
    answer(&mut bench, reset, 0);
    assert_eq!(bench.completed(), (stuck, Outcome::TimedOut));
    assert_eq!(bench.completed(), (younger, Outcome::Aborted));
    assert_eq!(bench.ended(), None);
}

#[test]
fn where_a_reset_fails_as_well_the_session_ends() {
    for refused in [true, false] {
        let (mut bench, stuck, _, abort) = stuck();
        answer(&mut bench, abort, 5);
        let reset = reset(&mut bench, 0);
        let end = if refused {
            answer(&mut bench, reset, 5);
            SessionEnd::Protocol(ProtocolError::AbortRefused)
        } else {
            assert!(live(&mut bench, 15).is_empty());
            SessionEnd::Silent
        };
        assert_eq!(bench.completed(), (stuck, Outcome::Lapsed));
        assert_eq!(bench.ended(), Some(end));
    }
}

#[test]
fn a_command_may_have_a_time_of_its_own() {
    let mut bench = Bench::new(small_params());
    let request = Request {
        lun: Lun(0),
        cdb: [0; 16],
        transfer: Transfer::None,
    };
    let second = Some(Duration::from_secs(1));
    let now = bench.now;
    bench
        .session
        .submit_within(now, request.clone(), second)
        .expect("room");
    bench
        .session
        .submit_within(now, request, None)
        .expect("room");
    let [(0x81, abort)] = live(&mut bench, 1)[..] else {
        panic!("no abort")
    };
    answer(&mut bench, abort, 0);
    assert!(matches!(bench.completed(), (_, Outcome::TimedOut)));
    assert!(live(&mut bench, 300).is_empty());
    assert_eq!(bench.ended(), None);
}
