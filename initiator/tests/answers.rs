//! What a session makes of answers that are none: too slow, too busy, news of the unit.

#[path = "harness/actor.rs"]
mod actor;
mod harness;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use actor::{Act, Actor, Cue, What};
use bytes::Bytes;
use harness::{connect, options, soon};
use iscsi_initiator::{CacheLoss, Error, Options, Outage, Reconnect, Remote, Resize, Session};
use iscsi_proto::scsi::{Command, Status};
use iscsi_proto::session::{Completion, ManagementAnswer, ManagementFunction, Transfer};
use iscsi_proto::wire::lun::Lun;
use vmthunder_volume::{Class, Error as VolumeError, Span, Volume};

const ABORT: ManagementFunction = ManagementFunction::AbortTask;
const RESET: ManagementFunction = ManagementFunction::LogicalUnitReset;

async fn session(actor: &Actor, options: Options) -> Session {
    soon(connect(&actor.portal(1).await, options)).await
}

async fn write(session: &Session, lba: u64, byte: u8) -> Result<Completion, Error> {
    let data = Transfer::Write(Bytes::from(vec![byte; 512]));
    let command = Command::write(lba, 1);
    let writing = session.execute(Lun(0), &command, data, Class::Demand);
    soon(writing).await
}

async fn read(session: &Session, lba: u64, class: Class) -> Result<Completion, Error> {
    let command = Command::read(lba, 1);
    let reading = session.execute(Lun(0), &command, Transfer::Read(512), class);
    soon(reading).await
}

/// Ends slowly: three steps of 50 ms each.
fn hurried() -> Options {
    Options {
        command_timeout: Some(Duration::from_millis(50)),
        management_timeout: Duration::from_millis(50),
        ..options()
    }
}

#[tokio::test]
async fn a_slow_command_is_aborted_and_the_others_go_on() {
    let actor = Actor::new(|cue| match cue.what {
        What::Write(1, _) => vec![],
        _ => vec![Act::Play],
    });
    let session = session(&actor, options()).await;
    let hasty = session.with_command_timeout(Some(Duration::from_millis(50)));
    let patient = session.with_command_timeout(None);
    let slow = write(&hasty, 1, 0xa1).await;
    assert!(matches!(slow, Err(Error::TimedOut)), "{slow:?}");
    write(&patient, 2, 0xa2).await.expect("written");
    assert_eq!(actor.managed(), [(0, ABORT)]);
    assert_eq!(session.logins(), 1);
}

/// RFC 7143 §11.5.1: what is lost by the reset, but was not slow, is carried out again.
#[tokio::test]
async fn a_command_that_cannot_be_aborted_is_ended_by_a_reset_and_its_neighbours_are_repeated() {
    for silent in [false, true] {
        let held = AtomicU32::new(0);
        let actor = Actor::new(move |cue| match cue.what {
            What::Write(1, _) => vec![],
            What::Read(5) if held.fetch_add(1, Ordering::SeqCst) < 1 => vec![],
            What::Manage(ABORT) if silent => vec![],
            What::Manage(ABORT) => vec![Act::Manage(ManagementAnswer::Unsupported)],
            _ => vec![Act::Play],
        });
        let session = session(&actor, hurried()).await;
        let patient = session.with_command_timeout(None);
        let neighbour = tokio::spawn(async move { read_after_reset(&patient).await });
        actor.arrived(1, |what| what == What::Read(5)).await;
        let slow = write(&session, 1, 0xa1).await;
        assert!(matches!(slow, Err(Error::TimedOut)), "{slow:?}");
        assert_eq!(actor.managed(), [(0, ABORT), (0, RESET)]);
        soon(neighbour).await.expect("no panic");
        assert_eq!(session.logins(), 1);
    }
}

/// A read that is only answered when it comes again.
async fn read_after_reset(session: &Session) {
    let command = Command::read(5, 1);
    let reading = session.execute(Lun(0), &command, Transfer::Read(512), Class::Demand);
    soon(reading).await.expect("read");
}

/// Whoever waits for the slow command learns that nobody knows; the others do not notice.
#[tokio::test]
async fn where_no_reset_helps_the_session_is_made_again() {
    let actor = Actor::new(|Cue { connection, what }| match (connection, what) {
        (0, What::Write(..) | What::Read(_)) => vec![],
        (0, What::Manage(_)) => vec![Act::Manage(ManagementAnswer::Unsupported)],
        _ => vec![Act::Play],
    });
    let session = session(&actor, hurried()).await;
    let patient = session.with_command_timeout(None);
    let neighbour = tokio::spawn(async move { read_after_reset(&patient).await });
    let slow = write(&session, 1, 0xa1).await;
    assert!(matches!(slow, Err(Error::Interrupted)), "{slow:?}");
    soon(neighbour).await.expect("no panic");
    assert_eq!(actor.managed(), [(0, ABORT), (0, RESET)]);
    assert_eq!(session.logins(), 2);
    assert_eq!(actor.writes(), [(0, 1, 0xa1)], "not again");
}

#[tokio::test]
async fn a_reset_repeats_what_can_be_repeated_and_ends_the_rest() {
    let held = AtomicU32::new(0);
    let actor = Actor::new(move |cue| match cue.what {
        What::Write(..) | What::Other(0x1b) if held.fetch_add(1, Ordering::SeqCst) < 2 => vec![],
        _ => vec![Act::Play],
    });
    let session = session(&actor, options()).await;
    let writing = tokio::spawn({
        let session = session.clone();
        async move { write(&session, 1, 0xa1).await }
    });
    actor.arrived(1, |what| what == What::Write(1, 0xa1)).await;
    let stopping = tokio::spawn({
        let session = session.clone();
        let stop = Command::StartStopUnit {
            start: false,
            load_eject: false,
            immediate: false,
            power_condition: 0,
        };
        async move {
            session
                .execute(Lun(0), &stop, Transfer::None, Class::Demand)
                .await
        }
    });
    actor.arrived(1, |what| what == What::Other(0x1b)).await;
    soon(session.reset_unit(Lun(0))).await.expect("reset");
    soon(writing).await.expect("no panic").expect("written");
    let stopped = soon(stopping).await.expect("no panic");
    assert!(matches!(stopped, Err(Error::Aborted)), "{stopped:?}");
    assert_eq!(actor.writes(), [(0, 1, 0xa1), (0, 1, 0xa1)]);
    let refusing = Actor::new(|cue| match cue.what {
        What::Manage(_) => vec![Act::Manage(ManagementAnswer::Unauthorized)],
        _ => vec![Act::Play],
    });
    let refused = soon(self::session(&refusing, options()).await.reset_unit(Lun(0))).await;
    assert!(matches!(
        refused,
        Err(Error::ResetRefused(Some(ManagementAnswer::Unauthorized)))
    ));
}

fn status(answer: Result<Completion, Error>) -> Status {
    answer.expect("an answer").status
}

/// SAM-5 §5.3: BUSY and TASK SET FULL ask to come again later; RESERVATION CONFLICT and ACA ACTIVE do not.
#[tokio::test]
async fn a_busy_unit_is_asked_again_for_those_who_wait() {
    let refusals = AtomicU32::new(0);
    let actor = Actor::new(move |cue| match cue.what {
        What::Read(0) if refusals.fetch_add(1, Ordering::SeqCst) < 6 => {
            vec![Act::Status(if cue.connection == 0 { 0x08 } else { 0x28 })]
        }
        What::Read(1) => vec![Act::Status(0x08)],
        What::Read(2) => vec![Act::Status(0x18)],
        What::Read(3) => vec![Act::Status(0x30)],
        _ => vec![Act::Play],
    });
    let session = session(&actor, options()).await;
    assert_eq!(status(read(&session, 0, Class::Demand).await), Status::GOOD);
    let reads = |actor: &Actor, lba| {
        let same = |cue: &&Cue| cue.what == What::Read(lba);
        actor.stage().journal.iter().filter(same).count()
    };
    assert_eq!(reads(&actor, 0), 7);
    for (class, lba, answer) in [
        (Class::Peer, 1, Status::BUSY),
        (Class::Demand, 2, Status::RESERVATION_CONFLICT),
        (Class::Demand, 3, Status(0x30)),
    ] {
        assert_eq!(status(read(&session, lba, class).await), answer);
        assert_eq!(reads(&actor, lba), 1);
    }
    for (outage, at_least, at_most) in [
        (Outage::Deadline(Duration::from_millis(30)), 2, 10),
        (Outage::Fail, 5, 5),
    ] {
        let before = reads(&actor, 1);
        let reconnect = Reconnect {
            outage,
            ..options().reconnect
        };
        let impatient = Options {
            reconnect,
            ..options()
        };
        let session = self::session(&actor, impatient).await;
        assert_eq!(status(read(&session, 1, Class::Demand).await), Status::BUSY);
        let tries = reads(&actor, 1) - before;
        assert!((at_least..=at_most).contains(&tries), "{outage:?}: {tries}");
    }
}

/// SAM-5 §5.3: TASK ABORTED tells that another initiator ended the command.
#[tokio::test]
async fn what_another_initiator_aborted_is_repeated_if_that_does_no_harm() {
    let aborted = AtomicU32::new(0);
    let actor = Actor::new(move |cue| match cue.what {
        What::Write(..) if aborted.fetch_add(1, Ordering::SeqCst) < 1 => vec![Act::Status(0x40)],
        What::Other(0x1b) => vec![Act::Status(0x40)],
        _ => vec![Act::Play],
    });
    let session = session(&actor, options()).await;
    assert_eq!(status(write(&session, 1, 0xa1).await), Status::GOOD);
    assert_eq!(actor.writes().len(), 2);
    let stop = Command::StartStopUnit {
        start: false,
        load_eject: false,
        immediate: false,
        power_condition: 0,
    };
    let stopped = session.execute(Lun(0), &stop, Transfer::None, Class::Demand);
    assert_eq!(status(soon(stopped).await), Status(0x40));
}

/// How a write, this Unit Attention, and two flushes end; and how often the cache counts as lost.
async fn flush_after(
    attention: (u8, u8),
    write_cache: bool,
    cache_loss: CacheLoss,
) -> ([Result<(), VolumeError>; 2], u64) {
    let told = AtomicU32::new(0);
    let (asc, ascq) = attention;
    let actor = Actor::new(move |cue| match cue.what {
        What::Read(9) if told.fetch_add(1, Ordering::SeqCst) < 1 => vec![Act::Sense(6, asc, ascq)],
        _ => vec![Act::Play],
    });
    actor.stage().write_cache = write_cache;
    let session = session(
        &actor,
        Options {
            cache_loss,
            ..options()
        },
    )
    .await;
    let remote = soon(Remote::attach(session.clone(), Lun(0)))
        .await
        .expect("a unit");
    soon(remote.write(512, Bytes::from(vec![1; 512])))
        .await
        .expect("written");
    soon(remote.read(Span::new(9 * 512, 512), Class::Demand))
        .await
        .expect("read");
    let flushes = [soon(remote.flush()).await, soon(remote.flush()).await];
    (flushes, session.cache_losses())
}

/// SPC-4 §5.16, SBC-3 §4.15: what a volatile cache held is gone when the unit was switched on.
#[tokio::test]
async fn a_flush_after_a_restart_of_the_unit_tells_what_may_be_lost() {
    for code in [0x00, 0x01, 0x04] {
        let (flushes, losses) = flush_after((0x29, code), true, CacheLoss::FailFlush).await;
        assert!(
            matches!(flushes, [Err(VolumeError::Lost), Ok(())]),
            "a volume tells it, too: {flushes:?}"
        );
        assert_eq!(losses, 1);
        let (flushes, losses) = flush_after((0x29, code), true, CacheLoss::Report).await;
        assert!(matches!(flushes, [Ok(()), Ok(())]), "{flushes:?}");
        assert_eq!(losses, 1);
    }
    for (attention, write_cache) in [
        ((0x29, 0x00), false),
        ((0x29, 0x02), true),
        ((0x29, 0x03), true),
        ((0x29, 0x07), true),
        ((0x2a, 0x01), true),
    ] {
        let (flushes, losses) = flush_after(attention, write_cache, CacheLoss::FailFlush).await;
        assert!(
            matches!(flushes, [Ok(()), Ok(())]),
            "{attention:x?}: {flushes:?}"
        );
        assert_eq!(losses, 0);
    }
}

/// A unit that changes to so many blocks while a Unit Attention tells of it: what is known then, and how reads end.
async fn resized(blocks: usize, resize: Resize) -> (u64, [Result<Bytes, VolumeError>; 2]) {
    let actor = Actor::new(|_| vec![Act::Play]);
    let session = session(
        &actor,
        Options {
            resize,
            ..options()
        },
    )
    .await;
    let remote = soon(Remote::attach(session, Lun(0))).await.expect("a unit");
    assert_eq!(remote.geometry().blocks(), 64);
    actor.stage().disk.resize(blocks * 512, 7);
    let told = AtomicU32::new(0);
    actor.direct(move |cue| match cue.what {
        What::Read(0) if told.fetch_add(1, Ordering::SeqCst) < 1 => vec![Act::Sense(6, 0x2a, 0x09)],
        _ => vec![Act::Play],
    });
    let first = soon(remote.read(Span::new(0, 512), Class::Demand)).await;
    let last = soon(remote.read(Span::new(63 * 512, 512), Class::Demand)).await;
    (remote.geometry().blocks(), [first, last])
}

/// SBC-3 §4.7: CAPACITY DATA HAS CHANGED.
#[tokio::test]
async fn a_resized_unit_is_followed_or_fenced() {
    let (blocks, reads) = resized(128, Resize::Follow).await;
    assert!(matches!(reads, [Ok(_), Ok(_)]), "{reads:?}");
    assert_eq!(blocks, 128);
    let (blocks, reads) = resized(32, Resize::Follow).await;
    assert!(
        matches!(reads, [Ok(_), Err(VolumeError::OutOfRange)]),
        "{reads:?}"
    );
    assert_eq!(blocks, 32);
    for blocks in [32, 128] {
        let (known, reads) = resized(blocks, Resize::Fence).await;
        assert!(
            matches!(
                reads,
                [Err(VolumeError::Corrupt), Err(VolumeError::Corrupt)]
            ),
            "{reads:?}"
        );
        assert_eq!(known, 64);
    }
}
