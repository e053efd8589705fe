//! Targets and wires that misbehave without breaking, and targets that say so beforehand.

#[path = "harness/actor.rs"]
mod actor;
mod harness;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use actor::{Act, Actor, What};
use bytes::Bytes;
use harness::{TARGET, Wire, connect, name, options, soon};
use iscsi_initiator::{Error, Options, Outage, Reconnect, Session};
use iscsi_proto::login::LoginStatus;
use iscsi_proto::scsi::{Command, Status};
use iscsi_proto::session::{Completion, Transfer};
use iscsi_proto::wire::lun::Lun;
use vmthunder_volume::Class;

async fn read(session: &Session, lba: u64) -> Result<Completion, Error> {
    let command = Command::read(lba, 1);
    let reading = session.execute(Lun(0), &command, Transfer::Read(512), Class::Demand);
    soon(reading).await
}

fn write(session: &Session, lba: u64) -> tokio::task::JoinHandle<Result<Completion, Error>> {
    let session = session.clone();
    tokio::spawn(async move {
        let data = Transfer::Write(Bytes::from(vec![1; 512]));
        let command = Command::write(lba, 1);
        session.execute(Lun(0), &command, data, Class::Demand).await
    })
}

/// RFC 7143 §11.9.1, event 1: what was sent is answered, the session logs out, and comes back.
#[tokio::test]
async fn a_target_that_asks_for_a_logout_gets_one_and_nobody_notices() {
    let asked = AtomicU32::new(0);
    let actor = Actor::new(move |cue| match cue.what {
        What::Read(5) if asked.fetch_add(1, Ordering::SeqCst) < 1 => {
            vec![Act::AskLogout(Duration::from_secs(30)), Act::Play]
        }
        _ => vec![Act::Play],
    });
    let session = soon(connect(&actor.portal(1).await, options())).await;
    for lba in [5, 6, 7] {
        assert_eq!(
            read(&session, lba).await.expect("read").status,
            Status::GOOD
        );
    }
    assert_eq!(session.logins(), 2);
    let reads = |lba| {
        let same = |cue: &&actor::Cue| cue.what == What::Read(lba);
        actor.stage().journal.iter().filter(same).count()
    };
    assert_eq!([reads(5), reads(6), reads(7)], [1, 1, 1]);
}

/// RFC 7143 §11.9.1, event 3: the session is gone, and what was not answered is sent again.
#[tokio::test]
async fn a_target_that_drops_the_session_is_logged_in_to_again() {
    let dropped = AtomicU32::new(0);
    let actor = Actor::new(move |cue| match cue.what {
        What::Read(5) if dropped.fetch_add(1, Ordering::SeqCst) < 1 => {
            vec![Act::Drop { time2wait: 0 }]
        }
        _ => vec![Act::Play],
    });
    let session = soon(connect(&actor.portal(1).await, options())).await;
    assert_eq!(read(&session, 5).await.expect("read").status, Status::GOOD);
    assert_eq!(session.logins(), 2);
}

/// RFC 7143 §7.14: a peer that is gone without a word does not answer pings.
#[tokio::test]
async fn a_half_open_connection_is_found_and_replaced() {
    let actor = Actor::new(|_| vec![Act::Play]);
    let wire = Wire::to(&actor.portal(1).await).await;
    let watchful = Options {
        ping_interval: Some(Duration::from_millis(50)),
        ping_timeout: Duration::from_millis(50),
        ..options()
    };
    let session = soon(connect(&wire.address, watchful)).await;
    read(&session, 1).await.expect("read");
    wire.silence();
    read(&session, 2).await.expect("read");
    assert!(session.logins() > 1);
}

#[tokio::test]
async fn a_portal_that_never_answers_a_login_does_not_hold_the_session() {
    let actor = Actor::new(|cue| match (cue.connection, cue.what) {
        (1, What::Login) => vec![],
        _ => vec![Act::Play],
    });
    let wire = Wire::to(&actor.portal(1).await).await;
    let hasty = Options {
        login_timeout: Duration::from_millis(100),
        ..options()
    };
    let session = soon(connect(&wire.address, hasty)).await;
    wire.cut();
    read(&session, 1).await.expect("read");
    let logins = actor
        .stage()
        .journal
        .iter()
        .filter(|cue| cue.what == What::Login)
        .count();
    assert_eq!((logins, session.logins()), (3, 2));
}

/// The reason is told, whether commands wait for ever or give up.
#[tokio::test]
async fn a_login_that_is_refused_for_ever_is_told_of() {
    for (outage, waits) in [
        (Outage::Wait, true),
        (Outage::Deadline(Duration::from_millis(100)), false),
        (Outage::Fail, false),
    ] {
        let actor = Actor::new(|cue| match (cue.connection, cue.what) {
            (1.., What::Login) => vec![Act::Refuse(LoginStatus::AUTHENTICATION_FAILURE)],
            _ => vec![Act::Play],
        });
        let wire = Wire::to(&actor.portal(1).await).await;
        let reconnect = Reconnect {
            outage,
            ..options().reconnect
        };
        let session = soon(connect(
            &wire.address,
            Options {
                reconnect,
                ..options()
            },
        ))
        .await;
        wire.cut();
        let refused = async {
            while !matches!(session.last_failure(), Some(Error::Refused(_))) {
                tokio::task::yield_now().await;
            }
        };
        soon(refused).await;
        if waits {
            let reading = tokio::spawn({
                let session = session.clone();
                async move { read(&session, 1).await }
            });
            actor.arrived(4, |what| what == What::Login).await;
            assert!(!reading.is_finished());
            soon(session.close()).await;
            let closed = soon(reading).await.expect("no panic");
            assert!(matches!(closed, Err(Error::Closed)), "{closed:?}");
        } else {
            let failed = read(&session, 1).await;
            let Err(Error::Unreachable(reason)) = failed else {
                panic!("{failed:?}")
            };
            assert!(matches!(
                *reason,
                Error::Refused(LoginStatus::AUTHENTICATION_FAILURE)
            ));
        }
    }
}

#[tokio::test]
async fn a_session_that_is_closed_tells_what_is_in_doubt() {
    let actor = Actor::new(|cue| match cue.what {
        What::Write(..) | What::Read(_) => vec![],
        _ => vec![Act::Play],
    });
    let address = actor.portal(1).await;
    let session = soon(Session::connect_to(&address, &name(TARGET), options()))
        .await
        .expect("a session");
    let writing = write(&session, 1);
    let reading = tokio::spawn({
        let session = session.clone();
        async move { read(&session, 1).await }
    });
    actor
        .arrived(1, |what| matches!(what, What::Write(..)))
        .await;
    actor.arrived(1, |what| matches!(what, What::Read(_))).await;
    soon(session.close()).await;
    let written = soon(writing).await.expect("no panic");
    assert!(matches!(written, Err(Error::Interrupted)), "{written:?}");
    let read = soon(reading).await.expect("no panic");
    assert!(matches!(read, Err(Error::Closed)), "{read:?}");
    let over = soon(session.connected()).await;
    assert!(matches!(over, Err(Error::Closed)), "{over:?}");
}
