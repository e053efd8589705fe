//! What becomes of commands while the target is away.

#[path = "harness/actor.rs"]
mod actor;
mod harness;

use std::time::Duration;

use actor::{Act, Actor, Cue, What};
use bytes::Bytes;
use harness::{Wire, connect, soon, with_outage};
use iscsi_initiator::{Error, Outage, Session};
use iscsi_proto::scsi::Command;
use iscsi_proto::session::{Completion, Transfer};
use iscsi_proto::wire::lun::Lun;
use tokio::task::JoinSet;
use vmthunder_volume::Class;

async fn write(session: Session, lba: u64) -> Result<Completion, Error> {
    let data = Transfer::Write(Bytes::from(vec![1; 512]));
    session
        .execute(Lun(0), &Command::write(lba, 1), data, Class::Demand)
        .await
}

async fn read(session: &Session) -> Result<Completion, Error> {
    session
        .execute(
            Lun(0),
            &Command::read(0, 1),
            Transfer::Read(512),
            Class::Demand,
        )
        .await
}

/// The target takes 64 commands at once and answers none: those are in doubt, the others certainly did nothing.
#[tokio::test]
async fn with_fail_everything_ends_at_once_and_says_what_is_certain() {
    let actor = Actor::new(|Cue { connection, what }| match (connection, what) {
        (0, What::Write(..)) => vec![],
        _ => vec![Act::Play],
    });
    let wire = Wire::to(&actor.portal(1).await).await;
    let session = soon(connect(&wire.address, with_outage(Outage::Fail))).await;
    let mut writes = JoinSet::new();
    for lba in 0..80 {
        writes.spawn(write(session.clone(), lba % 64));
    }
    actor
        .arrived(64, |what| matches!(what, What::Write(..)))
        .await;
    assert_eq!(session.in_flight(), 80);
    wire.set_down(true);
    let (mut in_doubt, mut untouched) = (0, 0);
    while let Some(ended) = soon(writes.join_next()).await {
        match ended.expect("no panic") {
            Err(Error::Interrupted) => in_doubt += 1,
            Err(Error::Unreachable(_)) => untouched += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((in_doubt, untouched, session.in_flight()), (64, 16, 0));
    let refused = soon(read(&session)).await;
    assert!(matches!(refused, Err(Error::Unreachable(_))), "{refused:?}");
    assert!(session.last_failure().is_some());
    wire.set_down(false);
    soon(session.connected()).await.expect("back");
    assert!(session.last_failure().is_none());
    soon(write(session, 1)).await.expect("written");
}

/// A read changes nothing, so that nothing is in doubt when it was sent.
#[tokio::test]
async fn a_write_that_was_sent_is_in_doubt_after_the_deadline_and_another_is_not() {
    let actor = Actor::new(|cue| match cue.what {
        What::Write(..) => vec![],
        _ => vec![Act::Play],
    });
    let wire = Wire::to(&actor.portal(1).await).await;
    let patience = Outage::Deadline(Duration::from_millis(50));
    let session = soon(connect(&wire.address, with_outage(patience))).await;
    let sent = tokio::spawn(write(session.clone(), 0));
    actor
        .arrived(1, |what| matches!(what, What::Write(..)))
        .await;
    wire.set_down(true);
    let lost = async {
        while session.is_connected() {
            tokio::task::yield_now().await;
        }
    };
    soon(lost).await;
    let late = soon(write(session.clone(), 1)).await;
    assert!(matches!(late, Err(Error::Unreachable(_))), "{late:?}");
    let sent = soon(sent).await.expect("no panic");
    assert!(matches!(sent, Err(Error::Interrupted)), "{sent:?}");
}
