//! Write data: immediate, unsolicited, asked for; and everything that can be wrong with it (RFC 7143 §4.2.5.2,
//! §7.8, §11.4.7.2, §11.7 and §11.8).

use iscsi_proto::session::{SessionLimits, TargetEvent};

use crate::harness::{EAGER, NO_TAG, PATIENT, Wire, data_out, manage, write};

fn bytes(range: std::ops::Range<usize>) -> Vec<u8> {
    range.map(|at| u8::try_from(at % 251).unwrap()).collect()
}

/// RFC 7143 §4.2.5.2 and §11.3.6: data in the command itself.
#[test]
fn immediate_data_is_there_at_once() {
    let mut wire = Wire::logged_in(EAGER);
    wire.say(&write(1, 100, 600, true, &bytes(0..600)));
    let task = wire.command().task;
    wire.session.receive(task, 600);
    assert_eq!(wire.data_ready(), (task, bytes(0..600)));
    wire.good(task);
    assert_eq!(wire.hear_one().head[3], 0x00);
}

/// RFC 7143 §4.2.2.4, §4.2.5.2, §11.7, §11.7.5, §11.8, §11.8.2 and §11.8.5: three kinds of data, one order.
#[test]
fn immediate_then_unsolicited_then_asked_for() {
    let mut wire = Wire::logged_in(EAGER);
    wire.say(&write(1, 100, 14_000, false, &bytes(0..1_000)).lun(2));
    let task = wire.command().task;
    wire.session.receive(task, 14_000);
    assert!(wire.hear().is_empty(), "unsolicited data is on its way");
    wire.say(&data_out(1, NO_TAG, 0, 1_000, false, &bytes(1_000..3_000)));
    wire.say(&data_out(1, NO_TAG, 1, 3_000, true, &bytes(3_000..4_096)));
    let r2t = wire.hear_one();
    assert_eq!(
        (r2t.opcode(), r2t.head[1], r2t.head[9]),
        (0x31, 0x80, 2),
        "final bit and LUN"
    );
    assert_eq!(
        (r2t.word(36), r2t.word(40), r2t.word(44)),
        (0, 4_096, 8_192),
        "R2TSN, offset, length"
    );
    assert_ne!(r2t.word(20), NO_TAG);
    let transfer = r2t.word(20);
    wire.say(&data_out(1, transfer, 0, 4_096, false, &bytes(4_096..12_000)).lun(2));
    wire.say(&data_out(1, transfer, 1, 12_000, true, &bytes(12_000..12_288)).lun(2));
    let r2t = wire.hear_one();
    assert_eq!(
        (r2t.word(36), r2t.word(40), r2t.word(44)),
        (1, 12_288, 1_712)
    );
    assert_ne!(r2t.word(20), transfer);
    wire.say(&data_out(1, r2t.word(20), 0, 12_288, true, &bytes(12_288..14_000)).lun(2));
    assert_eq!(wire.data_ready(), (task, bytes(0..14_000)));
}

/// RFC 7143 §13.17 and §11.8.4: MaxOutstandingR2T of them, each no longer than MaxBurstLength.
#[test]
fn as_many_r2ts_as_agreed_upon() {
    let mut wire = Wire::logged_in(PATIENT);
    wire.say(&write(1, 100, 40_000, true, b""));
    let task = wire.command().task;
    wire.session.receive(task, 30_000);
    let r2ts = wire.hear();
    assert_eq!(
        r2ts.iter()
            .map(|r2t| (r2t.word(40), r2t.word(44)))
            .collect::<Vec<_>>(),
        [(0, 8192), (8192, 8192)]
    );
    wire.say(&data_out(1, r2ts[0].word(20), 0, 0, true, &bytes(0..8192)));
    assert_eq!(wire.hear_one().word(40), 16_384);
    wire.say(&data_out(
        1,
        r2ts[1].word(20),
        0,
        8192,
        true,
        &bytes(8192..16_384),
    ));
    let last = wire.hear_one();
    assert_eq!(
        (last.word(40), last.word(44)),
        (24_576, 5_424),
        "no more than was asked for"
    );
}

/// RFC 7143 §11.4.2 and §11.4.3: no response before the final bit of the data that is on its way.
#[test]
fn a_command_that_failed_early_still_waits_for_its_data() {
    let mut wire = Wire::logged_in(EAGER);
    wire.say(&write(1, 100, 4_096, false, b""));
    let task = wire.command().task;
    wire.session.complete(
        task,
        iscsi_proto::session::Response::status(iscsi_proto::scsi::Status(0x18)),
    );
    assert!(wire.hear().is_empty());
    wire.say(&data_out(1, NO_TAG, 0, 0, false, &bytes(0..2_048)));
    assert!(wire.hear().is_empty());
    wire.say(&data_out(1, NO_TAG, 1, 2_048, true, &bytes(2_048..4_096)));
    assert_eq!(wire.hear_one().head[3], 0x18);
}

/// RFC 7143 §4.2.5.2 and §11.4.7.2: FirstBurstLength exactly, or all there is.
#[test]
fn unsolicited_data_has_to_be_all_or_the_first_burst() {
    let mut wire = Wire::logged_in(EAGER);
    wire.say(&write(1, 100, 8_192, false, b""));
    let task = wire.command().task;
    wire.say(&data_out(1, NO_TAG, 0, 0, true, &bytes(0..2_048)));
    wire.hear_sense(1, 0x0b, 0x0c, 0x0d);
    assert!(matches!(wire.event(), Some(TargetEvent::Aborted(tasks)) if tasks == [task]));
    wire.say(&write(2, 101, 8_192, true, &bytes(0..4_097)));
    wire.hear_sense(2, 0x0b, 0x0c, 0x0d);
    assert!(wire.event().is_none(), "the driver never heard of it");
}

/// RFC 7143 §11.4.7.2: unexpected unsolicited data.
#[test]
fn unsolicited_data_where_none_is_allowed() {
    let mut wire = Wire::logged_in(PATIENT);
    wire.say(&write(1, 100, 512, true, &bytes(0..512)));
    wire.hear_sense(1, 0x0b, 0x0c, 0x0c);
    wire.say(&write(2, 101, 8_192, false, b""));
    assert!(
        wire.hear().is_empty(),
        "what was announced has to come first"
    );
    wire.say(&data_out(2, NO_TAG, 0, 0, false, &bytes(0..4_096)));
    wire.say(&data_out(2, NO_TAG, 1, 4_096, true, &bytes(4_096..8_192)));
    wire.hear_sense(2, 0x0b, 0x0c, 0x0c);
    assert!(wire.event().is_none());
}

/// RFC 7143 §11.7.6 and §11.17.1, note 2: a wrong buffer offset.
#[test]
fn data_beside_its_place_is_rejected_and_the_answer_waits_for_the_final_bit() {
    let mut wire = Wire::logged_in(PATIENT);
    wire.say(&write(1, 100, 8_192, true, b""));
    let task = wire.command().task;
    wire.session.receive(task, 8_192);
    let transfer = wire.hear_one().word(20);
    let stray = data_out(1, transfer, 0, 4, false, &bytes(0..100));
    wire.say(&stray);
    wire.hear_reject(0x09, &stray);
    wire.say(&data_out(1, transfer, 1, 104, true, &bytes(0..100)));
    wire.hear_sense(1, 0x0b, 0x0c, 0x0d);
    assert!(matches!(wire.event(), Some(TargetEvent::Aborted(tasks)) if tasks == [task]));
}

/// RFC 7143 §11.17.1, note 2: a wrong transfer tag.
#[test]
fn an_unknown_transfer_tag_is_rejected_and_harms_nobody() {
    let mut wire = Wire::logged_in(PATIENT);
    wire.say(&write(1, 100, 512, true, b""));
    let task = wire.command().task;
    wire.session.receive(task, 512);
    let transfer = wire.hear_one().word(20);
    let stray = data_out(1, transfer + 1, 0, 0, true, &bytes(0..512));
    wire.say(&stray);
    wire.hear_reject(0x09, &stray);
    wire.say(&data_out(1, transfer, 0, 0, true, &bytes(0..512)));
    assert_eq!(wire.data_ready(), (task, bytes(0..512)));
}

/// RFC 7143 §7.9: a gap in DataSN is a lost PDU.
#[test]
fn a_lost_data_pdu_is_a_crc_error() {
    let mut wire = Wire::logged_in(PATIENT);
    wire.say(&write(1, 100, 8_192, true, b""));
    let task = wire.command().task;
    wire.session.receive(task, 8_192);
    let transfer = wire.hear_one().word(20);
    wire.say(&data_out(1, transfer, 1, 4_096, true, &bytes(4_096..8_192)));
    wire.hear_sense(1, 0x0b, 0x47, 0x05);
}

/// RFC 7143 §11.4.7.2: incorrect amount of data.
#[test]
fn too_little_data_for_an_r2t() {
    let mut wire = Wire::logged_in(PATIENT);
    wire.say(&write(1, 100, 512, true, b""));
    let task = wire.command().task;
    wire.session.receive(task, 512);
    let transfer = wire.hear_one().word(20);
    wire.say(&data_out(1, transfer, 0, 0, true, &bytes(0..511)));
    wire.hear_sense(1, 0x0b, 0x0c, 0x0d);
    wire.good(task);
    assert!(wire.hear().is_empty());
}

/// RFC 7143 §11.8: the target asks when it is ready.
#[test]
fn memory_for_write_data_is_limited_but_the_oldest_command_goes_on() {
    let limits = SessionLimits {
        write_bytes: 10_000,
        ..SessionLimits::default()
    };
    let mut wire = Wire::limited(limits, PATIENT);
    wire.say(&write(1, 100, 20_000, true, b""));
    wire.say(&write(2, 101, 8_192, true, b""));
    let (first, second) = (wire.command().task, wire.command().task);
    wire.session.receive(first, 20_000);
    let r2ts = wire.hear();
    assert_eq!(
        r2ts.iter()
            .map(|r2t| (r2t.tag(), r2t.word(40)))
            .collect::<Vec<_>>(),
        [(1, 0), (1, 8_192)]
    );
    wire.session.receive(second, 8_192);
    assert!(wire.hear().is_empty(), "no memory for it");
    wire.say(&data_out(1, r2ts[0].word(20), 0, 0, true, &bytes(0..8_192)));
    let third = wire.hear_one();
    assert_eq!((third.tag(), third.word(40)), (1, 16_384));
    wire.say(&data_out(
        1,
        r2ts[1].word(20),
        0,
        8_192,
        true,
        &bytes(8_192..16_384),
    ));
    wire.say(&data_out(
        1,
        third.word(20),
        0,
        16_384,
        true,
        &bytes(16_384..20_000),
    ));
    assert_eq!(wire.data_ready().0, first);
    wire.good(first);
    let heard = wire.hear();
    assert!(
        heard
            .iter()
            .any(|pdu| pdu.opcode() == 0x31 && pdu.tag() == 2),
        "{heard:02x?}"
    );
}

/// RFC 7143 §11.8: an abort makes room.
#[test]
fn memory_that_an_abort_frees_goes_to_those_who_wait_for_it() {
    let limits = SessionLimits {
        write_bytes: 8_192,
        ..SessionLimits::default()
    };
    let mut wire = Wire::limited(limits, PATIENT);
    wire.say(&write(1, 100, 8_192, true, b""));
    wire.say(&write(2, 101, 8_192, true, b""));
    let (first, second) = (wire.command().task, wire.command().task);
    wire.session.receive(first, 8_192);
    assert_eq!(wire.hear_one().tag(), 1);
    wire.session.receive(second, 8_192);
    assert!(wire.hear().is_empty(), "no memory for it");
    wire.say(&manage(1, 9, 102, 1, 100));
    let r2t = wire.hear_one();
    assert_eq!((r2t.opcode(), r2t.tag(), r2t.word(44)), (0x31, 2, 8_192));
}

/// RFC 7143 §4.2.5.3, §11.7.4 and §11.17.1, note 2: the unit has to be that of the R2T.
#[test]
fn data_for_another_unit_is_rejected_and_fails_the_command() {
    let mut wire = Wire::logged_in(PATIENT);
    wire.say(&write(1, 100, 512, true, b"").lun(2));
    let task = wire.command().task;
    wire.session.receive(task, 512);
    let transfer = wire.hear_one().word(20);
    let stray = data_out(1, transfer, 0, 0, true, &bytes(0..512)).lun(3);
    wire.say(&stray);
    let heard = wire.hear();
    assert_eq!(heard.len(), 2, "{heard:02x?}");
    assert_eq!((heard[0].opcode(), heard[0].head[2]), (0x3f, 0x09));
    assert_eq!((heard[1].opcode(), heard[1].head[3]), (0x21, 0x02));
}

/// RFC 7143 §11.3.4: an expected length of 0 with W set: there is nothing to ask for, and nothing may come.
#[test]
fn a_write_of_nothing() {
    let mut wire = Wire::logged_in(EAGER);
    wire.say(&write(1, 100, 0, true, b""));
    let task = wire.command().task;
    wire.session.receive(task, 512);
    assert_eq!(wire.data_ready(), (task, Vec::new()));
    wire.session
        .complete(task, iscsi_proto::session::Response::written(512));
    let heard = wire.hear_one();
    assert_eq!(
        (heard.opcode(), heard.head[1], heard.word(44)),
        (0x21, 0x84, 512),
        "overflow: the command moves more than the initiator has room for"
    );
    wire.say(&write(2, 101, 0, true, &bytes(0..4)));
    wire.hear_sense(2, 0x0b, 0x0c, 0x0c);
    assert!(wire.event().is_none());
}

/// RFC 7143 §11.4.7.2: more unsolicited Data-Out than FirstBurstLength; the answer waits for the final bit (§7.8).
#[test]
fn more_unsolicited_data_than_the_first_burst() {
    let mut wire = Wire::logged_in(EAGER);
    wire.say(&write(1, 100, 8_192, false, b""));
    let task = wire.command().task;
    wire.say(&data_out(1, NO_TAG, 0, 0, false, &bytes(0..4_096)));
    assert!(wire.hear().is_empty());
    let beyond = data_out(1, NO_TAG, 1, 4_096, false, &bytes(0..4));
    wire.say(&beyond);
    wire.hear_reject(0x09, &beyond);
    wire.say(&data_out(1, NO_TAG, 2, 4_100, true, b""));
    wire.hear_sense(1, 0x0b, 0x0c, 0x0d);
    assert!(matches!(wire.event(), Some(TargetEvent::Aborted(tasks)) if tasks == [task]));
}

/// RFC 7143 §11.3.1: with F=0 a final Data-Out follows, even if the immediate data was all there is.
#[test]
fn an_empty_final_pdu_ends_the_first_burst() {
    let mut wire = Wire::logged_in(EAGER);
    wire.say(&write(1, 100, 512, false, &bytes(0..512)));
    let task = wire.command().task;
    wire.good(task);
    assert!(wire.hear().is_empty(), "the final bit is still to come");
    wire.say(&data_out(1, NO_TAG, 0, 512, true, b""));
    assert_eq!(wire.hear_one().head[3], 0x00);
}

/// RFC 7143 §11.8: more data than the R2T asked for.
#[test]
fn more_data_than_was_asked_for() {
    let mut wire = Wire::logged_in(PATIENT);
    wire.say(&write(1, 100, 1_024, true, b""));
    let task = wire.command().task;
    wire.session.receive(task, 512);
    let r2t = wire.hear_one();
    assert_eq!(r2t.word(44), 512);
    let long = data_out(1, r2t.word(20), 0, 0, true, &bytes(0..516));
    wire.say(&long);
    let heard = wire.hear();
    assert_eq!((heard[0].opcode(), heard[0].head[2]), (0x3f, 0x09));
    assert_eq!((heard[1].opcode(), heard[1].head[3]), (0x21, 0x02));
    assert_eq!(heard[1].data[14..18], [0x0c, 0x0d, 0, 0]);
}

/// RFC 7143 §11.8: within a task R2Ts are fulfilled in the order in which they came.
#[test]
fn r2ts_are_answered_in_order() {
    let mut wire = Wire::logged_in(PATIENT);
    wire.say(&write(1, 100, 16_384, true, b""));
    let task = wire.command().task;
    wire.session.receive(task, 16_384);
    let transfers: Vec<u32> = wire.hear().iter().map(|r2t| r2t.word(20)).collect();
    let early = data_out(1, transfers[1], 0, 8_192, true, &bytes(8_192..16_384));
    wire.say(&early);
    wire.hear_reject(0x09, &early);
    wire.say(&data_out(1, transfers[0], 0, 0, true, &bytes(0..8_192)));
    wire.hear_sense(1, 0x0b, 0x0c, 0x0d);
}

/// RFC 7143 §7.9: a DataSN out of order means that a PDU was lost, whichever way it is off.
#[test]
fn a_data_pdu_that_comes_twice_is_a_crc_error() {
    let mut wire = Wire::logged_in(PATIENT);
    wire.say(&write(1, 100, 8_192, true, b""));
    let task = wire.command().task;
    wire.session.receive(task, 8_192);
    let transfer = wire.hear_one().word(20);
    wire.say(&data_out(1, transfer, 0, 0, false, &bytes(0..4_096)));
    wire.say(&data_out(1, transfer, 0, 0, false, &bytes(0..4_096)));
    wire.say(&data_out(1, transfer, 1, 4_096, true, &bytes(4_096..8_192)));
    wire.hear_sense(1, 0x0b, 0x47, 0x05);
}

/// RFC 7143 §11.7.7: data segments of any length are received, empty ones among them; the data is the same.
#[test]
fn data_may_come_byte_by_byte() {
    let mut wire = Wire::logged_in(PATIENT);
    wire.say(&write(1, 100, 5_000, true, b""));
    let task = wire.command().task;
    wire.session.receive(task, 5_000);
    let transfer = wire.hear_one().word(20);
    let (mut offset, mut data_sn) = (0, 0);
    for length in [1, 0, 2, 3, 4_096, 1, 897] {
        let data = bytes(offset..offset + length);
        let at = u32::try_from(offset).unwrap();
        offset += length;
        wire.say(&data_out(1, transfer, data_sn, at, offset == 5_000, &data));
        data_sn += 1;
    }
    assert_eq!(wire.data_ready(), (task, bytes(0..5_000)));
}

/// RFC 7143 §11.3.1: a Data-Out for a task that is no write, or for none, is rejected and changes nothing.
#[test]
fn data_for_a_read_fails_the_read() {
    let mut wire = Wire::logged_in(EAGER);
    wire.say(&crate::harness::read(1, 100, 512));
    let task = wire.command().task;
    wire.say(&data_out(1, NO_TAG, 0, 0, true, &bytes(0..4)));
    wire.hear_sense(1, 0x0b, 0x0c, 0x0c);
    assert!(matches!(wire.event(), Some(TargetEvent::Aborted(tasks)) if tasks == [task]));
}
