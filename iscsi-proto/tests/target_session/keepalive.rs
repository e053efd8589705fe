//! NOP, logout, asynchronous messages and digests (RFC 7143 §7.8, §11.9, §11.14, §11.15, §11.18 and §11.19).

use std::time::Duration;

use iscsi_proto::session::{Breach, CloseReason, ConnectionState, TargetEvent};
use iscsi_proto::wire::digest::crc32c;
use iscsi_proto::wire::framer::FrameError;

use crate::harness::{EAGER, NO_TAG, Say, Wire, data_out, ping, read, write};

#[test]
fn a_ping_is_echoed() {
    let mut wire = Wire::logged_in(EAGER);
    wire.say(&ping(7, 100, b"echo"));
    let heard = wire.hear_one();
    assert_eq!(
        (heard.opcode(), heard.head[1], heard.tag(), heard.word(20)),
        (0x20, 0x80, 7, NO_TAG)
    );
    assert_eq!(heard.data, b"echo");
    wire.say(&ping(8, 100, &[1; 3_000]).byte(0, 0x00));
    let heard = wire.hear_one();
    assert_eq!(
        (heard.data.len(), heard.word(28), heard.word(32)),
        (2_048, 101, 104),
        "cut, and numbered"
    );
    wire.say(&ping(NO_TAG, 101, b""));
    assert!(wire.hear().is_empty(), "an acknowledgement is not answered");
}

#[test]
fn only_initiators_that_know_pings_are_pinged() {
    let mut wire = Wire::logged_in(EAGER);
    assert_eq!(wire.session.poll_timeout(), None);
    wire.pass(Duration::from_secs(3_600));
    assert!(wire.hear().is_empty());
    wire.say(&ping(7, 100, b""));
    let stat_sn = wire.hear_one().stat_sn();
    wire.pass(Duration::from_secs(15));
    let heard = wire.hear_one();
    assert_eq!(
        (heard.opcode(), heard.tag(), heard.stat_sn()),
        (0x20, NO_TAG, stat_sn + 1)
    );
    assert_ne!(heard.word(20), NO_TAG);
    wire.say(&ping(NO_TAG, 100, b"").word(20, heard.word(20)));
    assert_eq!(
        wire.session.poll_timeout(),
        Some(wire.now + Duration::from_secs(15))
    );
    wire.pass(Duration::from_secs(15));
    wire.hear_one();
    wire.pass(Duration::from_secs(30));
    assert!(matches!(
        wire.event(),
        Some(TargetEvent::Closed(CloseReason::Silent))
    ));
}

#[test]
fn logout_ends_the_session() {
    let mut wire = Wire::logged_in(EAGER);
    wire.say(&read(1, 100, 0));
    let task = wire.command().task;
    // CID 7 is this connection.
    for (reason, cid, code) in [(1, 8, 1), (2, 7, 2), (1, 7, 0)] {
        wire.say(&Say::new(0x46, 0x80 | reason, 9).cmd_sn(101).byte(21, cid));
        let heard = wire.hear_one();
        assert_eq!(
            (heard.opcode(), heard.head[1], heard.head[2]),
            (0x26, 0x80, code)
        );
    }
    assert!(matches!(wire.event(), Some(TargetEvent::Aborted(tasks)) if tasks == [task]));
    assert!(matches!(
        wire.event(),
        Some(TargetEvent::Closed(CloseReason::LoggedOut))
    ));
    assert_eq!(wire.session.state(), ConnectionState::Free);
}

#[test]
fn an_initiator_is_asked_to_log_out() {
    let mut wire = Wire::logged_in(EAGER);
    wire.session
        .request_logout(wire.now, Duration::from_secs(10));
    let heard = wire.hear_one();
    assert_eq!(
        (heard.opcode(), heard.head[1], heard.tag()),
        (0x32, 0x80, NO_TAG)
    );
    assert_eq!(
        (heard.head[36], &heard.head[42..44]),
        (1, &[0u8, 10][..]),
        "event, Parameter3"
    );
    assert_eq!(wire.session.state(), ConnectionState::LogoutRequested);
    wire.pass(Duration::from_secs(10));
    assert!(matches!(
        wire.event(),
        Some(TargetEvent::Closed(CloseReason::LogoutTimeout))
    ));
}

const DIGESTS: &str = "HeaderDigest=CRC32C|DataDigest=CRC32C|InitialR2T=Yes|ImmediateData=Yes";

fn digested(pdu: &Say) -> Vec<u8> {
    let bytes = pdu.bytes();
    let (head, data) = bytes.split_at(48);
    let mut whole = [head, &crc32c(&[head])].concat();
    if !data.is_empty() {
        whole.extend_from_slice(data);
        whole.extend_from_slice(&crc32c(&[data]));
    }
    whole
}

/// What the target says begins after the header digest.
fn hear_digested(wire: &mut Wire) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(part) = wire.session.poll_transmit() {
        bytes.extend_from_slice(&part);
    }
    bytes
}

#[test]
fn a_damaged_header_ends_the_connection() {
    let mut wire = Wire::logged_in(DIGESTS);
    let mut bytes = digested(&read(1, 100, 512));
    bytes[47] ^= 1;
    wire.say_bytes(&bytes);
    assert!(matches!(
        wire.event(),
        Some(TargetEvent::Closed(CloseReason::ProtocolError(
            Breach::Framing(FrameError::HeaderDigest)
        )))
    ));
}

#[test]
fn a_damaged_command_counts_as_not_received() {
    let mut wire = Wire::logged_in(DIGESTS);
    let command = write(1, 100, 4, true, b"data");
    let mut bytes = digested(&command);
    *bytes.last_mut().unwrap() ^= 1;
    wire.say_bytes(&bytes);
    let heard = hear_digested(&mut wire);
    assert_eq!(
        (heard[0], heard[2], &heard[28..32]),
        (0x3f, 0x02, &[0, 0, 0, 100][..])
    );
    wire.say_bytes(&digested(&command));
    wire.command();
}

#[test]
fn damaged_write_data_is_rejected_and_then_reported() {
    let mut wire = Wire::logged_in(DIGESTS);
    wire.say_bytes(&digested(&write(1, 100, 8, true, b"")));
    let task = wire.command().task;
    wire.session.receive(task, 8);
    let transfer = u32::from_be_bytes(hear_digested(&mut wire)[20..24].try_into().unwrap());
    let mut bytes = digested(&data_out(1, transfer, 0, 0, false, b"data"));
    *bytes.last_mut().unwrap() ^= 1;
    wire.say_bytes(&bytes);
    let reject = hear_digested(&mut wire);
    assert_eq!(
        (reject[0], reject[2], reject.len()),
        (0x3f, 0x02, 48 + 4 + 48 + 4),
        "nothing but the Reject"
    );
    wire.say_bytes(&digested(&data_out(1, transfer, 1, 4, true, b"data")));
    let heard = hear_digested(&mut wire);
    assert_eq!((heard[0], heard[3]), (0x21, 0x02));
    assert_eq!((heard[56], heard[66], heard[67]), (0x0b, 0x47, 0x05));
}
