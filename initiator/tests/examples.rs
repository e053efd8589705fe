//! The programs of `examples/` do what they say.

#![allow(dead_code, reason = "their `main` is not called here")]

#[path = "../examples/copy.rs"]
mod copy;
#[path = "../examples/counter.rs"]
mod counter;
#[path = "../examples/discover.rs"]
mod discover;

use iscsi_initiator::{IscsiUrl, Lun, Options, Remote, Session, Volume};

include!("../doctest/target.in");

fn url(address: &str) -> IscsiUrl {
    format!("iscsi://{address}/iqn.2025-01.org.example:disk/0")
        .parse()
        .expect("a URL")
}

#[tokio::test]
async fn discover_names_targets_and_units() {
    let address = serve_a_disk().await;
    let mut said = Vec::new();
    discover::run(&address, &mut said).await.expect("an answer");
    let said = String::from_utf8(said).expect("text");
    let expected = format!(
        "iqn.2025-01.org.example:disk [(\"{address}\", 1)]\n  LUN 0: 16384 blocks of 512 bytes\n"
    );
    assert_eq!(said, expected);
}

#[tokio::test]
async fn copy_reads_every_byte_in_order() {
    let address = serve_a_disk().await;
    let expected: Vec<u8> = (0..8u32 << 20)
        .map(|at| (at >> 9).to_le_bytes()[0])
        .collect();
    let options = Options::new("iqn.2025-01.org.example:me".parse().expect("a name"));
    let session = Session::connect(&url(&address), options)
        .await
        .expect("a session");
    let unit = Remote::attach(session, Lun::default())
        .await
        .expect("a unit");
    unit.write(0, expected.clone().into())
        .await
        .expect("written");
    let mut copied = Vec::new();
    copy::run(&url(&address), &mut copied)
        .await
        .expect("a copy");
    assert!(copied == expected);
}

#[tokio::test]
async fn counters_that_race_lose_no_turn() {
    let address = serve_a_disk().await;
    let url = url(&address);
    let turns = (0..8).map(|_| counter::run(&url));
    let mut counts = Vec::new();
    for turn in futures(turns).await {
        counts.push(turn);
    }
    counts.sort_unstable();
    assert_eq!(counts, [1, 2, 3, 4, 5, 6, 7, 8]);
}

/// All of them at once, on this thread.
async fn futures<E: std::fmt::Debug>(
    turns: impl Iterator<Item = impl Future<Output = Result<u64, E>>>,
) -> Vec<u64> {
    let mut turns: Vec<_> = turns.map(|turn| Box::pin(turn)).collect();
    let mut counts = Vec::new();
    std::future::poll_fn(|context| {
        turns.retain_mut(|turn| match turn.as_mut().poll(context) {
            std::task::Poll::Ready(count) => {
                counts.push(count.expect("a count"));
                false
            }
            std::task::Poll::Pending => true,
        });
        match turns.is_empty() {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }
    })
    .await;
    counts
}
