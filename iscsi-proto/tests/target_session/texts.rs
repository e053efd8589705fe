//! Text requests and SendTargets (RFC 7143 §11.10, §11.11 and appendix C).

use iscsi_proto::session::{DiscoverScope, TargetEvent, TargetRecord, TaskId};

use crate::harness::{EAGER, NO_TAG, Say, Wire, ping, read, text};

fn asked(wire: &mut Wire) -> (TaskId, DiscoverScope) {
    match wire.event() {
        Some(TargetEvent::Discover { task, scope }) => (task, scope),
        other => panic!("discovery was expected, not {other:?}"),
    }
}

fn record(number: usize) -> TargetRecord {
    let name = format!("iqn.2026-01.org.example:disk{number:04}")
        .parse()
        .unwrap();
    TargetRecord {
        name,
        addresses: vec![
            ("192.0.2.1:3260".to_owned(), 1),
            ("[2001:db8::1]:3260".to_owned(), 2),
        ],
    }
}

/// RFC 7143 §4.3, §7.4.3, §11.11 and §11.11.3 and appendix C: SendTargets, addresses with their portal groups, and the
/// logout of the whole session.
#[test]
fn a_discovery_session_answers_send_targets_and_nothing_else() {
    let mut wire = Wire::logged_in("SessionType=Discovery");
    wire.say(&text(3, 100, NO_TAG, 0x80, b"SendTargets=All\0"));
    let (task, scope) = asked(&mut wire);
    assert_eq!(scope, DiscoverScope::All);
    wire.session.answer_discovery(task, &[record(1)]);
    let heard = wire.hear_one();
    assert_eq!(
        (heard.opcode(), heard.head[1], heard.tag(), heard.word(20)),
        (0x24, 0x80, 3, NO_TAG)
    );
    assert_eq!(
        heard.data,
        b"TargetName=iqn.2026-01.org.example:disk0001\0TargetAddress=192.0.2.1:3260,1\0\
          TargetAddress=[2001:db8::1]:3260,2\0"
    );
    let command = read(4, 101, 0);
    wire.say(&command);
    wire.hear_reject(0x04, &command);
    let logout = Say::new(0x46, 0x81, 5).cmd_sn(101).byte(21, 7);
    wire.say(&logout);
    wire.hear_reject(0x04, &logout);
    wire.say(&Say::new(0x46, 0x80, 6).cmd_sn(101));
    let heard = wire.hear_one();
    assert_eq!((heard.opcode(), heard.head[2], heard.tag()), (0x26, 0, 6));
    assert!(wire.session.is_closed());
}

/// RFC 7143 appendix C: SendTargets works in normal sessions, and tells of no other target.
#[test]
fn a_normal_session_knows_its_own_target_only() {
    let mut wire = Wire::logged_in(EAGER);
    wire.say(&text(3, 100, NO_TAG, 0x80, b"SendTargets=\0"));
    let (task, scope) = asked(&mut wire);
    assert_eq!(scope, DiscoverScope::Own);
    wire.session.answer_discovery(task, &[]);
    assert_eq!(wire.hear_one().data, b"");
    wire.say(&text(4, 101, NO_TAG, 0x80, b"SendTargets=All\0"));
    assert_eq!(wire.hear_one().data, b"", "none is told");
    assert!(wire.event().is_none());
}

/// RFC 7143 §11.11.1, §11.11.2, §11.11.4 and §11.11.6: F=0 with a transfer tag until the last part.
#[test]
fn a_long_answer_comes_in_parts() {
    let mut wire = Wire::logged_in("SessionType=Discovery|MaxRecvDataSegmentLength=512");
    wire.say(&text(3, 100, NO_TAG, 0x80, b"SendTargets=All\0"));
    let (task, _) = asked(&mut wire);
    let records: Vec<_> = (0..10).map(record).collect();
    wire.session.answer_discovery(task, &records);
    let (mut whole, mut cmd_sn) = (Vec::new(), 100);
    loop {
        let heard = wire.hear_one();
        assert!(heard.data.len() <= 512);
        whole.extend_from_slice(&heard.data);
        if heard.head[1] == 0x80 {
            assert_eq!(heard.word(20), NO_TAG);
            break;
        }
        assert_eq!(heard.head[1], 0x40, "continues, is not final");
        cmd_sn += 1;
        wire.say(&text(3, cmd_sn, heard.word(20), 0x80, b""));
    }
    assert_eq!(iscsi_proto::discovery::parse(&whole).unwrap(), records);
    assert_eq!(cmd_sn, 102);
}

/// RFC 7143 §6.2, §11.10.2 and §11.10.5: a text that goes on is answered by an empty response.
#[test]
fn a_long_request_comes_in_parts() {
    let mut wire = Wire::logged_in(EAGER);
    wire.say(&text(3, 100, NO_TAG, 0x40, b"X-org.example.a=1\0X-org.ex"));
    let heard = wire.hear_one();
    assert_eq!(
        (heard.head[1], heard.data.len()),
        (0x00, 0),
        "an empty answer that asks for more"
    );
    let wrong = text(3, 101, heard.word(20) + 1, 0x80, b"");
    wire.say(&wrong);
    wire.hear_reject(0x09, &wrong);
    wire.say(&text(
        3,
        102,
        heard.word(20),
        0x80,
        b"ample.b=2\0MaxBurstLength=512\0",
    ));
    let heard = wire.hear_one();
    assert_eq!(heard.head[1], 0x80);
    assert_eq!(
        heard.data,
        b"X-org.example.a=NotUnderstood\0X-org.example.b=NotUnderstood\0MaxBurstLength=Reject\0"
    );
}

/// RFC 7143 §11.11.4: what exceeds the resources is rejected as such (0Ah).
#[test]
fn endless_texts_and_exchanges_are_cut_off() {
    let mut wire = Wire::logged_in(EAGER);
    let mut transfer = NO_TAG;
    for cmd_sn in 100..108 {
        wire.say(&text(3, cmd_sn, transfer, 0x40, &[b'x'; 8_192]));
        transfer = wire.hear_one().word(20);
    }
    let ninth = text(3, 108, transfer, 0x40, b"x");
    wire.say(&ninth);
    wire.hear_reject(0x0a, &ninth);
    for tag in 0..8 {
        wire.say(&text(tag, 109 + tag, NO_TAG, 0x00, b""));
        assert_eq!(wire.hear_one().opcode(), 0x24);
    }
    let ninth = text(8, 117, NO_TAG, 0x00, b"");
    wire.say(&ninth);
    wire.hear_reject(0x0a, &ninth);
}

/// RFC 7143 §6.2: a key is negotiated once.
#[test]
fn the_same_key_twice_is_refused() {
    let mut wire = Wire::logged_in(EAGER);
    let twice = text(3, 100, NO_TAG, 0x80, b"SendTargets=\0SendTargets=\0");
    wire.say(&twice);
    wire.hear_reject(0x04, &twice);
}

/// RFC 7143 §4.2.2.1: every request of an exchange has a place of its own.
#[test]
fn an_exchange_gives_back_the_place_of_its_latest_request() {
    let mut wire = Wire::logged_in(EAGER);
    wire.say(&read(1, 100, 0));
    wire.command();
    for round in 1..4 {
        wire.say(&text(3, 100 + round, NO_TAG, 0x00, b""));
        let transfer = wire.hear_one().word(20);
        let mut immediate = text(3, 101 + round, transfer, 0x80, b"SendTargets=\0");
        immediate.head[0] |= 0x40;
        wire.say(&immediate);
        let (task, _) = asked(&mut wire);
        wire.session.answer_discovery(task, &[]);
        wire.hear_one();
    }
    wire.say(&ping(50, 104, b""));
    let heard = wire.hear_one();
    assert_eq!(
        (heard.word(28), heard.word(32)),
        (104, 106),
        "four places, of which the command holds one"
    );
}

/// RFC 7143 §4.2.2.1: the same when the exchange began with an immediate request.
#[test]
fn an_exchange_that_ends_with_a_numbered_request_gives_its_place_back() {
    let mut wire = Wire::logged_in(EAGER);
    let mut first = text(3, 100, NO_TAG, 0x00, b"");
    first.head[0] |= 0x40;
    wire.say(&first);
    let transfer = wire.hear_one().word(20);
    wire.say(&text(3, 100, transfer, 0x80, b"SendTargets=\0"));
    let (task, _) = asked(&mut wire);
    wire.session.answer_discovery(task, &[]);
    let heard = wire.hear_one();
    assert_eq!((heard.word(28), heard.word(32)), (101, 104));
}

/// RFC 7143 §11.10.4: a request without a transfer tag begins anew, and what went on before is over.
#[test]
fn a_request_for_an_exchange_that_is_over_when_its_turn_comes_is_rejected() {
    let mut wire = Wire::logged_in(EAGER);
    wire.say(&text(3, 100, NO_TAG, 0x00, b""));
    let transfer = wire.hear_one().word(20);
    let late = text(3, 102, transfer, 0x80, b"X-org.example.late=1\0");
    wire.say(&late);
    assert!(wire.hear().is_empty(), "it waits for number 101");
    wire.say(&text(3, 101, NO_TAG, 0x00, b"X-org.example.new=1\0"));
    let heard = wire.hear();
    assert_eq!(
        heard.iter().map(|pdu| pdu.opcode()).collect::<Vec<_>>(),
        [0x24, 0x3f],
        "the new exchange goes on, the old one's request is refused"
    );
    assert_eq!(heard[1].data, late.bytes()[..48]);
}

/// RFC 7143 §11.10.3 and §11.10.4: an exchange goes on under its own task tag alone.
#[test]
fn a_transfer_tag_belongs_to_its_task_tag() {
    let mut wire = Wire::logged_in(EAGER);
    wire.say(&text(3, 100, NO_TAG, 0x00, b""));
    let transfer = wire.hear_one().word(20);
    let stranger = text(4, 101, transfer, 0x80, b"");
    wire.say(&stranger);
    wire.hear_reject(0x09, &stranger);
    wire.say(&text(3, 102, transfer, 0x80, b""));
    assert_eq!(wire.hear_one().head[1], 0x80);
}

/// RFC 7143 §6.2: a key is negotiated once in an exchange, in one PDU or in two.
#[test]
fn a_key_is_negotiated_once_in_an_exchange() {
    let mut wire = Wire::logged_in(EAGER);
    wire.say(&text(
        3,
        100,
        NO_TAG,
        0x00,
        b"MaxRecvDataSegmentLength=512\0",
    ));
    let transfer = wire.hear_one().word(20);
    let again = text(3, 101, transfer, 0x80, b"MaxRecvDataSegmentLength=1024\0");
    wire.say(&again);
    wire.hear_reject(0x04, &again);
    wire.say(&ping(50, 102, &[1; 3_000]));
    assert_eq!(
        wire.hear_one().data.len(),
        2_048,
        "as it was agreed upon at login"
    );
}

/// RFC 7143 §6.4, §11.10.1 and §11.10.4: what an exchange negotiates holds from its end on; one that is begun anew
/// never was.
#[test]
fn a_new_segment_length_holds_from_the_end_of_the_exchange_on() {
    let mut wire = Wire::logged_in(EAGER);
    wire.say(&text(
        3,
        100,
        NO_TAG,
        0x00,
        b"MaxRecvDataSegmentLength=512\0",
    ));
    let first = wire.hear_one();
    assert_eq!(
        (first.head[1], first.data.len()),
        (0x00, 0),
        "declared, so nothing is said to it"
    );
    wire.say(&ping(50, 101, &[1; 3_000]));
    assert_eq!(wire.hear_one().data.len(), 2_048);
    wire.say(&text(3, 101, NO_TAG, 0x00, b""));
    let anew = wire.hear_one().word(20);
    wire.say(&text(3, 102, anew, 0x80, b""));
    assert_eq!(wire.hear_one().head[1], 0x80);
    wire.say(&ping(50, 103, &[1; 3_000]));
    assert_eq!(
        wire.hear_one().data.len(),
        2_048,
        "the exchange was begun anew"
    );
    wire.say(&text(
        3,
        103,
        NO_TAG,
        0x80,
        b"MaxRecvDataSegmentLength=512\0",
    ));
    assert_eq!(wire.hear_one().head[1], 0x80);
    wire.say(&ping(50, 104, &[1; 3_000]));
    assert_eq!(wire.hear_one().data.len(), 512);
}

/// RFC 7143 §6.2: an exchange that never ends gathers no more than one request may have.
#[test]
fn an_endless_exchange_is_cut_off() {
    let mut wire = Wire::logged_in(EAGER);
    let mut transfer = NO_TAG;
    for number in 0..9 {
        let key = format!("X-org.example.{number}={}\0", "v".repeat(8_000));
        let request = text(3, 100 + number, transfer, 0x00, key.as_bytes());
        wire.say(&request);
        let heard = wire.hear_one();
        if heard.opcode() == 0x3f {
            assert_eq!((heard.head[2], number), (0x0a, 8));
            return;
        }
        transfer = heard.word(20);
    }
    panic!("72 KB of text were taken");
}

/// RFC 7143 §6.4: keys that belong to the login are refused here, and the session goes on.
#[test]
fn what_the_login_settled_is_not_negotiated_anew() {
    let mut wire = Wire::logged_in(EAGER);
    wire.say(&text(
        3,
        100,
        NO_TAG,
        0x80,
        b"HeaderDigest=CRC32C\0MaxConnections=4\0ErrorRecoveryLevel=2\0TaskReporting=FastAbort\0\
          InitiatorAlias=me\0",
    ));
    assert_eq!(
        wire.hear_one().data,
        b"HeaderDigest=Reject\0MaxConnections=Reject\0ErrorRecoveryLevel=Reject\0TaskReporting=Reject\0"
    );
    wire.say(&read(1, 101, 0));
    wire.command();
}

/// RFC 7143 §4.3: in a discovery session there is nothing to manage, and nothing to ping. What asks for no answer
/// (§11.18.1) is left alone.
#[test]
fn a_discovery_session_has_no_tasks_to_manage_and_no_echo() {
    let mut wire = Wire::logged_in("SessionType=Discovery");
    let ping = Say::new(0x40, 0x80, 8).word(20, NO_TAG).cmd_sn(100);
    wire.say(&ping);
    wire.hear_reject(0x04, &ping);
    wire.say(&Say::new(0x40, 0x80, NO_TAG).word(20, NO_TAG).cmd_sn(100));
    assert!(wire.hear().is_empty());
    let request = crate::harness::manage(5, 9, 100, NO_TAG, 0);
    wire.say(&request);
    wire.hear_reject(0x04, &request);
    let recovery = Say::new(0x46, 0x82, 5).cmd_sn(100).byte(21, 7);
    wire.say(&recovery);
    wire.hear_reject(0x04, &recovery);
    assert!(!wire.session.is_closed());
}
