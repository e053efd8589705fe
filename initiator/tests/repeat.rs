//! What is repeated after the loss of a connection, and what must not be.

#[path = "harness/actor.rs"]
mod actor;
mod harness;
#[path = "harness/unit.rs"]
mod unit;

use std::sync::Arc;

use actor::{Act, Actor, Cue, What};
use bytes::Bytes;
use harness::{attach, options, soon};
use iscsi_initiator::{Class, Comparison, RawCommand, Remote, Transfer, Volume, VolumeError};
use unit::Unit;

/// A block full of one byte.
fn block(byte: u8) -> Bytes {
    Bytes::from(vec![byte; 512])
}

fn write(remote: &Remote, lba: u64, byte: u8) -> tokio::task::JoinHandle<Result<(), VolumeError>> {
    let remote = remote.clone();
    tokio::spawn(async move { remote.write(lba * 512, block(byte)).await })
}

#[tokio::test]
async fn unanswered_writes_are_repeated_in_order_before_new_ones() {
    let actor = Actor::new(|Cue { connection, what }| match (connection, what) {
        (0, What::Write(3, _)) => vec![Act::Play, Act::Cut],
        (0, What::Write(..)) => vec![],
        _ => vec![Act::Play],
    });
    let address = actor.portal(1).await;
    let remote = soon(attach(&address, options())).await;
    let mut writes: Vec<_> = Vec::new();
    for (lba, byte) in [(1, 0xa1), (1, 0xa2), (2, 0xb1), (3, 0xc1)] {
        writes.push(write(&remote, lba, byte));
        tokio::task::yield_now().await;
    }
    for write in writes {
        soon(write).await.expect("no panic").expect("written");
    }
    soon(remote.write(512, block(0xa3))).await.expect("written");
    let journal = actor.writes();
    assert_eq!(
        journal[..4],
        [(0, 1, 0xa1), (0, 1, 0xa2), (0, 2, 0xb1), (0, 3, 0xc1)]
    );
    assert_eq!(
        journal[4..],
        [(1, 1, 0xa1), (1, 1, 0xa2), (1, 2, 0xb1), (1, 1, 0xa3)]
    );
}

/// The later write was acknowledged, so a repeated earlier one would bring old bytes back.
#[tokio::test]
async fn a_write_is_not_repeated_over_a_later_one_that_was_acknowledged() {
    let actor = Actor::new(|Cue { connection, what }| match (connection, what) {
        (0, What::Write(1, 0xa1) | What::Write(2, _)) => vec![],
        (0, What::Write(..)) => vec![Act::Play, Act::Cut],
        _ => vec![Act::Play],
    });
    let address = actor.portal(1).await;
    let remote = soon(attach(&address, options())).await;
    let old = write(&remote, 1, 0xa1);
    tokio::task::yield_now().await;
    let elsewhere = write(&remote, 2, 0xb1);
    tokio::task::yield_now().await;
    let new = write(&remote, 1, 0xa2);
    soon(new).await.expect("no panic").expect("written");
    assert!(matches!(
        soon(old).await.expect("no panic"),
        Err(VolumeError::Unavailable)
    ));
    soon(elsewhere).await.expect("no panic").expect("written");
    let journal = actor.writes();
    assert_eq!(
        journal,
        [(0, 1, 0xa1), (0, 2, 0xb1), (0, 1, 0xa2), (1, 2, 0xb1)]
    );
}

/// COMPARE AND WRITE, and what came as bytes, are changes like any other: an earlier write of these blocks that was not
/// answered must not come back over them.
#[tokio::test]
async fn a_write_is_not_repeated_over_a_later_comparison() {
    for raw in [false, true] {
        let unit = Arc::new(Unit::comparing(1));
        let remote = soon(attach(&unit.serve().await, options())).await;
        // Its answer is kept back, and lost with the connection.
        *unit.silent.lock().expect("no panic") = 1;
        let old = write(&remote, 1, 0xa1);
        let arrived = async {
            while unit.came().is_empty() {
                tokio::task::yield_now().await;
            }
        };
        soon(arrived).await;
        if raw {
            let vendor = RawCommand::new(&[0xc1, 0, 0, 0, 0, 0]).expect("six bytes");
            soon(remote.execute_raw(vendor, Transfer::None, Class::Demand))
                .await
                .expect("an answer");
        } else {
            let compared = soon(remote.compare_and_write(512, &block(0xa1), &block(0xa2))).await;
            assert_eq!(compared.expect("an answer"), Comparison::Written);
        }
        *unit.cuts.lock().expect("no panic") = 1;
        soon(remote.write(2 * 512, block(0xb1)))
            .await
            .expect("written");
        assert!(matches!(
            soon(old).await.expect("no panic"),
            Err(VolumeError::Unavailable)
        ));
        let writes = unit.came().iter().filter(|(code, _)| *code == 0x8a).count();
        assert_eq!(writes, 3, "the old one once, the last one twice");
    }
}
