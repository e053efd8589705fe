//! One unit over several paths, against our target behind wires that are cut.

mod harness;

use std::sync::Arc;
use std::time::Duration;

use harness::{
    Served, TARGET, Wire, disk, export, name, options, pattern, serve, soon, with_outage,
};
use iscsi_initiator::{
    BlockSize, Bytes, Class, Error, IscsiUrl, Options, Outage, PathPolicy, PathState, Remote, Span,
    Volume, VolumeError, find_portals,
};
use tokio::task::JoinSet;

const MIB: u64 = 1024 * 1024;

fn url(address: &str) -> IscsiUrl {
    format!("iscsi://{address}/{TARGET}/0")
        .parse()
        .expect("a URL")
}

/// Two wires to one target, and the unit over both.
async fn two_wires(served: &Served, options: Options) -> ([Wire; 2], Remote) {
    let wires = [
        Wire::to(&served.address).await,
        Wire::to(&served.address).await,
    ];
    let urls = [url(&wires[0].address), url(&wires[1].address)];
    let remote = soon(Remote::connect(&urls, options)).await.expect("a unit");
    (wires, remote)
}

/// A number below `below`, other ones for other seeds.
fn draw(seed: &mut u64, below: u64) -> u64 {
    *seed = seed
        .wrapping_mul(0x5851_f42d_4c95_7f2d)
        .wrapping_add(0x1405_7b7e_f767_814f);
    (*seed >> 33) % below
}

/// RFC 7143 §6.3.5 and §11.5.1: each loss leaves writes in doubt, and what is in doubt is ended before it is repeated.
#[tokio::test]
async fn two_portals_are_cut_at_random_under_verified_writes() {
    for (policy, seed) in [(PathPolicy::QueueLength, 3), (PathPolicy::Latency, 4)] {
        let disk = disk(BlockSize::B512, 8 * MIB);
        let served = serve(Arc::clone(&disk)).await;
        let options = Options {
            path_policy: policy,
            ..options()
        };
        let (wires, remote) = two_wires(&served, options).await;
        let mut lanes = JoinSet::new();
        for lane in 0..8 {
            lanes.spawn(write_and_verify(remote.clone(), lane * MIB, seed + lane));
        }
        let cutting = async {
            let mut seed = seed;
            loop {
                let wire = &wires[usize::try_from(draw(&mut seed, 2)).expect("small")];
                match draw(&mut seed, 3) {
                    0 => wire.cut(),
                    1 => wire.set_lifetime(1 + draw(&mut seed, 300_000)),
                    _ => wire.set_down(true),
                }
                tokio::time::sleep(Duration::from_millis(draw(&mut seed, 30))).await;
                wire.set_lifetime(0);
                wire.set_down(false);
            }
        };
        let working = async {
            while let Some(done) = lanes.join_next().await {
                done.expect("no lane panics");
            }
        };
        tokio::select! {
            () = soon(working) => {}
            () = cutting => {}
        }
        for path in remote.paths() {
            assert!(path.logins > 3, "seed {seed}: {path:?}");
        }
        let read = soon(remote.read(remote.geometry().whole(), Class::Demand)).await;
        assert!(
            read.expect("read") == disk.below().contents(),
            "seed {seed}"
        );
    }
}

/// Changes one mebibyte here and there, and holds what it reads against a model of it.
async fn write_and_verify(remote: Remote, start: u64, mut seed: u64) {
    let whole = Span::new(start, MIB);
    let mut model = soon(remote.read(whole, Class::Demand))
        .await
        .expect("read")
        .to_vec();
    for round in 0..150 {
        let offset = draw(&mut seed, MIB / 512 - 128) * 512;
        let length = (1 + draw(&mut seed, 128)) * 512;
        let [at, count] = [offset, length].map(|n| usize::try_from(n).expect("small"));
        let bytes = pattern(length, seed);
        model[at..][..count].copy_from_slice(&bytes);
        soon(remote.write(start + offset, bytes.into()))
            .await
            .expect("written");
        let read = soon(remote.read(Span::new(start + offset, length), Class::Demand)).await;
        assert!(read.expect("read") == model[at..][..count], "round {round}");
    }
    assert!(soon(remote.read(whole, Class::Demand)).await.expect("read") == model);
}

#[tokio::test]
async fn another_unit_behind_the_second_portal_is_refused() {
    let served = serve(disk(BlockSize::B512, MIB)).await;
    for (bytes, designator) in [(MIB, 8), (2 * MIB, 7)] {
        let other = serve(disk(BlockSize::B512, MIB)).await;
        other.target.withdraw(&name(TARGET));
        export(&other.target, disk(BlockSize::B512, bytes), designator);
        let urls = [url(&served.address), url(&other.address)];
        let refused = soon(Remote::connect(&urls, options())).await;
        assert!(matches!(refused, Err(Error::OtherUnit)), "{refused:?}");
    }
}

/// What is found behind a portal that comes up later is compared as well, and after each loss again.
#[tokio::test]
async fn another_unit_that_appears_later_is_refused_too() {
    for lost_later in [false, true] {
        let first = disk(BlockSize::B512, MIB);
        let served = serve(Arc::clone(&first)).await;
        let other = serve(disk(BlockSize::B512, MIB)).await;
        let wire = Wire::to(&other.address).await;
        wire.set_down(!lost_later);
        let urls = [url(&served.address), url(&wire.address)];
        let remote = soon(Remote::connect(&urls, options()))
            .await
            .expect("a unit");
        wire.set_down(true);
        other.target.withdraw(&name(TARGET));
        export(&other.target, disk(BlockSize::B512, MIB), 8);
        wire.set_down(false);
        let seen = async {
            while !matches!(remote.paths()[1].state, PathState::Refused(_)) {
                tokio::task::yield_now().await;
            }
        };
        soon(seen).await;
        for lba in 0..8 {
            let bytes = Bytes::from(vec![0xab; 512]);
            soon(remote.write(lba * 512, bytes)).await.expect("written");
        }
        assert!(
            first.below().contents()[..8 * 512]
                .iter()
                .all(|byte| *byte == 0xab)
        );
        assert!(matches!(remote.paths()[0].state, PathState::Connected));
    }
}

#[tokio::test]
async fn one_portal_that_answers_is_enough_to_begin() {
    let served = serve(disk(BlockSize::B512, MIB)).await;
    let wire = Wire::to(&served.address).await;
    wire.set_down(true);
    let urls = [
        url(&wire.address),
        url(&served.address),
        url(&served.address),
    ];
    let remote = soon(Remote::connect(&urls, options()))
        .await
        .expect("a unit");
    assert_eq!(remote.paths().len(), 2, "each portal once");
    assert!(
        soon(remote.read(Span::new(0, 512), Class::Demand))
            .await
            .is_ok()
    );
    assert!(matches!(remote.paths()[0].state, PathState::Lost(_)));
    wire.set_down(false);
    let made = async {
        while !matches!(remote.paths()[0].state, PathState::Connected) {
            tokio::task::yield_now().await;
        }
    };
    soon(made).await;
    let none = soon(Remote::connect(&[], options())).await;
    assert!(matches!(none, Err(Error::PathCount(0))));
}

#[tokio::test]
async fn all_paths_gone_is_an_outage() {
    let disk = disk(BlockSize::B512, MIB);
    let served = serve(Arc::clone(&disk)).await;
    let span = Span::new(0, 512);
    let block = Bytes::from(vec![0xcd; 512]);

    let (wires, remote) = two_wires(&served, with_outage(Outage::Fail)).await;
    wires.iter().for_each(|wire| wire.set_down(true));
    until_lost(&remote).await;
    let read = soon(remote.read(span, Class::Demand)).await;
    assert!(matches!(read, Err(VolumeError::Unavailable)));
    let write = soon(remote.write_through(0, &block)).await;
    assert!(matches!(write, Err(Error::Unreachable(_))), "{write:?}");
    wires[1].set_down(false);
    let back = async {
        while remote.read(span, Class::Demand).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    soon(back).await;

    let patience = Duration::from_millis(200);
    let (wires, remote) = two_wires(&served, with_outage(Outage::Deadline(patience))).await;
    wires.iter().for_each(|wire| wire.set_down(true));
    until_lost(&remote).await;
    let write = soon(remote.write_through(0, &block)).await;
    assert!(matches!(write, Err(Error::Unreachable(_))), "{write:?}");
    let peer = soon(remote.read(span, Class::Peer)).await;
    assert!(matches!(peer, Err(VolumeError::Unavailable)));

    let (wires, remote) = two_wires(&served, with_outage(Outage::Wait)).await;
    wires.iter().for_each(|wire| wire.set_down(true));
    until_lost(&remote).await;
    let waiting = tokio::spawn({
        let (remote, block) = (remote.clone(), block.clone());
        async move { remote.write(0, block).await }
    });
    tokio::time::sleep(patience).await;
    assert!(!waiting.is_finished());
    wires[0].set_down(false);
    soon(waiting).await.expect("no panic").expect("written");
    assert!(disk.below().contents()[..512] == block);
}

async fn until_lost(remote: &Remote) {
    let lost = async {
        let connected = |remote: &Remote| {
            remote
                .paths()
                .iter()
                .any(|path| matches!(path.state, PathState::Connected))
        };
        while connected(remote) {
            tokio::task::yield_now().await;
        }
    };
    soon(lost).await;
}

#[tokio::test]
async fn a_closed_volume_logs_out_everywhere() {
    let served = serve(disk(BlockSize::B512, MIB)).await;
    let (_wires, remote) = two_wires(&served, options()).await;
    assert_eq!(served.target.sessions().len(), 2);
    soon(remote.close()).await;
    let read = soon(remote.read(Span::new(0, 512), Class::Demand)).await;
    assert!(matches!(read, Err(VolumeError::Unavailable)));
    let gone = async {
        while !served.target.sessions().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    soon(gone).await;

    let (_wires, remote) = two_wires(&served, options()).await;
    drop(remote);
    soon(async {
        while !served.target.sessions().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// RFC 7143 appendix C: a target names its portals, and the own one comes first.
#[tokio::test]
async fn portals_are_found_by_asking() {
    let served = serve(disk(BlockSize::B512, MIB)).await;
    let wire = Wire::to(&served.address).await;
    let found = soon(find_portals(&url(&wire.address), &options()))
        .await
        .expect("portals");
    assert_eq!(found, [url(&wire.address), url(&served.address)]);
    let remote = soon(Remote::connect(&found, options()))
        .await
        .expect("a unit");
    assert_eq!(remote.paths().len(), 2);
}
