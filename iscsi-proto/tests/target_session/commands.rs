//! Data-In, status, residuals (RFC 7143 §11.4 and §11.7).

use bytes::Bytes;
use iscsi_proto::scsi::Status;
use iscsi_proto::session::{Response, TargetConfig, TaskAttribute};

use crate::harness::{EAGER, PATIENT, Wire, config, manage, read, write};

static BLOCKS: [u8; 10_000] = [0x5a; 10_000];

/// RFC 7143 §4.2.2.4, §11.7, §11.7.1, §11.7.3 and §11.7.5: PDUs no longer than MaxRecvDataSegmentLength, sequences no
/// longer than MaxBurstLength, DataSN from 0, the status in the last.
#[test]
fn read_data_is_cut_to_segments_and_bursts_and_ends_with_the_status() {
    let mut wire = Wire::logged_in(EAGER);
    wire.say(&read(9, 100, 10_000).lun(3));
    let command = wire.command();
    assert_eq!(
        (command.lun.number(), command.attribute),
        (Some(3), TaskAttribute::Simple)
    );
    assert!(command.reads && !command.writes);
    wire.read(command.task, &BLOCKS);
    let heard = wire.hear();
    let shape: Vec<_> = heard
        .iter()
        .map(|pdu| (pdu.head[1], pdu.word(36), pdu.word(40), pdu.data.len()))
        .collect();
    assert_eq!(
        shape,
        [
            (0x00, 0, 0, 2048),
            (0x00, 1, 2048, 2048),
            (0x00, 2, 4096, 2048),
            (0x80, 3, 6144, 2048),
            (0x81, 4, 8192, 1808),
        ],
        "flags, DataSN, buffer offset, length"
    );
    assert!(
        heard
            .iter()
            .all(|pdu| pdu.opcode() == 0x25 && pdu.tag() == 9 && pdu.word(20) == 0xffff_ffff)
    );
    let last = &heard[4];
    assert_eq!(
        (last.head[3], last.word(44)),
        (0x00, 0),
        "GOOD, no residual"
    );
    assert_eq!((last.word(28), last.word(32)), (101, 104));
}

/// RFC 7143 §11.4.5.2: overflow and underflow of what is read.
#[test]
fn residuals_of_reads() {
    // Bytes expected, bytes there, bytes sent, flags of the PDU with the status, residual.
    let cases = [
        (512, 512, 512, 0x81, 0),
        (512, 1024, 512, 0x85, 512),
        (1024, 512, 512, 0x83, 512),
    ];
    for (expected, there, sent, flags, residual) in cases {
        let mut wire = Wire::logged_in(EAGER);
        wire.say(&read(1, 100, expected));
        let task = wire.command().task;
        wire.read(task, &BLOCKS[..there]);
        let heard = wire.hear_one();
        assert_eq!(
            (heard.data.len(), heard.head[1], heard.word(44)),
            (sent, flags, residual)
        );
    }
}

/// RFC 7143 §11.4.5.2: residuals count what the command moves, whatever its direction.
#[test]
fn residuals_without_data() {
    // Flags of the command, bytes expected, bytes that the command moves, flags of the response, residual.
    let cases = [
        (0xc1, 0, 1024, 0x84, 1024),
        (0xc1, 1024, 0, 0x82, 1024),
        (0x81, 512, 512, 0x80, 0),
        (0xa1, 0, 512, 0x84, 512),
        (0xa1, 512, 0, 0x82, 512),
        (0xa1, 512, 1024, 0x84, 512),
    ];
    for (flags, expected, moved, answer, residual) in cases {
        let mut wire = Wire::logged_in(EAGER);
        wire.say(&read(1, 100, expected).byte(1, flags));
        let task = wire.command().task;
        wire.session.complete(task, Response::written(moved));
        let heard = wire.hear_one();
        assert_eq!(
            (heard.opcode(), heard.head[1], heard.word(44)),
            (0x21, answer, residual),
            "{flags:02x}"
        );
    }
}

/// RFC 7143 §11.4.5.2: no data in a direction that the initiator did not announce.
#[test]
fn a_read_command_marked_as_write_gets_no_data_but_a_residual() {
    let mut wire = Wire::logged_in(PATIENT);
    wire.say(&write(1, 100, 512, true, b""));
    let task = wire.command().task;
    wire.read(task, &BLOCKS[..1024]);
    let heard = wire.hear_one();
    assert_eq!(
        (heard.opcode(), heard.head[1], heard.word(44)),
        (0x21, 0x84, 512)
    );
}

/// RFC 7143 §10.2, §11.4.7, §11.4.7.1, §11.4.8 and §11.7.3: sense data behind its length, never in a Data-In PDU.
#[test]
fn sense_goes_into_a_response_of_its_own() {
    let mut wire = Wire::logged_in(EAGER);
    wire.say(&read(1, 100, 1024));
    let task = wire.command().task;
    let sense = Bytes::from_static(&[
        0x70, 0, 0x03, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x11, 0x00, 0, 0, 0, 0,
    ]);
    let data = vec![Bytes::from_static(&BLOCKS[..512])];
    let response = Response {
        status: Status(0x02),
        sense: Some(sense.clone()),
        data,
        transfer_length: 512,
    };
    wire.session.complete(task, response);
    let heard = wire.hear();
    assert_eq!(
        (heard.len(), heard[0].opcode(), heard[0].head[1]),
        (2, 0x25, 0x80),
        "no status in the Data-In"
    );
    let response = &heard[1];
    assert_eq!(
        (response.opcode(), response.head[1], response.head[3]),
        (0x21, 0x82, 0x02)
    );
    assert_eq!(
        (response.word(36), response.word(44)),
        (1, 512),
        "ExpDataSN, residual"
    );
    assert_eq!(response.data, [&[0x00, 0x12][..], &sense].concat());
}

/// RFC 7143 §11.4: one response for each command.
#[test]
fn an_answer_is_given_once() {
    let mut wire = Wire::logged_in(EAGER);
    wire.say(&read(1, 100, 0));
    let task = wire.command().task;
    wire.session.complete(task, Response::status(Status(0x28)));
    assert_eq!(wire.hear_one().head[3], 0x28);
    wire.good(task);
    assert!(wire.hear().is_empty());
    wire.say(&read(1, 101, 0));
    wire.good(task);
    assert!(
        wire.hear().is_empty(),
        "the tag is the same, the task is not"
    );
}

/// RFC 7143 §11.2.2.4, §11.4.1, §11.4.5.1 and §11.4.6: a residual for each direction, the status in a response of its
/// own.
#[test]
fn a_bidirectional_command_reports_both_residuals() {
    let mut wire = Wire::logged_in(EAGER);
    let mut bytes = read(1, 100, 512).byte(1, 0xe1).byte(4, 2).bytes();
    // Length 5, type 2, reserved, read length 2048.
    bytes.extend_from_slice(&[0x00, 0x05, 0x02, 0x00, 0x00, 0x00, 0x08, 0x00]);
    wire.say_bytes(&bytes);
    let command = wire.command();
    assert!(command.reads && command.writes);
    let data = vec![Bytes::from_static(&BLOCKS[..1024])];
    wire.session.complete(
        command.task,
        Response {
            data,
            transfer_length: 512,
            ..Response::good()
        },
    );
    let heard = wire.hear();
    assert_eq!(
        (heard[0].opcode(), heard[0].head[1], heard[0].data.len()),
        (0x25, 0x80, 1024)
    );
    let response = &heard[1];
    assert_eq!(
        (response.opcode(), response.head[1]),
        (0x21, 0x88),
        "bidirectional underflow"
    );
    assert_eq!((response.word(40), response.word(44)), (1024, 0));
}

/// RFC 7143 §11.3.1 and SAM-5 §8.6: ORDERED begins after everything older of its unit, and before everything newer.
#[test]
fn an_ordered_command_waits_for_the_older_and_holds_up_the_newer() {
    let config = TargetConfig {
        queue_depth: 16,
        ..config()
    };
    let mut wire = Wire::logged_in_with(config, EAGER);
    let with = |tag: u32, attribute: u8| read(tag, 99 + tag, 0).byte(1, 0xc0 | attribute);
    wire.say(&with(1, 1));
    wire.say(&with(2, 2));
    wire.say(&with(3, 0));
    wire.say(&with(4, 1).lun(1));
    wire.say(&with(5, 3));
    let (first, other, head) = (wire.command(), wire.command(), wire.command());
    assert_eq!(other.lun.number(), Some(1), "another unit, another order");
    assert_eq!(head.attribute, TaskAttribute::HeadOfQueue);
    assert!(wire.event().is_none());
    wire.good(first.task);
    let ordered = wire.command();
    assert_eq!(ordered.attribute, TaskAttribute::Ordered);
    wire.good(ordered.task);
    let third = wire.command();
    assert_eq!(third.attribute, TaskAttribute::Untagged);
    wire.say(&with(6, 1));
    assert!(
        wire.event().is_none(),
        "the head of the queue is under way and came before it"
    );
    wire.good(head.task);
    let sixth = wire.command();
    for task in [third.task, sixth.task, other.task] {
        wire.good(task);
    }
    let tags: Vec<u32> = wire.hear().iter().map(|heard| heard.tag()).collect();
    assert_eq!(tags, [1, 2, 5, 3, 6, 4]);
}

/// RFC 7143 §11.5.1: what ends a command that others wait for, answer or abort, lets them begin; a command that waits
/// can be aborted as if it were under way.
#[test]
fn an_aborted_command_holds_up_nobody() {
    let mut wire = Wire::logged_in(EAGER);
    wire.say(&read(1, 100, 0));
    wire.say(&read(2, 101, 0).byte(1, 0xc2));
    wire.say(&read(3, 102, 0));
    wire.command();
    wire.say(&manage(1, 9, 103, 2, 101));
    assert_eq!(
        (wire.hear_one().opcode(), wire.command().expected_length),
        (0x22, 0)
    );
    wire.say(&read(4, 103, 0).byte(1, 0xc2));
    assert!(wire.event().is_none());
    assert_eq!(wire.session.purge(None).len(), 2);
    assert!(wire.event().is_none(), "it went with the others");
    wire.say(&read(5, 104, 0).byte(1, 0xc2));
    wire.command();
}

/// RFC 7143 §11.3.1: ACA without the condition is an error of the command, a reserved attribute one of the protocol.
#[test]
fn attributes_that_cannot_be_honoured_are_refused() {
    let mut wire = Wire::logged_in(EAGER);
    wire.say(&read(1, 100, 0).byte(1, 0xc4));
    wire.hear_sense(1, 0x05, 0x49, 0x00);
    for (number, attribute) in [(101, 5), (102, 6), (103, 7)] {
        let reserved = read(2, number, 0).byte(1, 0xc0 | attribute);
        wire.say(&reserved);
        wire.hear_reject(0x04, &reserved);
    }
    assert!(wire.event().is_none());
}
