//! NOP, logout, asynchronous messages and digests (RFC 7143 §7.8, §11.9, §11.14, §11.15, §11.18 and §11.19).

use std::time::Duration;

use iscsi_proto::session::{Breach, CloseReason, ConnectionState, TargetEvent};
use iscsi_proto::wire::digest::crc32c;
use iscsi_proto::wire::framer::FrameError;

use crate::harness::{EAGER, NO_TAG, Say, Wire, data_out, ping, read, write};

/// RFC 7143 §11.18.3, §11.19: the echo carries as much of the data as the initiator takes.
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

/// RFC 7143 §7.14 and §11.19: a ping of the target, its answer, and the end of who does not answer.
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

/// RFC 7143 §11.14.1, §11.14.3, §11.15 and §11.15.1: an unknown connection, recovery that is not supported, the end.
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

/// RFC 7143 §11.9.1, event 1: logout within Parameter3 seconds.
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

/// RFC 7143 §7.8: after a damaged header nobody knows where the next PDU begins.
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

/// RFC 7143 §7.2.1 and §7.8: a command with damaged immediate data is rejected and discarded; it may come again.
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

/// RFC 7143 §7.3 and §7.8 b: Reject at once, CHECK CONDITION when the final PDU is there.
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

/// RFC 7143 §11.18.2, §11.19.1 and §11.19.3: a ping of the target carries a tag, a unit that fits it, and no data.
#[test]
fn the_targets_ping_has_a_tag_and_no_data() {
    let mut wire = Wire::logged_in(EAGER);
    wire.say(&ping(7, 100, b"").lun(5));
    let echo = wire.hear_one();
    assert_eq!(
        (echo.head[9], echo.word(20)),
        (5, NO_TAG),
        "the echo has the unit of the question and no tag of its own"
    );
    wire.pass(Duration::from_secs(15));
    let asked = wire.hear_one();
    assert_eq!((asked.tag(), &asked.head[8..16]), (NO_TAG, &[0; 8][..]));
    assert!(asked.word(20) != NO_TAG && asked.data.is_empty());
    wire.say(&ping(NO_TAG, 100, b"").word(20, asked.word(20)));
    assert!(wire.hear().is_empty(), "an answer is not answered");
}

/// RFC 7143 §11.18.1: a NOP-Out without a task tag has to be immediate.
#[test]
fn an_acknowledgement_that_is_not_immediate_is_rejected() {
    let mut wire = Wire::logged_in(EAGER);
    let bad = ping(NO_TAG, 100, b"").byte(0, 0x00);
    wire.say(&bad);
    wire.hear_reject(0x09, &bad);
    wire.say(&read(1, 100, 0));
    wire.command();
}

/// RFC 7143 §11.14, §11.14.5 and §E.1: pending commands end without an answer, those that wait for their turn too;
/// nothing that follows the logout is looked at.
#[test]
fn a_logout_ends_what_is_pending_and_hears_nothing_after() {
    let mut wire = Wire::logged_in(EAGER);
    wire.say(&read(1, 100, 0));
    wire.say(&read(3, 102, 0));
    let task = wire.command().task;
    let mut bytes = Say::new(0x46, 0x80, 9).cmd_sn(103).bytes();
    bytes.extend(read(4, 101, 0).bytes());
    wire.say_bytes(&bytes);
    let heard = wire.hear_one();
    assert_eq!((heard.opcode(), heard.head[2], heard.tag()), (0x26, 0, 9));
    assert!(matches!(wire.event(), Some(TargetEvent::Aborted(tasks)) if tasks == [task]));
    assert!(matches!(
        wire.event(),
        Some(TargetEvent::Closed(CloseReason::LoggedOut))
    ));
    wire.good(task);
    assert!(wire.hear().is_empty() && wire.event().is_none());
}

/// RFC 7143 §4.2.2.1: a logout that is not immediate waits for its turn.
#[test]
fn a_numbered_logout_waits_for_its_turn() {
    let mut wire = Wire::logged_in(EAGER);
    wire.say(&Say::new(0x06, 0x80, 9).cmd_sn(101));
    assert!(wire.hear().is_empty() && !wire.session.is_closed());
    wire.say(&read(1, 100, 0));
    wire.command();
    assert_eq!(wire.hear_one().opcode(), 0x26);
    assert!(wire.session.is_closed());
}

/// RFC 7143 §7.8: a damaged header ends the connection, whatever PDU it is of.
#[test]
fn a_damaged_header_of_a_data_pdu_ends_the_connection() {
    let mut wire = Wire::logged_in(DIGESTS);
    wire.say_bytes(&digested(&write(1, 100, 8, true, b"")));
    let task = wire.command().task;
    wire.session.receive(task, 8);
    let transfer = u32::from_be_bytes(hear_digested(&mut wire)[20..24].try_into().unwrap());
    let mut bytes = digested(&data_out(1, transfer, 0, 0, true, b"12345678"));
    bytes[43] ^= 1;
    wire.say_bytes(&bytes);
    assert!(hear_digested(&mut wire).is_empty());
    assert!(matches!(wire.event(), Some(TargetEvent::Aborted(tasks)) if tasks == [task]));
    assert!(matches!(
        wire.event(),
        Some(TargetEvent::Closed(CloseReason::ProtocolError(
            Breach::Framing(FrameError::HeaderDigest)
        )))
    ));
}

/// RFC 7143 §7.8: what is no write data is rejected, and that is all.
#[test]
fn a_damaged_ping_is_rejected_and_harms_nobody() {
    let mut wire = Wire::logged_in(DIGESTS);
    let mut bytes = digested(&ping(7, 100, b"echo"));
    *bytes.last_mut().unwrap() ^= 0x80;
    wire.say_bytes(&bytes);
    let heard = hear_digested(&mut wire);
    assert_eq!((heard[0], heard[2]), (0x3f, 0x02));
    assert_eq!(
        heard[52..100],
        ping(7, 100, b"echo").bytes()[..48],
        "its header"
    );
    wire.say_bytes(&digested(&ping(7, 100, b"echo")));
    assert_eq!(hear_digested(&mut wire)[0], 0x20);
    assert_eq!(wire.session.stats().data_digest_errors, 1);
}

/// RFC 7143 §7.8 b: unsolicited data that is damaged fails its command when the final PDU is there.
#[test]
fn damaged_unsolicited_data_fails_the_command_after_the_final_bit() {
    let mut wire = Wire::logged_in(
        "DataDigest=CRC32C|InitialR2T=No|ImmediateData=No|FirstBurstLength=4096|MaxBurstLength=8192",
    );
    let data_digested = |pdu: &Say| {
        let bytes = pdu.bytes();
        let sum = crc32c(&[&bytes[48..]]);
        if bytes.len() > 48 {
            [&bytes[..], &sum].concat()
        } else {
            bytes
        }
    };
    wire.say_bytes(&data_digested(&write(1, 100, 8, false, b"")));
    let task = wire.command().task;
    let mut bytes = data_digested(&data_out(1, NO_TAG, 0, 0, false, b"data"));
    bytes[48] ^= 1;
    wire.say_bytes(&bytes);
    let reject = hear_digested(&mut wire);
    assert_eq!(
        (reject[0], reject[2], reject.len()),
        (0x3f, 0x02, 48 + 48 + 4)
    );
    wire.say_bytes(&data_digested(&data_out(1, NO_TAG, 1, 4, true, b"data")));
    let heard = hear_digested(&mut wire);
    assert_eq!((heard[0], heard[3], heard[52]), (0x21, 0x02, 0x0b));
    assert_eq!(heard[62..64], [0x47, 0x05]);
    assert!(matches!(wire.event(), Some(TargetEvent::Aborted(tasks)) if tasks == [task]));
}
