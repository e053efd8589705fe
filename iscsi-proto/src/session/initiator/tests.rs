//! Stories of one session, in virtual time, with the bytes that RFC 7143 asks for.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::params::Params;
use crate::scsi::Status;
use crate::session::initiator::bench::{Bench, config, headers, start};
use crate::session::initiator::pdus::{
    data_in, good_response, logout_response, low_byte, management_response, nop_in, r2t,
    small_params, text,
};
use crate::session::{
    Completion, InitiatorEvent, ManagementAnswer, Outcome, ProtocolError, Residual, SessionEnd,
    SubmitError, Transfer,
};
use crate::wire::bhs::{AsyncMessage, Reject, ScsiResponse};
use crate::wire::lun::Lun;
use crate::wire::{Header, Pdu};

/// RFC 7143 §11.3, §11.7 and §11.8.5: the bytes of a write, with the tag of each R2T in the data that it asked for.
#[test]
fn a_write_sends_what_is_allowed_unasked_and_the_rest_when_asked() {
    let mut bench = Bench::new(small_params());
    let data = Bytes::from((0..5120u32).map(low_byte).collect::<Vec<_>>());
    let write = bench.submit(Transfer::Write(data.clone()));
    let sent = bench.sent();
    // Not final (Data-Out follows), W, simple; EDTL 5120; CmdSN 100; immediate data of one segment.
    let command = headers(&sent)[0];
    assert_eq!(command[..8], [0x01, 0x21, 0, 0, 0, 0, 0x04, 0x00]);
    assert_eq!(command[20..32], [0, 0, 0x14, 0, 0, 0, 0, 100, 0, 0, 0, 7]);
    assert_eq!(sent[0].data, data[..1024]);
    // The rest of the first burst, final, transfer tag ffffffff, DataSN 0, offset 1024.
    let unasked = headers(&sent)[1];
    assert_eq!(unasked[..2], [0x05, 0x80]);
    assert_eq!(unasked[20..24], [0xff; 4]);
    assert_eq!(unasked[36..44], [0, 0, 0, 0, 0, 0, 0x04, 0]);
    assert_eq!(sent[1].data, data[1024..2048]);
    assert_eq!(sent.len(), 2);

    let tag = bench.last_tag();
    bench.receive(r2t(tag, 0x55, 0, 2048, 2048));
    let sent = bench.sent();
    assert_eq!(sent.len(), 2);
    assert_eq!(headers(&sent)[0][..2], [0x05, 0x00]);
    assert_eq!(headers(&sent)[1][..2], [0x05, 0x80]);
    assert_eq!(headers(&sent)[1][20..24], [0, 0, 0, 0x55]);
    assert_eq!(headers(&sent)[1][36..44], [0, 0, 0, 1, 0, 0, 0x0c, 0]);
    assert_eq!(
        [&sent[0].data[..], &sent[1].data[..]].concat(),
        data[2048..4096]
    );
    bench.receive(r2t(tag, 0x56, 1, 4096, 1024));
    assert_eq!(bench.sent()[0].data, data[4096..]);
    bench.receive(good_response(tag, 7));
    let completion = Completion {
        status: Status(0),
        sense: Bytes::new(),
        data: Bytes::new(),
        residual: Residual::None,
    };
    assert_eq!(bench.completed(), (write, Outcome::Answered(completion)));
}

/// RFC 7143 §11.7 and §11.7.3: the status of a read comes in its last Data-In PDU.
#[test]
fn a_read_is_put_together_and_ends_with_the_status_in_its_data() {
    let mut bench = Bench::new(small_params());
    let read = bench.submit(Transfer::Read(4096));
    assert_eq!(headers(&bench.sent())[0][..2], [0x01, 0xc1]);
    let tag = bench.last_tag();
    bench.receive(data_in(tag, 0, 0, 0x00, vec![1; 2048]));
    let mut last = data_in(tag, 1, 2048, 0x80 | 0x02 | 0x01, vec![2; 1024]);
    if let Header::DataIn(header) = &mut last.header {
        header.residual_count = 1024.into();
        header.stat_sn = 7.into();
    }
    bench.receive(last);
    let (request, outcome) = bench.completed();
    let Outcome::Answered(completion) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(request, read);
    assert_eq!(completion.residual, Residual::Underflow(1024));
    assert_eq!(completion.data, [vec![1; 2048], vec![2; 1024]].concat());
}

#[test]
fn tiny_segments_are_put_together() {
    let mut bench = Bench::new(small_params());
    bench.submit(Transfer::Read(1000));
    bench.sent();
    let tag = bench.last_tag();
    for sn in 0..1000 {
        bench.receive(data_in(tag, sn, sn, 0, vec![low_byte(sn)]));
    }
    bench.receive(good_response(tag, 7));
    let (_, Outcome::Answered(completion)) = bench.completed() else {
        panic!()
    };
    assert_eq!(completion.data, (0..1000).map(low_byte).collect::<Vec<_>>());
}

/// RFC 7143 §10.2 and §11.4.7: sense data comes with the status.
#[test]
fn check_condition_brings_its_sense() {
    let mut bench = Bench::new(small_params());
    bench.submit(Transfer::Read(512));
    bench.sent();
    let header = ScsiResponse {
        flags: 0x82,
        status: 0x02,
        initiator_task_tag: bench.last_tag().into(),
        stat_sn: 7.into(),
        residual_count: 512.into(),
        exp_cmd_sn: 101.into(),
        max_cmd_sn: 110.into(),
        ..ScsiResponse::default()
    };
    bench.receive(Pdu::new(
        header,
        Bytes::from_static(&[0, 3, 0x70, 0, 5, 0xee]),
    ));
    let (_, Outcome::Answered(completion)) = bench.completed() else {
        panic!()
    };
    assert_eq!(completion.status, Status(0x02));
    assert_eq!(completion.sense, [0x70, 0, 5][..]);
}

/// RFC 7143 §4.2.2.1: no command is sent beyond MaxCmdSN.
#[test]
fn commands_wait_for_the_window_and_then_for_nothing() {
    let mut bench = Bench::new(small_params());
    bench.set_window(101);
    for _ in 0..8 {
        bench.submit(Transfer::None);
    }
    let refused = bench.try_submit(Transfer::None);
    assert_eq!(refused, Err(SubmitError::QueueFull));
    assert_eq!(bench.sent().len(), 2);
    bench.receive(nop_in(0xffff_ffff, 0xffff_ffff, 7, 102, 104));
    let numbers: Vec<u8> = headers(&bench.sent())
        .iter()
        .map(|header| header[27])
        .collect();
    assert_eq!(numbers, [102, 103, 104]);
}

/// RFC 7143 §11.18.2: tag and LUN of the ping come back.
#[test]
fn pings_are_answered_with_their_tag_and_lun() {
    let mut bench = Bench::new(small_params());
    let mut ping = nop_in(0xffff_ffff, 0x1234, 7, 100, 110);
    if let Header::NopIn(header) = &mut ping.header {
        header.lun = 0x0003_0000_0000_0000.into();
    }
    bench.receive(ping);
    let sent = bench.sent();
    // Immediate NOP-Out, tag ffffffff, the target's tag, CmdSN not advanced, StatSN not advanced by the ping.
    assert_eq!(headers(&sent)[0][..2], [0x40, 0x80]);
    assert_eq!(headers(&sent)[0][8..16], [0, 3, 0, 0, 0, 0, 0, 0]);
    assert_eq!(
        headers(&sent)[0][16..32],
        [
            0xff, 0xff, 0xff, 0xff, 0, 0, 0x12, 0x34, 0, 0, 0, 100, 0, 0, 0, 7
        ]
    );
}

/// RFC 7143 §7.14 and §11.18.2: a ping of our own carries no target transfer tag; no answer ends the session.
#[test]
fn a_silent_target_is_pinged_and_given_up() {
    let mut bench = Bench::new(small_params());
    bench.pass(Duration::from_secs(10));
    let sent = bench.sent();
    assert_eq!(headers(&sent)[0][..2], [0x40, 0x80]);
    assert_eq!(headers(&sent)[0][20..24], [0xff; 4]);
    let tag = sent[0].header.common().initiator_task_tag.get();
    bench.receive(nop_in(tag, 0xffff_ffff, 7, 100, 110));
    bench.pass(Duration::from_secs(10));
    assert_eq!(bench.sent().len(), 1);
    bench.pass(Duration::from_secs(14));
    assert_eq!(bench.ended(), None);
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.ended(), Some(SessionEnd::Silent));
}

/// RFC 7143 §7.11, §11.5, §11.5.2 and §11.5.4: ABORT TASK carries no data and names the command by tag and number.
#[test]
fn what_takes_too_long_is_aborted() {
    let mut bench = Bench::new(small_params());
    let slow = bench.submit(Transfer::Read(512));
    bench.sent();
    let slow_tag = bench.last_tag();
    bench.pass_with_pings(Duration::from_secs(60));
    let abort = bench
        .sent()
        .into_iter()
        .find(|pdu| matches!(pdu.header, Header::TaskManagementRequest(_)));
    let abort = abort.expect("an abort");
    let bytes = abort.header.as_bytes().to_vec();
    // Immediate, ABORT TASK, the command's tag as referenced task tag, its CmdSN as RefCmdSN.
    assert_eq!(bytes[..2], [0x42, 0x81]);
    assert_eq!(bytes[4..8], [0; 4], "no data");
    assert_eq!(bytes[20..24], slow_tag.to_be_bytes());
    assert_eq!(bytes[32..36], [0, 0, 0, 100]);
    bench.receive(management_response(
        abort.header.common().initiator_task_tag.get(),
        0,
        bench.next_stat_sn(),
    ));
    assert_eq!(bench.completed(), (slow, Outcome::TimedOut));
    assert_eq!(bench.ended(), None);
}

#[test]
fn a_command_that_was_not_sent_is_aborted_at_once() {
    let mut bench = Bench::new(small_params());
    bench.set_window(99);
    let request = bench.submit(Transfer::None);
    bench.abort(request);
    assert_eq!(bench.completed(), (request, Outcome::Aborted));
    bench.set_window(110);
    assert!(bench.sent().is_empty());
}

#[test]
fn an_answer_may_be_quicker_than_its_abort() {
    let mut bench = Bench::new(small_params());
    let request = bench.submit(Transfer::None);
    bench.sent();
    let tag = bench.last_tag();
    bench.abort(request);
    let abort = bench.sent();
    bench.receive(good_response(tag, 7));
    assert!(matches!(bench.completed(), (id, Outcome::Answered(_)) if id == request));
    bench.receive(management_response(
        abort[0].header.common().initiator_task_tag.get(),
        1,
        8,
    ));
    assert_eq!(bench.ended(), None);
}

/// RFC 7143 §11.5.4: the referenced task tag is reserved where no task is meant.
#[test]
fn a_reset_ends_the_commands_of_its_unit() {
    let mut bench = Bench::new(small_params());
    let lost = bench.submit(Transfer::Read(512));
    bench.sent();
    bench.reset_unit(Lun(0));
    let reset = bench.sent();
    assert_eq!(headers(&reset)[0][..2], [0x42, 0x85]);
    assert_eq!(headers(&reset)[0][20..24], [0xff; 4]);
    bench.receive(management_response(
        reset[0].header.common().initiator_task_tag.get(),
        0,
        7,
    ));
    assert_eq!(bench.completed(), (lost, Outcome::Aborted));
    assert!(matches!(
        bench.event(),
        Some(InitiatorEvent::Managed {
            answer: Some(ManagementAnswer::Complete),
            ..
        })
    ));
}

/// RFC 7143 §11.10, §11.10.4 and appendix C: an answer in parts, each fetched with the tag of the part before.
#[test]
fn a_long_list_of_targets_comes_in_portions() {
    let mut bench = Bench::new(small_params());
    bench.discover();
    let asked = bench.sent();
    assert_eq!(asked[0].data, &b"SendTargets=All\0"[..]);
    assert_eq!(headers(&asked)[0][..2], [0x04, 0x80]);
    let tag = asked[0].header.common().initiator_task_tag.get();
    bench.receive(text(
        tag,
        0x00,
        0x77,
        7,
        b"TargetName=iqn.2025-01.a:one\0TargetAddr",
    ));
    let more = bench.sent();
    assert!(more[0].data.is_empty());
    assert_eq!(
        headers(&more)[0][16..28],
        [tag.to_be_bytes(), [0, 0, 0, 0x77], [0, 0, 0, 101]].concat()
    );
    bench.receive(text(
        tag,
        0x80,
        0xffff_ffff,
        8,
        b"ess=10.0.0.1:3260,1\0TargetName=iqn.2025-01.a:two\0",
    ));
    let Some(InitiatorEvent::Discovered {
        records: Ok(records),
        ..
    }) = bench.event()
    else {
        panic!()
    };
    assert_eq!(records.len(), 2);
    assert_eq!(records[0].addresses, [("10.0.0.1:3260".to_owned(), 1)]);
}

/// RFC 7143 §11.10: there is never more than one Text Request outstanding.
#[test]
fn one_text_is_asked_at_a_time() {
    let mut bench = Bench::new(small_params());
    bench.discover();
    bench.discover();
    let first = bench.sent();
    assert_eq!(first.len(), 1);
    let tag = |pdu: &Pdu| pdu.header.common().initiator_task_tag.get();
    let whole = b"TargetName=iqn.2025-01.a:one\0";
    bench.receive(text(tag(&first[0]), 0x80, 0xffff_ffff, 7, whole));
    let second = bench.sent();
    assert_eq!(second.len(), 1);
    assert_eq!(second[0].data, &b"SendTargets=All\0"[..]);
    assert_ne!(tag(&second[0]), tag(&first[0]));
    bench.receive(text(tag(&second[0]), 0x80, 0xffff_ffff, 8, whole));
    let both = (bench.event(), bench.event());
    assert!(matches!(
        both,
        (
            Some(InitiatorEvent::Discovered { records: Ok(_), .. }),
            Some(InitiatorEvent::Discovered { records: Ok(_), .. })
        )
    ));
}

/// RFC 7143 §8.1.3, T11, T10 and T13; §11.9.1, event 1; §11.14.2: a Logout Request carries no data.
#[test]
fn a_target_that_wants_the_session_to_end_gets_it_when_all_is_answered() {
    let mut bench = Bench::new(small_params());
    bench.submit(Transfer::None);
    bench.sent();
    let tag = bench.last_tag();
    let header = AsyncMessage {
        flags: 0x80,
        lun: u64::MAX.into(),
        initiator_task_tag: 0xffff_ffff.into(),
        stat_sn: 7.into(),
        exp_cmd_sn: 101.into(),
        max_cmd_sn: 110.into(),
        async_event: 1,
        parameter_3: 10.into(),
        ..AsyncMessage::default()
    };
    bench.receive(Pdu::bare(header));
    assert!(matches!(
        bench.event(),
        Some(InitiatorEvent::LogoutRequested)
    ));
    assert_eq!(bench.try_submit(Transfer::None), Err(SubmitError::Closed));
    assert!(bench.sent().is_empty());
    bench.receive(good_response(tag, 8));
    let logout = bench.sent();
    assert_eq!(headers(&logout)[0][..8], [0x46, 0x80, 0, 0, 0, 0, 0, 0]);
    bench.receive(logout_response(
        logout[0].header.common().initiator_task_tag.get(),
        9,
    ));
    bench.completed();
    assert_eq!(bench.ended(), Some(SessionEnd::LogoutRequested));
}

fn rejection(of: &Pdu, exp_cmd_sn: u32) -> Pdu {
    let header = Reject {
        flags: 0x80,
        reason: 0x09,
        initiator_task_tag: 0xffff_ffff.into(),
        stat_sn: 7.into(),
        exp_cmd_sn: exp_cmd_sn.into(),
        max_cmd_sn: 120.into(),
        ..Reject::default()
    };
    Pdu::new(header, Bytes::copy_from_slice(of.header.as_bytes()))
}

#[test]
fn a_rejected_command_ends_alone() {
    let mut bench = Bench::new(small_params());
    let request = bench.submit(Transfer::Read(512));
    let sent = bench.sent();
    bench.receive(rejection(&sent[0], 101));
    assert_eq!(bench.completed(), (request, Outcome::Rejected(9)));
    assert_eq!(bench.ended(), None);
    assert!(bench.sent().is_empty());
}

/// RFC 7143 §7.3: a rejected command need not count as received; an abort with its number as RefCmdSN closes the gap.
#[test]
fn the_gap_that_a_rejected_command_leaves_is_closed() {
    let mut bench = Bench::new(small_params());
    let request = bench.submit(Transfer::Read(512));
    let sent = bench.sent();
    let rejected = bench.last_tag();
    bench.receive(rejection(&sent[0], 100));
    assert_eq!(bench.completed(), (request, Outcome::Rejected(9)));
    let sent = bench.sent();
    let abort = headers(&sent)[0];
    // Immediate, ABORT TASK, the tag of the command; the next CmdSN is 101, RefCmdSN is 100.
    assert_eq!(abort[..2], [0x42, 0x81]);
    assert_eq!(abort[20..24], rejected.to_be_bytes());
    assert_eq!(abort[24..28], [0, 0, 0, 101]);
    assert_eq!(abort[32..36], [0, 0, 0, 100]);
    let tag = sent[0].header.common().initiator_task_tag.get();
    bench.receive(management_response(tag, 0, 8));
    assert_eq!(bench.ended(), None);
}

#[test]
fn damaged_data_makes_the_read_worthless() {
    let mut bench = Bench::new(Params {
        data_digest: true,
        ..small_params()
    });
    let request = bench.submit(Transfer::Read(1024));
    bench.sent();
    let mut pdu = Vec::from(
        data_in(bench.last_tag(), 0, 0, 0x81, vec![7; 1024])
            .header
            .as_bytes(),
    );
    pdu[5..8].copy_from_slice(&[0, 4, 0]);
    pdu[24..28].copy_from_slice(&[0, 0, 0, 7]);
    pdu.extend([7; 1024]);
    pdu.extend([0xde, 0xad, 0xbe, 0xef]);
    bench.receive_bytes(&pdu);
    assert_eq!(bench.completed(), (request, Outcome::Damaged));
}

/// RFC 7143 §8.1.3, T7.
#[test]
fn a_login_that_is_not_answered_ends() {
    let now = start();
    let mut session = crate::session::InitiatorSession::new(config(), now);
    assert_eq!(session.poll_transmit().expect("a login")[..2], [0x43, 0x81]);
    assert_eq!(session.poll_timeout(), Some(now + Duration::from_secs(15)));
    session.handle_timeout(now + Duration::from_secs(15));
    assert!(matches!(
        session.poll_event(),
        Some(InitiatorEvent::Ended(SessionEnd::LoginTimeout))
    ));
    assert!(session.is_closed());
    session.handle_bytes(now, &mut BytesMut::from(&[0u8; 96][..]));
    assert!(session.poll_event().is_none());
}

#[test]
fn nothing_but_a_login_response_may_come_first() {
    let now = start();
    let mut session = crate::session::InitiatorSession::new(config(), now);
    let mut input = BytesMut::from(nop_in(0xffff_ffff, 1, 0, 1, 1).header.as_bytes());
    session.handle_bytes(now, &mut input);
    let end = SessionEnd::Protocol(ProtocolError::UnexpectedPdu);
    assert!(matches!(session.poll_event(), Some(InitiatorEvent::Ended(reason)) if reason == end));
}

#[test]
fn a_login_response_may_be_longer_than_what_is_offered_for_later() {
    let mut config = config();
    config.offer.operational.max_recv_data_segment_length = 512;
    let mut session = crate::session::InitiatorSession::new(config, start());
    // A Login Response of 600 bytes: one key that nobody knows, C=0, T=0, CSG security.
    let mut bytes = BytesMut::from(&[0; 48 + 600][..]);
    (bytes[0], bytes[6], bytes[7]) = (0x23, 0x02, 0x58);
    bytes[48..].fill(b'x');
    bytes[48..52].copy_from_slice(b"X-a=");
    bytes[48 + 599] = 0;
    session.handle_bytes(start(), &mut bytes);
    assert!(!session.is_closed(), "{:?}", session.poll_event());
}

#[test]
fn a_command_that_was_not_sent_ends_before_its_session() {
    let mut bench = Bench::new(small_params());
    bench.set_window(100);
    bench.submit(Transfer::None);
    let unsent = [
        bench.submit(Transfer::None),
        bench.submit(Transfer::Read(512)),
    ];
    assert_eq!(bench.sent().len(), 1, "the window takes one");
    bench.session.handle_disconnect();
    for request in unsent {
        assert_eq!(bench.completed(), (request, Outcome::Unsent));
    }
    assert_eq!(bench.ended(), Some(SessionEnd::Disconnected));
}
