//! Read data that a driver puts where it belongs.

use std::collections::VecDeque;

use bytes::{BufMut, BytesMut};

use crate::params::Params;
use crate::session::initiator::bench::Bench;
use crate::session::initiator::pdus::{data_in, low_byte};
use crate::session::{Outcome, ProtocolError, SessionEnd, Transfer};
use crate::wire::Header;
use crate::wire::bhs::BHS_BYTES;
use crate::wire::framer::encode;

const LENGTH: u32 = 65_536;

/// A PDU that holds all of a read and its status; behind its header comes the data, and a digest.
fn answer(bench: &Bench) -> Vec<u8> {
    let data = (0..LENGTH).map(low_byte).collect();
    let mut pdu = data_in(bench.last_tag(), 0, 0, 0x81, data);
    if let Header::DataIn(header) = &mut pdu.header {
        header.stat_sn = 7.into();
    }
    let mut parts = VecDeque::new();
    encode(&pdu, bench.session.digests, &mut parts);
    parts.iter().flat_map(|part| part.to_vec()).collect()
}

fn reading(expected: u32) -> Bench {
    let mut bench = Bench::new(Params {
        data_digest: true,
        max_recv_data_segment_length: LENGTH,
        ..Params::default()
    });
    bench.submit(Transfer::Read(expected));
    bench.sent();
    bench
}

/// Puts `bytes` where the session wants them, and nowhere else.
fn land(bench: &mut Bench, bytes: &[u8]) {
    let mut landing = bench.session.landing().expect("a place for them");
    landing.put_slice(bytes);
    bench.receive_bytes(&[]);
}

#[test]
fn data_lands_without_a_stop_and_its_digest_is_checked() {
    for damaged in [false, true] {
        let mut bench = reading(LENGTH);
        let mut bytes = answer(&bench);
        if damaged {
            bytes[BHS_BYTES + 10_000] ^= 1;
        }
        let (head, rest) = bytes.split_at(BHS_BYTES + 100);
        bench.receive_bytes(head);
        assert_eq!(bench.session.missing(), rest.len());
        let place = bench.session.landing().expect("a place");
        assert_eq!(
            place.remaining_mut(),
            rest.len() - 4,
            "the digest is no data"
        );
        let (middle, rest) = rest.split_at(50_000);
        land(&mut bench, middle);
        let (end, digest) = rest.split_at(rest.len() - 4);
        land(&mut bench, end);
        assert!(
            bench.event().is_none(),
            "nothing is handed out before its digest"
        );
        assert!(bench.session.landing().is_none());
        bench.receive_bytes(digest);
        match bench.completed() {
            (_, Outcome::Answered(completion)) if !damaged => {
                assert_eq!(
                    completion.data,
                    (0..LENGTH).map(low_byte).collect::<Vec<_>>()
                );
            }
            (_, outcome) => assert_eq!((outcome, damaged), (Outcome::Damaged, true)),
        }
        assert!(bench.session.appetite() < 2 * BHS_BYTES + 1);
    }
}

#[test]
fn no_data_lands_outside_of_what_was_asked_for() {
    for expected in [LENGTH - 1, 512] {
        let mut bench = reading(expected);
        let bytes = answer(&bench);
        bench.receive_bytes(&bytes[..BHS_BYTES]);
        assert!(bench.session.landing().is_none());
        let end = SessionEnd::Protocol(ProtocolError::DataBounds);
        assert_eq!(bench.ended(), Some(end));
    }
}

#[test]
fn a_large_read_that_was_not_answered_holds_no_memory_and_a_small_answer_little() {
    let mut bench = reading(u32::MAX);
    let bytes = answer(&bench);
    bench.receive_bytes(&bytes[..BHS_BYTES]);
    let place = bench.session.landing().expect("a place");
    let room = place.into_inner().capacity();
    assert!((65_536..=4 << 20).contains(&room), "{room}");
}

#[test]
fn the_buffer_of_one_read_serves_the_next_until_the_session_rests() {
    let mut bench = reading(LENGTH);
    let mut used = Vec::new();
    for round in 0..3 {
        let bytes = answer(&bench);
        let stat_sn = 7 + u8::try_from(used.len()).expect("few");
        let mut bytes = BytesMut::from(&bytes[..]);
        bytes[27] = stat_sn;
        bench.session.handle_bytes(bench.now, &mut bytes);
        let (_, Outcome::Answered(completion)) = bench.completed() else {
            panic!("no answer");
        };
        used.push(completion.data.as_ptr());
        drop(completion);
        if round == 1 {
            bench.pass(std::time::Duration::from_secs(11));
            assert_eq!(bench.sent().len(), 1, "a ping");
            let spares = &bench.full().expect("logged in").spares;
            assert!(format!("{spares:?}").contains("held: 0"));
        }
        bench.submit(Transfer::Read(LENGTH));
        bench.sent();
    }
    assert_eq!(used[0], used[1]);
}

#[test]
fn a_little_is_read_with_what_follows_it() {
    let mut bench = reading(LENGTH);
    let bytes = answer(&bench);
    bench.receive_bytes(&bytes[..bytes.len() - 1000]);
    assert!(bench.session.landing().is_none());
    assert_eq!(bench.session.appetite(), usize::MAX);
    let mut rest = BytesMut::from(&bytes[bytes.len() - 1000..]);
    bench.session.handle_bytes(bench.now, &mut rest);
    assert!(rest.is_empty());
    assert!(matches!(bench.completed(), (_, Outcome::Answered(_))));
}
