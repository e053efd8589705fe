//! Rules that a target may not break: each breach ends the session, for the reason named.

use bytes::Bytes;

use crate::session::initiator::bench::Bench;
use crate::session::initiator::pdus::{data_in, good_response, nop_in, r2t, small_params, text};
use crate::session::{ProtocolError, SessionEnd, Transfer};
use crate::wire::{Header, Pdu};

/// How the session ends when, with a read of 2048 and a write of 5120 bytes under way, these PDUs come.
fn end_after(pdus: impl Fn(u32, u32) -> Vec<Pdu>) -> Option<ProtocolError> {
    let mut bench = Bench::new(small_params());
    bench.submit(Transfer::Read(2048));
    bench.sent();
    let read = bench.last_tag();
    bench.submit(Transfer::Write(Bytes::from(vec![0; 5120])));
    bench.sent();
    let write = bench.last_tag();
    for pdu in pdus(read, write) {
        bench.receive(pdu);
    }
    match bench.ended() {
        Some(SessionEnd::Protocol(error)) => Some(error),
        _ => None,
    }
}

/// RFC 7143 §4.2.2.2: a gap in StatSN ends the session at recovery level 0.
#[test]
fn every_status_comes_once_and_in_order() {
    assert_eq!(end_after(|read, _| vec![good_response(read, 7)]), None);
    assert_eq!(
        end_after(|read, _| vec![good_response(read, 8)]),
        Some(ProtocolError::StatSn)
    );
    let twice = end_after(|read, write| vec![good_response(read, 7), good_response(write, 7)]);
    assert_eq!(twice, Some(ProtocolError::StatSn));
    assert_eq!(
        end_after(|_, _| vec![good_response(0xabc, 7)]),
        Some(ProtocolError::UnknownTask)
    );
    let again = end_after(|read, _| vec![good_response(read, 7), good_response(read, 8)]);
    assert_eq!(again, Some(ProtocolError::UnknownTask));
}

/// RFC 7143 §11.7.5 and §11.7.6: what a target may not send.
#[test]
fn data_comes_in_order_and_inside_what_was_asked_for() {
    let data = |sn, offset, length| {
        end_after(move |read, _| vec![data_in(read, sn, offset, 0, vec![0; length])])
    };
    assert_eq!(data(0, 0, 2048), None);
    assert_eq!(data(1, 0, 512), Some(ProtocolError::DataSn));
    assert_eq!(data(0, 512, 512), Some(ProtocolError::DataBounds));
    assert_eq!(data(0, 0, 2049), Some(ProtocolError::DataBounds));
    assert_eq!(data(0, 0, 4097), Some(ProtocolError::Framing));
    let for_a_write = end_after(|_, write| vec![data_in(write, 0, 0, 0, vec![0; 512])]);
    assert_eq!(for_a_write, Some(ProtocolError::DataBounds));
}

/// RFC 7143 §4.2.5.3, §11.8.2, §11.8.4 and §11.8.5: what a target may not ask for.
#[test]
fn transfers_are_asked_for_in_order_and_inside_what_there_is() {
    let ask =
        |sn, offset, length| end_after(move |_, write| vec![r2t(write, 1, sn, offset, length)]);
    assert_eq!(ask(0, 2048, 2048), None);
    assert_eq!(ask(1, 2048, 2048), Some(ProtocolError::DataSn));
    assert_eq!(ask(0, 1024, 1024), Some(ProtocolError::R2tBounds));
    assert_eq!(ask(0, 2048, 0), Some(ProtocolError::R2tBounds));
    assert_eq!(ask(0, 2048, 2049), Some(ProtocolError::R2tBounds));
    assert_eq!(ask(0, 4096, 1025), Some(ProtocolError::R2tBounds));
    assert_eq!(ask(0, u32::MAX, 1), Some(ProtocolError::R2tBounds));
    let reserved_tag = end_after(|_, write| vec![r2t(write, 0xffff_ffff, 0, 2048, 512)]);
    assert_eq!(reserved_tag, Some(ProtocolError::R2tBounds));
    let of_another_unit = end_after(|_, write| {
        let mut stray = r2t(write, 1, 0, 2048, 512);
        if let Header::ReadyToTransfer(header) = &mut stray.header {
            header.lun = 0x0003_0000_0000_0000.into();
        }
        vec![stray]
    });
    assert_eq!(of_another_unit, Some(ProtocolError::R2tBounds));
    let for_a_read = end_after(|read, _| vec![r2t(read, 1, 0, 0, 512)]);
    assert_eq!(for_a_read, Some(ProtocolError::R2tBounds));
    let two =
        end_after(|_, write| vec![r2t(write, 1, 0, 2048, 1024), r2t(write, 2, 1, 3072, 1024)]);
    assert_eq!(two, Some(ProtocolError::TooManyR2ts));
}

#[test]
fn pings_that_nobody_reads_the_answers_of_end_the_session() {
    let mut bench = Bench::new(small_params());
    for _ in 0..64 {
        bench.receive(nop_in(0xffff_ffff, 1, 7, 100, 110));
    }
    assert_eq!(bench.ended(), None);
    bench.receive(nop_in(0xffff_ffff, 1, 7, 100, 110));
    assert_eq!(
        bench.ended(),
        Some(SessionEnd::Protocol(ProtocolError::TooManyPings))
    );
}

/// Once such answers made the list of what waits to be sent grow.
#[test]
fn an_answer_to_a_question_that_was_not_sent_ends_the_session() {
    let mut bench = Bench::new(small_params());
    bench.set_window(99);
    bench.discover();
    bench.receive(text(1, 0x00, 0x77, 7, b"TargetName=iqn.2025-01.a:one\0"));
    let error = SessionEnd::Protocol(ProtocolError::UnknownTask);
    assert_eq!(bench.ended(), Some(error));
}
