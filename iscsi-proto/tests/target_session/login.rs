//! The login as the session sees it: in, out, too slow.

use std::time::Duration;

use iscsi_proto::login::LoginStatus;
use iscsi_proto::session::{Breach, CloseReason, ConnectionState, TargetEvent};

use crate::harness::{EAGER, Wire, config, login, read};

fn closed(wire: &mut Wire) -> CloseReason {
    match wire.event() {
        Some(TargetEvent::Closed(reason)) => reason,
        other => panic!("the end was expected, not {other:?}"),
    }
}

/// RFC 7143 §8.1: from the connection to S5.
#[test]
fn a_login_leads_to_the_full_feature_phase() {
    let mut wire = Wire::new(config());
    assert_eq!(wire.session.state(), ConnectionState::XptUp);
    wire.say(&login(EAGER));
    assert_eq!(wire.session.state(), ConnectionState::InLogin);
    assert!(wire.hear().is_empty(), "nobody decided yet");
    let wire = Wire::logged_in(EAGER);
    assert_eq!(wire.session.state(), ConnectionState::LoggedIn);
}

/// RFC 7143 §4.2.4: nothing but a Login Request begins a connection.
#[test]
fn before_the_first_login_request_nothing_is_answered() {
    let mut wire = Wire::new(config());
    wire.say(&read(1, 100, 512));
    let reason = closed(&mut wire);
    assert_eq!(reason, CloseReason::ProtocolError(Breach::NoLogin));
    assert_eq!(
        reason.to_string(),
        "the initiator broke the protocol: its first PDU is no Login Request"
    );
    assert!(wire.hear().is_empty() && wire.session.is_closed());
}

/// RFC 7143 §11.13.5, status 020Bh: a PDU that has no place in a login.
#[test]
fn another_pdu_during_login_is_refused_as_such() {
    let mut wire = Wire::new(config());
    wire.say(&login(EAGER));
    wire.say(&read(1, 100, 512));
    let heard = wire.hear_one();
    assert_eq!(
        (heard.opcode(), heard.head[36], heard.head[37]),
        (0x23, 0x02, 0x0b)
    );
    assert!(wire.session.is_closed());
}

/// RFC 7143 §11.13.5: the status says why, then the connection ends.
#[test]
fn a_refused_login_is_answered_and_closed() {
    let mut wire = Wire::new(config());
    wire.say(&login(EAGER));
    wire.session.refuse(LoginStatus {
        class: 0x02,
        detail: 0x02,
    });
    let heard = wire.hear_one();
    assert_eq!((heard.head[36], heard.head[37]), (0x02, 0x02));
    assert!(matches!(wire.event(), Some(TargetEvent::Login(_))));
    let reason = CloseReason::LoginFailed {
        status: LoginStatus::AUTHORIZATION_FAILURE,
        violation: None,
    };
    assert_eq!(closed(&mut wire), reason);
}

/// RFC 7143 §6.3: a login that leads nowhere does not hold its connection.
#[test]
fn a_login_that_takes_too_long_is_dropped() {
    let mut wire = Wire::new(config());
    let due = wire.session.poll_timeout().unwrap();
    assert_eq!(due - wire.now, Duration::from_secs(15));
    wire.pass(Duration::from_secs(14));
    assert!(!wire.session.is_closed());
    wire.pass(Duration::from_secs(1));
    assert_eq!(closed(&mut wire), CloseReason::LoginTimeout);
}

/// RFC 7143 §7.1.4.4, §7.6 and §E.1: the tasks of a connection end with it.
#[test]
fn a_broken_connection_takes_its_tasks_along() {
    let mut wire = Wire::logged_in(EAGER);
    wire.say(&read(1, 100, 512));
    let task = wire.command().task;
    wire.session.handle_disconnect();
    assert!(matches!(wire.event(), Some(TargetEvent::Aborted(tasks)) if tasks == [task]));
    assert_eq!(closed(&mut wire), CloseReason::Disconnected);
    wire.good(task);
    wire.session.close();
    assert!(wire.hear().is_empty() && wire.event().is_none());
    assert_eq!(wire.session.state(), ConnectionState::CleanupWait);
}
