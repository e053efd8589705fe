//! What people call a unit by: offsets and lengths in bytes, and errors that say why.

#[path = "harness/actor.rs"]
mod actor;
mod harness;

use std::sync::atomic::{AtomicU32, Ordering};

use actor::{Act, Actor, What};
use harness::{attach, connect, disk, options, serve, soon};
use iscsi_initiator::{
    Allocation, CacheLoss, Error, Lun, Options, Outage, Reconnect, Remote, Status,
};
use vmthunder_volume::BlockSize;

/// The first unit of an actor.
async fn unit(actor: &Actor, options: Options) -> Remote {
    let session = soon(connect(&actor.portal(1).await, options)).await;
    soon(Remote::attach(session, Lun(0))).await.expect("a unit")
}

#[tokio::test]
async fn a_unit_is_used_by_bytes() {
    let disk = disk(BlockSize::B512, 1 << 20);
    let served = serve(disk).await;
    let unit = soon(attach(&served.address, options())).await;
    assert_eq!((unit.size_in_bytes(), unit.block_bytes()), (1 << 20, 512));
    soon(unit.write_at(4096, vec![7; 1024]))
        .await
        .expect("written");
    soon(unit.synchronize()).await.expect("flushed");
    let read = soon(unit.read_at(4096, 1024)).await.expect("read");
    assert_eq!(read[..], [7; 1024]);
    soon(unit.deallocate(4096, 512)).await.expect("given back");
    let read = soon(unit.read_at(4096, 1024)).await.expect("read");
    assert_eq!(read[..], [[0; 512], [7; 512]].concat());
    let (kind, length) = soon(unit.allocation_at(4608, 512)).await.expect("told");
    assert_eq!((kind, length), (Allocation::Mapped, 512));
    for (offset, length) in [(1 << 20, 512), (100, 512), (0, 100), (u64::MAX, 2)] {
        let read = soon(unit.read_at(offset, length)).await;
        assert!(matches!(read, Err(Error::OutOfRange)), "{read:?}");
        let told = soon(unit.allocation_at(offset, length)).await;
        assert!(matches!(told, Err(Error::OutOfRange)), "{told:?}");
    }
    soon(unit.close()).await;
    let read = soon(unit.read_at(0, 512)).await;
    assert!(matches!(read, Err(Error::Closed)), "{read:?}");
}

/// SPC-4 §5.13.
#[tokio::test]
async fn a_reservation_of_somebody_else_is_called_one() {
    let actor = Actor::new(|cue| match cue.what {
        What::Write(..) => vec![Act::Status(0x18)],
        _ => vec![Act::Play],
    });
    let unit = unit(&actor, options()).await;
    let error = soon(unit.write_at(512, vec![1; 512])).await.unwrap_err();
    assert!(matches!(
        error,
        Error::Status {
            status: Status::RESERVATION_CONFLICT,
            ..
        }
    ));
    let said = error.to_string();
    assert!(said.contains("another initiator has reserved it"), "{said}");
}

/// What was read may be asked again elsewhere; what was written is somewhere between done and not done.
#[tokio::test]
async fn a_lost_answer_and_a_target_that_is_away_are_two_things() {
    let actor = Actor::new(|cue| match cue.what {
        What::Write(..) | What::Read(_) => vec![Act::Cut],
        _ => vec![Act::Play],
    });
    let reconnect = Reconnect {
        outage: Outage::Fail,
        ..options().reconnect
    };
    let unit = unit(
        &actor,
        Options {
            reconnect,
            ..options()
        },
    )
    .await;
    let written = soon(unit.write_at(512, vec![1; 512])).await;
    assert!(matches!(written, Err(Error::Interrupted)), "{written:?}");
    let read = soon(unit.read_at(0, 512)).await;
    assert!(matches!(read, Err(Error::Unreachable(_))), "{read:?}");
}

/// SBC-3 §4.15: nobody who asks again takes the second answer for the first one.
#[tokio::test]
async fn a_lost_cache_is_told_by_the_flush_that_comes_too_late() {
    let told = AtomicU32::new(0);
    let actor = Actor::new(move |cue| match cue.what {
        What::Read(9) if told.fetch_add(1, Ordering::SeqCst) < 1 => vec![Act::Sense(6, 0x29, 0)],
        _ => vec![Act::Play],
    });
    actor.stage().write_cache = true;
    let unit = unit(
        &actor,
        Options {
            cache_loss: CacheLoss::FailFlush,
            ..options()
        },
    )
    .await;
    soon(unit.write_at(512, vec![1; 512]))
        .await
        .expect("written");
    soon(unit.read_at(9 * 512, 512)).await.expect("read");
    let flushed = soon(unit.synchronize()).await;
    assert!(matches!(flushed, Err(Error::CacheLost)), "{flushed:?}");
    soon(unit.write_at(512, vec![1; 512]))
        .await
        .expect("written");
    soon(unit.synchronize()).await.expect("flushed");
}
