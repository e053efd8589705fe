//! Task management (RFC 7143 §4.2.3, §11.5 and §11.6).

use std::time::Duration;

use iscsi_proto::session::{
    CloseReason, ManagementAnswer, ManagementFunction, TargetEvent, TaskId,
};

use crate::harness::{EAGER, NO_TAG, PATIENT, Wire, data_out, manage, read, write};

fn asked(wire: &mut Wire) -> (TaskId, ManagementFunction, Vec<TaskId>) {
    match wire.event() {
        Some(TargetEvent::Management {
            task,
            function,
            affected,
            ..
        }) => (task, function, affected),
        other => panic!("task management was expected, not {other:?}"),
    }
}

fn hear_answer(wire: &mut Wire, tag: u32, code: u8) {
    let heard = wire.hear_one();
    assert_eq!(
        (heard.opcode(), heard.head[1], heard.head[2], heard.tag()),
        (0x22, 0x80, code, tag)
    );
}

/// RFC 7143 §4.2.5.4, §11.5.1 and §11.5.4: no response for a task after the answer to its abort.
#[test]
fn an_aborted_task_is_never_answered() {
    let mut wire = Wire::logged_in(EAGER);
    wire.say(&read(1, 100, 512));
    let task = wire.command().task;
    wire.say(&manage(1, 9, 101, 1, 100));
    let (management, function, affected) = asked(&mut wire);
    assert_eq!(
        (function, affected),
        (ManagementFunction::AbortTask, vec![task])
    );
    wire.good(task);
    assert!(wire.hear().is_empty());
    wire.session
        .answer_management(management, ManagementAnswer::Complete);
    hear_answer(&mut wire, 9, 0);
    wire.good(task);
    wire.session
        .answer_management(management, ManagementAnswer::Complete);
    assert!(wire.hear().is_empty());
}

/// RFC 7143 §7.11 and §11.6.1 b and c: a command that may still come counts as received.
#[test]
fn a_task_that_is_not_there() {
    let mut wire = Wire::logged_in(EAGER);
    wire.say(&read(1, 100, 0));
    let task = wire.command().task;
    wire.good(task);
    wire.hear_one();
    wire.say(&manage(1, 9, 101, 1, 100));
    hear_answer(&mut wire, 9, 1);
    // 101 was never seen and lies in the window: it counts as received now.
    wire.say(&manage(1, 10, 102, 2, 101));
    let heard = wire.hear_one();
    assert_eq!(
        (heard.opcode(), heard.head[2], heard.word(28)),
        (0x22, 0, 102)
    );
    wire.say(&read(2, 101, 0));
    assert!(
        wire.event().is_none() && wire.hear().is_empty(),
        "it came too late"
    );
    wire.say(&read(3, 102, 0));
    wire.command();
}

/// RFC 7143 §11.6.1 b: so does one that came ahead of its turn.
#[test]
fn a_command_that_waits_for_its_turn_can_be_aborted() {
    let mut wire = Wire::logged_in(EAGER);
    wire.say(&read(2, 101, 0));
    wire.say(&manage(1, 9, 102, 2, 101));
    hear_answer(&mut wire, 9, 0);
    wire.say(&read(1, 100, 0));
    wire.command();
    assert!(wire.event().is_none());
    wire.say(&read(3, 102, 0));
    wire.command();
}

/// RFC 7143 §11.5.1 and §11.6.1: TASK REASSIGN, unknown functions, the abort of a task management request.
#[test]
fn what_cannot_be_done_is_answered_honestly() {
    let mut wire = Wire::logged_in(EAGER);
    for (function, code) in [(8, 4), (9, 5), (0, 5), (127, 5)] {
        wire.say(&manage(function, 9, 100, NO_TAG, 0));
        hear_answer(&mut wire, 9, code);
    }
    wire.say(&manage(5, 9, 100, NO_TAG, 0));
    let (reset, ..) = asked(&mut wire);
    wire.say(&manage(1, 10, 100, 9, 100));
    hear_answer(&mut wire, 10, 255);
    wire.session
        .answer_management(reset, ManagementAnswer::NoLun);
    hear_answer(&mut wire, 9, 2);
}

/// RFC 7143 §4.2.3.2, §4.2.3.3 and §11.5.3 b: the tasks of the unit, once all earlier commands have come.
#[test]
fn a_task_set_is_one_unit_and_what_came_before() {
    let mut wire = Wire::logged_in(EAGER);
    wire.say(&read(1, 100, 0));
    wire.say(&read(2, 101, 0).lun(1));
    wire.say(&read(3, 103, 0));
    let (first, other) = (wire.command().task, wire.command().task);
    // 102 is missing, and the request has to wait for it.
    wire.say(&manage(2, 9, 103, NO_TAG, 0));
    assert!(wire.event().is_none());
    wire.say(&read(4, 102, 0));
    let (fourth, third) = (wire.command().task, wire.command().task);
    let (management, function, affected) = asked(&mut wire);
    assert_eq!(
        (function, affected),
        (ManagementFunction::AbortTaskSet, vec![first, fourth])
    );
    wire.session
        .answer_management(management, ManagementAnswer::Complete);
    let heard = wire.hear_one();
    assert_eq!(
        (heard.head[2], heard.word(28), heard.word(32)),
        (0, 104, 105),
        "two places are free again"
    );
    wire.good(first);
    assert!(wire.hear().is_empty());
    wire.good(third);
    wire.good(other);
    assert_eq!(wire.hear().len(), 2);
}

/// RFC 7143 §4.2.3.3 a: the answer comes after the data of all valid transfer tags.
#[test]
fn the_answer_waits_for_data_that_was_asked_for() {
    let mut wire = Wire::logged_in(PATIENT);
    wire.say(&write(1, 100, 512, true, b""));
    let task = wire.command().task;
    wire.session.receive(task, 512);
    let transfer = wire.hear_one().word(20);
    wire.say(&manage(5, 9, 101, NO_TAG, 0));
    let (management, _, affected) = asked(&mut wire);
    assert_eq!(affected, [task]);
    wire.session
        .answer_management(management, ManagementAnswer::Complete);
    assert!(wire.hear().is_empty());
    wire.say(&data_out(1, transfer, 0, 0, true, &[0; 512]));
    hear_answer(&mut wire, 9, 0);
    assert!(wire.event().is_none());
}

/// RFC 7143 §4.2.3.3 a, bounded: some initiators send nothing more for a task that they gave up.
#[test]
fn but_not_forever() {
    let mut wire = Wire::logged_in(PATIENT);
    wire.say(&write(1, 100, 512, true, b""));
    let task = wire.command().task;
    wire.session.receive(task, 512);
    let transfer = wire.hear_one().word(20);
    wire.say(&manage(4, 9, 101, NO_TAG, 0));
    let (management, ..) = asked(&mut wire);
    wire.session
        .answer_management(management, ManagementAnswer::Complete);
    assert_eq!(
        wire.session.poll_timeout(),
        Some(wire.now + Duration::from_secs(2))
    );
    wire.pass(Duration::from_secs(2));
    hear_answer(&mut wire, 9, 0);
    wire.say(&data_out(1, transfer, 0, 0, true, &[0; 512]));
    assert!(wire.hear().is_empty(), "late data is swallowed");
}

/// RFC 7143 §4.2.3.3 b and §11.6.1: target resets plug the numbers before them; a cold one ends the connections.
#[test]
fn a_warm_reset_waits_for_no_command_and_a_cold_one_ends_the_session() {
    let mut wire = Wire::logged_in(EAGER);
    wire.say(&read(1, 100, 0).lun(1));
    wire.say(&read(2, 101, 0).lun(2));
    let tasks = [wire.command().task, wire.command().task];
    wire.say(&manage(6, 9, 103, NO_TAG, 0));
    let (warm, _, affected) = asked(&mut wire);
    assert_eq!(affected, tasks);
    wire.session
        .answer_management(warm, ManagementAnswer::Complete);
    let heard = wire.hear_one();
    assert_eq!(
        (heard.head[2], heard.word(28)),
        (0, 103),
        "102 counts as received"
    );
    wire.say(&manage(7, 10, 103, NO_TAG, 0));
    let (cold, function, _) = asked(&mut wire);
    assert_eq!(function, ManagementFunction::TargetColdReset);
    wire.session
        .answer_management(cold, ManagementAnswer::Complete);
    hear_answer(&mut wire, 10, 0);
    assert!(matches!(
        wire.event(),
        Some(TargetEvent::Closed(CloseReason::Reset))
    ));
}

/// RFC 7143 §11.5.1 and §11.5.5: an immediate command is named by the number that the request itself carries.
#[test]
fn an_immediate_command_can_be_aborted() {
    let mut wire = Wire::logged_in(EAGER);
    wire.say(&read(1, 100, 512).byte(0, 0x41));
    let task = wire.command().task;
    wire.say(&manage(1, 9, 100, 1, 100));
    let (management, _, affected) = asked(&mut wire);
    assert_eq!(affected, [task]);
    wire.session
        .answer_management(management, ManagementAnswer::Complete);
    hear_answer(&mut wire, 9, 0);
}

/// RFC 7143 §11.6.1: no task for what lies outside the window, or under another unit.
#[test]
fn what_cannot_be_aborted_does_not_exist() {
    let mut wire = Wire::logged_in(EAGER);
    wire.say(&read(1, 100, 512).lun(2));
    wire.command();
    // Another unit; beyond the window; before it; not before the request itself.
    for (referenced, number) in [(1, 100), (5, 200), (5, 99), (5, 101)] {
        wire.say(&manage(1, 9, 101, referenced, number));
        hear_answer(&mut wire, 9, 1);
    }
    assert!(wire.event().is_none());
}

/// RFC 7143 §11.5.1: resets take later commands along, too; CLEAR ACA takes none.
#[test]
fn a_reset_takes_what_came_after_it_and_clear_aca_takes_nothing() {
    let mut wire = Wire::logged_in(EAGER);
    wire.say(&read(1, 100, 0));
    wire.say(&read(2, 101, 0));
    let tasks = [wire.command().task, wire.command().task];
    wire.say(&manage(3, 8, 102, NO_TAG, 0));
    let (aca, _, affected) = asked(&mut wire);
    assert!(affected.is_empty());
    wire.session
        .answer_management(aca, ManagementAnswer::Unsupported);
    hear_answer(&mut wire, 8, 5);
    // Its number says that it was sent before the second command.
    wire.say(&manage(5, 9, 101, NO_TAG, 0));
    let (reset, function, affected) = asked(&mut wire);
    assert_eq!(function, ManagementFunction::LogicalUnitReset);
    assert_eq!(affected, tasks);
    wire.session
        .answer_management(reset, ManagementAnswer::Complete);
    hear_answer(&mut wire, 9, 0);
}

/// RFC 7143 §4.2.2.1: a request that is not immediate has its turn, and its place.
#[test]
fn a_numbered_request_has_its_turn() {
    let mut wire = Wire::logged_in(EAGER);
    wire.say(&manage(2, 9, 101, NO_TAG, 0).byte(0, 0x02));
    assert!(wire.event().is_none());
    wire.say(&read(1, 100, 0));
    let task = wire.command().task;
    let (management, _, affected) = asked(&mut wire);
    assert_eq!(affected, [task]);
    wire.session
        .answer_management(management, ManagementAnswer::Complete);
    let heard = wire.hear_one();
    assert_eq!((heard.word(28), heard.word(32)), (102, 105));
}

/// RFC 7143 §11.5.1: a cold reset is answered as far as that is possible, and then every connection ends; one that was
/// refused ends none.
#[test]
fn only_a_cold_reset_that_was_done_ends_the_connection() {
    let mut wire = Wire::logged_in(PATIENT);
    wire.say(&write(1, 100, 512, true, b""));
    let task = wire.command().task;
    wire.session.receive(task, 512);
    wire.hear_one();
    wire.say(&manage(7, 9, 101, NO_TAG, 0));
    let (refused, ..) = asked(&mut wire);
    wire.session
        .answer_management(refused, ManagementAnswer::Unauthorized);
    assert!(wire.hear().is_empty(), "the data is still awaited");
    wire.pass(Duration::from_secs(2));
    hear_answer(&mut wire, 9, 6);
    assert!(!wire.session.is_closed());
    wire.say(&read(2, 101, 0));
    wire.command();
    wire.say(&manage(7, 10, 102, NO_TAG, 0));
    let (done, ..) = asked(&mut wire);
    wire.session
        .answer_management(done, ManagementAnswer::Complete);
    hear_answer(&mut wire, 10, 0);
    assert!(wire.session.is_closed());
}

/// RFC 7143 §4.2.3.3 a: an initiator that uses a tag again has sent everything for the old task, so that nobody waits
/// for it any longer.
#[test]
fn a_tag_that_is_used_again_ends_the_wait() {
    let mut wire = Wire::logged_in(PATIENT);
    wire.say(&write(1, 100, 512, true, b""));
    let task = wire.command().task;
    wire.session.receive(task, 512);
    wire.hear_one();
    wire.say(&manage(2, 9, 101, NO_TAG, 0));
    let (management, ..) = asked(&mut wire);
    wire.session
        .answer_management(management, ManagementAnswer::Complete);
    assert!(wire.hear().is_empty());
    wire.say(&read(1, 101, 0));
    hear_answer(&mut wire, 9, 0);
    wire.command();
}
