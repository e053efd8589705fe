//! What the standard says about the PDUs of a target themselves: order, numbers, lengths, reserved fields.

use std::time::Duration;

use bytes::Bytes;
use iscsi_proto::scsi::Status;
use iscsi_proto::session::{ManagementAnswer, Response, TargetEvent};

use crate::harness::{
    EAGER, NO_TAG, PATIENT, Say, Wire, data_out, manage, ping, read, text, write,
};

/// RFC 7143 §4.2.2.3.2, §4.2.2.3.3 and §4.2.2.3.4: with one connection every response is fenced, since responses leave
/// in the order in which they were given; that of task management among them.
#[test]
fn responses_leave_in_the_order_in_which_they_were_given() {
    let mut wire = Wire::logged_in(EAGER);
    for number in 0..3 {
        wire.say(&read(1 + number, 100 + number, 0).lun(u8::try_from(number).unwrap()));
    }
    let tasks: Vec<_> = (0..3).map(|_| wire.command().task).collect();
    wire.say(&manage(5, 9, 103, NO_TAG, 0));
    let Some(TargetEvent::Management { task, .. }) = wire.event() else {
        panic!("no task management")
    };
    let sense = Bytes::from_static(&[
        0x70, 0, 0x06, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x2f, 0x00, 0, 0, 0, 0,
    ]);
    wire.good(tasks[2]);
    wire.session
        .answer_management(task, ManagementAnswer::Complete);
    wire.session
        .complete(tasks[1], Response::check_condition(sense));
    let heard = wire.hear();
    let order: Vec<_> = heard.iter().map(|pdu| (pdu.opcode(), pdu.tag())).collect();
    assert_eq!(order, [(0x21, 3), (0x22, 9), (0x21, 2)]);
    let first = heard[0].stat_sn();
    let numbers: Vec<_> = heard.iter().map(|pdu| pdu.stat_sn() - first).collect();
    assert_eq!(numbers, [0, 1, 2]);
}

/// RFC 7143 §4.2.2.4, §11.8.2 and §A.3.3: R2Ts and Data-In PDUs of a bidirectional command share one sequence.
#[test]
fn both_directions_count_as_one() {
    let mut wire = Wire::logged_in(PATIENT);
    let mut bytes = read(1, 100, 512).byte(1, 0xe1).byte(4, 2).bytes();
    bytes.extend_from_slice(&[0x00, 0x05, 0x02, 0x00, 0x00, 0x00, 0x10, 0x00]);
    wire.say_bytes(&bytes);
    let task = wire.command().task;
    wire.session.receive(task, 512);
    let r2t = wire.hear_one();
    assert_eq!((r2t.opcode(), r2t.word(36)), (0x31, 0), "R2TSN");
    wire.say(&data_out(1, r2t.word(20), 0, 0, true, &[7; 512]));
    assert_eq!(wire.data_ready().0, task);
    let response = Response {
        data: vec![Bytes::from_static(&[0x5a; 4096])],
        transfer_length: 512,
        ..Response::good()
    };
    wire.session.complete(task, response);
    let heard = wire.hear();
    let numbers: Vec<_> = heard[..2].iter().map(|pdu| pdu.word(36)).collect();
    assert_eq!(numbers, [1, 2], "DataSN goes on");
    let last = &heard[2];
    assert_eq!(
        (last.opcode(), last.word(36)),
        (0x21, 2),
        "ExpDataSN: the Data-In PDUs"
    );
}

/// RFC 7143 §11.6.2, §11.8.1 and §11.15.2: neither additional header segments nor data.
#[test]
fn pdus_without_data_say_so() {
    let mut wire = Wire::logged_in(PATIENT);
    wire.say(&write(1, 100, 512, true, b""));
    let task = wire.command().task;
    wire.session.receive(task, 512);
    let r2t = wire.hear_one();
    assert_eq!((r2t.opcode(), &r2t.head[4..8]), (0x31, &[0; 4][..]));
    wire.say(&manage(8, 9, 101, 1, 100));
    let answer = wire.hear_one();
    assert_eq!((answer.opcode(), &answer.head[4..8]), (0x22, &[0; 4][..]));
    wire.say(&Say::new(0x46, 0x80, 5).cmd_sn(101));
    let logout = wire.hear_one();
    assert_eq!((logout.opcode(), &logout.head[4..8]), (0x26, &[0; 4][..]));
}

/// RFC 7143 §11.15.3 and §11.15.4: when to come back is what was agreed upon, and nothing is kept until then.
#[test]
fn a_logout_promises_to_keep_nothing() {
    for (reason, cid, code) in [(0, 0, 0), (1, 7, 0), (1, 8, 1), (2, 7, 2)] {
        let mut wire = Wire::logged_in("DefaultTime2Wait=3|DefaultTime2Retain=9");
        wire.say(&Say::new(0x46, 0x80 | reason, 9).cmd_sn(100).byte(21, cid));
        let heard = wire.hear_one();
        assert_eq!((heard.opcode(), heard.head[2]), (0x26, code));
        assert_eq!(heard.head[40..44], [0, 3, 0, 0], "Time2Wait, Time2Retain");
    }
}

/// RFC 7143 §11.19.2: a ping of the target shows the next StatSN, and does not take it.
#[test]
fn a_ping_of_the_target_takes_no_number() {
    let mut wire = Wire::logged_in(EAGER);
    wire.say(&ping(7, 100, b""));
    let next = wire.hear_one().stat_sn() + 1;
    for _ in 0..2 {
        wire.pass(Duration::from_secs(15));
        let asked = wire.hear_one();
        assert_eq!(
            (asked.opcode(), asked.tag(), asked.stat_sn()),
            (0x20, NO_TAG, next)
        );
        wire.say(&ping(NO_TAG, 100, b"").word(20, asked.word(20)));
    }
    wire.say(&ping(8, 100, b""));
    assert_eq!(wire.hear_one().stat_sn(), next);
}

/// RFC 7143 §11.11.5: each Text Response takes a StatSN.
#[test]
fn every_text_response_takes_a_number() {
    let mut wire = Wire::logged_in(EAGER);
    wire.say(&text(3, 100, NO_TAG, 0x00, b""));
    let first = wire.hear_one();
    wire.say(&text(3, 101, first.word(20), 0x80, b"X-org.example=1\0"));
    let second = wire.hear_one();
    assert_eq!(
        (first.opcode(), second.opcode(), second.stat_sn()),
        (0x24, 0x24, first.stat_sn() + 1)
    );
}

/// RFC 7143 §7.3 and §11.17.1: a Reject ends no task that is under way; a response does.
#[test]
fn a_reject_ends_no_task() {
    let mut wire = Wire::logged_in(PATIENT);
    wire.say(&write(1, 100, 1_024, true, b""));
    let task = wire.command().task;
    wire.session.receive(task, 1_024);
    let transfer = wire.hear_one().word(20);
    let stray = data_out(1, transfer, 0, 512, false, &[7; 512]);
    wire.say(&stray);
    wire.hear_reject(0x09, &stray);
    wire.say(&data_out(1, transfer, 1, 512, true, &[7; 512]));
    let heard = wire.hear_one();
    assert_eq!(
        (heard.opcode(), heard.head[3], heard.tag()),
        (0x21, 0x02, 1),
        "CHECK CONDITION"
    );
}

/// RFC 7143 §11.2.2.3 and §11.3.5: an additional segment with the rest of a long CDB is taken off the stream, and the
/// sixteen bytes of the header are what there is of the command.
#[test]
fn a_long_cdb_arrives_with_its_first_sixteen_bytes() {
    let mut wire = Wire::logged_in(EAGER);
    // Variable length CDB of 32 bytes, operation code 7Fh; length 32 - 15, type 1, reserved, 16 bytes, no padding.
    let mut bytes = read(1, 100, 0)
        .byte(4, 5)
        .byte(32, 0x7f)
        .byte(39, 24)
        .bytes();
    bytes.extend_from_slice(&[0x00, 0x11, 0x01, 0x00]);
    bytes.extend_from_slice(&[0xee; 16]);
    wire.say_bytes(&bytes);
    let command = wire.command();
    assert_eq!(
        (command.cdb[0], command.cdb[7], command.cdb[15]),
        (0x7f, 24, 0)
    );
    wire.session
        .complete(command.task, Response::status(Status(0x02)));
    assert_eq!(wire.hear_one().head[3], 0x02);
    wire.say(&read(2, 101, 0));
    wire.command();
}

/// RFC 7143 §11.2.2.1: a segment of a reserved type is an error of the protocol, and the command is not carried out.
#[test]
fn an_additional_segment_of_a_reserved_type_is_refused() {
    let mut wire = Wire::logged_in(EAGER);
    let command = read(1, 100, 0).byte(4, 2);
    let mut bytes = command.bytes();
    bytes.extend_from_slice(&[0x00, 0x05, 0x3f, 0x00, 1, 2, 3, 4]);
    wire.say_bytes(&bytes);
    wire.hear_reject(0x04, &command);
    assert!(wire.event().is_none());
}
