//! What is repeated after the loss of a connection, and what must not be.

mod harness;
#[path = "harness/script.rs"]
mod script;

use bytes::Bytes;
use harness::{attach, options, soon};
use iscsi_initiator::Remote;
use script::{Verdict, scripted};
use vmthunder_volume::{Error as VolumeError, Volume};

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
    let (address, journal) = scripted(|write| match write {
        (0, 3, _) => Verdict::AnswerAndCut,
        (0, ..) => Verdict::Ignore,
        _ => Verdict::Answer,
    })
    .await;
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
    let journal = journal.lock().expect("no panic").clone();
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
    let (address, journal) = scripted(|write| match write {
        (0, 1, 0xa1) => Verdict::Ignore,
        (0, 2, _) => Verdict::Ignore,
        (0, 1, _) => Verdict::AnswerAndCut,
        _ => Verdict::Answer,
    })
    .await;
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
    let journal = journal.lock().expect("no panic").clone();
    assert_eq!(
        journal,
        [(0, 1, 0xa1), (0, 2, 0xb1), (0, 1, 0xa2), (1, 2, 0xb1)]
    );
}
