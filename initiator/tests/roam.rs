//! A session that finds its target at several addresses.

#[path = "harness/actor.rs"]
mod actor;
mod harness;

use std::sync::Arc;

use actor::{Act, Actor, Cue, What};
use bytes::Bytes;
use harness::{TARGET, Wire, disk, name, options, pattern, serve, soon};
use iscsi_initiator::{Error, Remote, Session};
use iscsi_proto::scsi::Command;
use iscsi_proto::session::{ManagementAnswer, ManagementFunction, Transfer};
use iscsi_proto::wire::lun::Lun;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use vmthunder_volume::{BlockSize, Class, Span, Volume};

async fn roaming(addresses: &[&str]) -> Result<Session, Error> {
    soon(Session::connect_any(addresses, &name(TARGET), options())).await
}

async fn write(session: Session, lba: u64, byte: u8) -> Result<(), Error> {
    let data = Transfer::Write(Bytes::from(vec![byte; 512]));
    session
        .execute(Lun(0), &Command::write(lba, 1), data, Class::Demand)
        .await
        .map(|_| ())
}

/// RFC 7143 §6.3.5: the session is reinstated through whatever portal of the group answers.
#[tokio::test]
async fn one_portal_after_the_other_goes_away_under_writes() {
    let disk = disk(BlockSize::B512, 1 << 20);
    let served = serve(Arc::clone(&disk)).await;
    let wires = [
        Wire::to(&served.address).await,
        Wire::to(&served.address).await,
    ];
    let session = roaming(&[&wires[0].address, &wires[1].address])
        .await
        .expect("a session");
    let remote = soon(Remote::attach(session.clone(), Lun(0)))
        .await
        .expect("a unit");
    for round in 0..20u64 {
        let [first, second] = &wires;
        let (up, down) = if round % 2 == 0 {
            (second, first)
        } else {
            (first, second)
        };
        up.set_down(false);
        let bytes = Bytes::from(pattern(1 << 20, round));
        let writing = tokio::spawn({
            let (remote, bytes) = (remote.clone(), bytes.clone());
            async move { remote.write(0, bytes).await }
        });
        tokio::task::yield_now().await;
        down.set_down(true);
        soon(writing).await.expect("no panic").expect("written");
        let read = soon(remote.read(Span::new(0, 1 << 20), Class::Demand)).await;
        assert!(read.expect("read") == bytes, "round {round}");
    }
    assert!(session.logins() > 10, "{} logins", session.logins());
}

#[tokio::test]
async fn the_first_address_that_answers_is_taken_and_the_best_reason_is_told() {
    let closed = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let nobody = closed.local_addr().expect("an address").to_string();
    drop(closed);
    let actor = Actor::new(|_| vec![Act::Play]);
    let portal = actor.portal(1).await;
    roaming(&[&nobody, &portal]).await.expect("a session");
    let refusing = Actor::new(|_| vec![Act::Refuse(iscsi_proto::login::LoginStatus::NOT_FOUND)]);
    let refusing = refusing.portal(1).await;
    let refused = roaming(&[&refusing, &nobody]).await;
    assert!(matches!(refused, Err(Error::Refused(_))), "{refused:?}");
    let nowhere = roaming(&[]).await;
    assert!(matches!(nowhere, Err(Error::BadAddress)), "{nowhere:?}");
}

#[tokio::test]
async fn a_portal_that_lets_nobody_live_is_passed_over() {
    let deadly = Actor::new(|cue| match cue.what {
        What::Login => vec![Act::Play],
        _ => vec![Act::Cut],
    });
    let good = Actor::new(|_| vec![Act::Play]);
    let portals = [deadly.portal(1).await, good.portal(1).await];
    let session = roaming(&[&portals[0], &portals[1]])
        .await
        .expect("a session");
    soon(write(session, 3, 0xa1)).await.expect("written");
    assert_eq!(good.writes(), [(0, 3, 0xa1)]);
}

/// What two portals of these groups see of a write that the first did not answer, and how it ends.
async fn write_over_the_loss_of_a_portal(
    groups: [u16; 2],
    answer: ManagementAnswer,
) -> (Result<(), Error>, Vec<What>) {
    let actor = Actor::new(move |Cue { connection, what }| match (connection, what) {
        (0, What::Write(..)) => vec![],
        (_, What::Manage(_)) => vec![Act::Manage(answer)],
        _ => vec![Act::Play],
    });
    let first = Wire::to(&actor.portal(groups[0]).await).await;
    let second = actor.portal(groups[1]).await;
    let session = roaming(&[&first.address, &second])
        .await
        .expect("a session");
    let writing = tokio::spawn(write(session.clone(), 3, 0xa1));
    actor
        .arrived(1, |what| matches!(what, What::Write(..)))
        .await;
    first.set_down(true);
    let written = soon(writing).await.expect("no panic");
    soon(write(session, 4, 0xb1))
        .await
        .expect("the unit goes on");
    let journal = actor.stage().journal.clone();
    let seen = journal.into_iter().filter(|cue| cue.connection == 1);
    (
        written,
        seen.map(|cue| cue.what)
            .filter(|what| *what != What::Login)
            .collect(),
    )
}

const RESET: What = What::Manage(ManagementFunction::LogicalUnitReset);

/// RFC 7143 §6.3.5: in the same portal group the login itself ends what is left of the session.
#[tokio::test]
async fn in_the_same_portal_group_a_write_is_repeated_at_once() {
    let (written, seen) = write_over_the_loss_of_a_portal([1, 1], ManagementAnswer::Complete).await;
    assert!(written.is_ok(), "{written:?}");
    assert_eq!(seen, [What::Write(3, 0xa1), What::Write(4, 0xb1)]);
}

/// RFC 7143 §4.4.2: another portal group is another nexus, which the login does not touch.
#[tokio::test]
async fn in_another_portal_group_the_unit_is_reset_before_a_write_is_repeated() {
    let (written, seen) = write_over_the_loss_of_a_portal([1, 2], ManagementAnswer::Complete).await;
    assert!(written.is_ok(), "{written:?}");
    assert_eq!(seen, [RESET, What::Write(3, 0xa1), What::Write(4, 0xb1)]);
}

#[tokio::test]
async fn where_the_reset_is_refused_a_write_in_doubt_is_not_repeated() {
    for answer in [
        ManagementAnswer::Unsupported,
        ManagementAnswer::Unauthorized,
    ] {
        let (written, seen) = write_over_the_loss_of_a_portal([1, 2], answer).await;
        assert!(matches!(written, Err(Error::Interrupted)), "{written:?}");
        assert_eq!(seen, [RESET, What::Write(4, 0xb1)]);
    }
}

/// What waits in the system's send buffer when a connection is given up never reaches the target: it would overwrite
/// what was written since.
#[tokio::test]
async fn a_connection_that_was_given_up_brings_no_late_writes() {
    let actor = Actor::new(|_| vec![Act::Play]);
    let portal = actor.portal(1).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let mut options = options();
    options.ping_interval = Some(std::time::Duration::from_millis(50));
    options.ping_timeout = std::time::Duration::from_millis(50);
    options.login_timeout = std::time::Duration::from_millis(200);
    let connecting = tokio::spawn(async move {
        Session::connect_any(&[&address, &portal], &name(TARGET), options).await
    });
    let (mut stream, _) = soon(listener.accept()).await.expect("a connection");
    let upstream = actor.portal(1).await;
    let mut server = tokio::net::TcpStream::connect(upstream)
        .await
        .expect("connected");
    let session = {
        let carried = tokio::io::copy_bidirectional(&mut stream, &mut server);
        tokio::select! {
            session = soon(connecting) => session.expect("no panic").expect("a session"),
            _ = carried => panic!("closed"),
        }
    };
    // From here on nobody reads, and the login answers no ping.
    let mut writes = tokio::task::JoinSet::new();
    for lba in 0..40 {
        let session = session.clone();
        writes.spawn(async move {
            let data = Transfer::Write(Bytes::from(vec![1; 256 * 1024]));
            let command = Command::write(lba, 512);
            session.execute(Lun(0), &command, data, Class::Demand).await
        });
    }
    let moved = async {
        while session.logins() < 2 {
            tokio::task::yield_now().await;
        }
    };
    soon(moved).await;
    let mut late = Vec::new();
    let end = soon(stream.read_to_end(&mut late)).await;
    let reset = end.expect_err("not closed in order");
    assert_eq!(reset.kind(), std::io::ErrorKind::ConnectionReset);
}
