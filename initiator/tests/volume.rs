//! A unit as a volume, over a good wire.

mod harness;

use std::sync::Arc;

use bytes::Bytes;
use harness::{TARGET, attach, connect, disk, export, name, options, pattern, serve, soon};
use iscsi_initiator::{Error, Options, Remote, Session, discover};
use iscsi_proto::scsi::Command;
use iscsi_proto::session::Transfer;
use iscsi_proto::wire::lun::Lun;
use vmthunder_volume::testing::Fault;
use vmthunder_volume::{BlockSize, Class, Error as VolumeError, Span, Volume};

const MIB: u64 = 1024 * 1024;

#[tokio::test]
async fn what_is_written_is_read_in_blocks_of_either_size() {
    for block_size in [BlockSize::B512, BlockSize::B4096] {
        let disk = disk(block_size, 32 * MIB);
        let served = serve(Arc::clone(&disk)).await;
        let remote = soon(attach(&served.address, options())).await;
        assert_eq!(remote.geometry(), disk.below().geometry());
        let bytes = Bytes::from(pattern(20 * MIB, 99));
        soon(remote.write(3 * MIB, bytes.clone()))
            .await
            .expect("written");
        soon(remote.flush()).await.expect("flushed");
        let read = soon(remote.read(remote.geometry().whole(), Class::Demand))
            .await
            .expect("read");
        assert_eq!(read.len() as u64, 32 * MIB);
        assert!(read == disk.below().contents());
        assert!(read[3 << 20..23 << 20] == bytes);
    }
}

#[tokio::test]
async fn digests_guard_every_byte() {
    let disk = disk(BlockSize::B512, 4 * MIB);
    let served = serve(Arc::clone(&disk)).await;
    let digest = iscsi_proto::login::DigestChoice::Crc32c;
    let options = Options {
        header_digest: digest,
        data_digest: digest,
        ..options()
    };
    let session = soon(connect(&served.address, options)).await;
    let settled = session.settled();
    let remote = soon(Remote::attach(session, Lun::default()))
        .await
        .expect("a unit");
    assert!(settled.params.header_digest && settled.params.data_digest);
    assert_eq!(
        settled.portal.expect("a portal").to_string(),
        served.address
    );
    assert!(settled.window > 1, "{settled:?}");
    soon(remote.write(MIB, pattern(2 * MIB, 3).into()))
        .await
        .expect("written");
    let read = soon(remote.read(remote.geometry().whole(), Class::Demand))
        .await
        .expect("read");
    assert!(read == disk.below().contents());
}

#[tokio::test]
async fn spans_that_are_none_never_reach_the_unit() {
    let served = serve(disk(BlockSize::B512, MIB)).await;
    let remote = soon(attach(&served.address, options())).await;
    for span in [
        Span::new(MIB, 512),
        Span::new(0, 100),
        Span::new(u64::MAX - 511, 512),
    ] {
        let read = soon(remote.read(span, Class::Demand)).await;
        assert!(matches!(read, Err(VolumeError::OutOfRange)), "{span}");
    }
    let write = soon(remote.write(MIB - 512, Bytes::from(vec![0; 1024]))).await;
    assert!(matches!(write, Err(VolumeError::OutOfRange)));
    assert_eq!(
        soon(remote.read(Span::new(512, 0), Class::Demand))
            .await
            .expect("nothing"),
        Bytes::new()
    );
}

#[tokio::test]
async fn trimmed_blocks_read_as_zeros() {
    let served = serve(disk(BlockSize::B512, 4 * MIB)).await;
    let remote = soon(attach(&served.address, options())).await;
    soon(remote.trim(Span::new(MIB, MIB)))
        .await
        .expect("trimmed");
    let read = soon(remote.read(Span::new(MIB - 512, 1024), Class::Demand))
        .await
        .expect("read");
    assert!(read[512..].iter().all(|byte| *byte == 0));
    assert!(read[..512].iter().any(|byte| *byte != 0));
}

#[tokio::test]
async fn discovery_names_targets_and_their_address() {
    let served = serve(disk(BlockSize::B512, MIB)).await;
    let records = soon(discover(&served.address, &options()))
        .await
        .expect("records");
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].name, name(TARGET));
    assert_eq!(records[0].addresses, [(served.address.clone(), 1)]);
    let nowhere = soon(discover("not an address", &options())).await;
    assert!(matches!(nowhere, Err(Error::BadAddress)));
}

#[tokio::test]
async fn a_unit_says_what_it_is() {
    let served = serve(disk(BlockSize::B4096, 4 * MIB)).await;
    let session = soon(connect(&served.address, options())).await;
    assert_eq!(soon(session.report_luns()).await.expect("a list"), [Lun(0)]);
    assert_eq!(
        soon(session.inquiry(Lun(0)))
            .await
            .expect("data")
            .device_type,
        0
    );
    let capacity = soon(session.read_capacity(Lun(0)))
        .await
        .expect("a capacity");
    assert_eq!((capacity.blocks, capacity.block_bytes), (1024, 4096));
    let remote = soon(Remote::attach(session.clone(), Lun(0)))
        .await
        .expect("a unit");
    let naa = [0x30, 0, 0, 0, 0, 0, 0, 7];
    assert!(
        remote
            .designators()
            .iter()
            .any(|designator| designator.kind == 3 && designator.value == naa[..])
    );
    let none = soon(Remote::attach(session, Lun::from_number(5))).await;
    assert!(none.is_err());
}

#[tokio::test]
async fn a_target_that_does_not_exist_is_refused() {
    let served = serve(disk(BlockSize::B512, MIB)).await;
    let missing = name("iqn.2025-01.io.vmthunder.test:missing");
    let refused = soon(Session::connect_to(&served.address, &missing, options())).await;
    assert!(
        matches!(refused, Err(Error::Refused(status)) if (status.class, status.detail) == (2, 3))
    );
}

#[tokio::test]
async fn errors_of_the_unit_keep_their_meaning() {
    let disk = disk(BlockSize::B512, MIB);
    let served = serve(Arc::clone(&disk)).await;
    let impatient = Options {
        repeats_busy: false,
        ..options()
    };
    let remote = soon(attach(&served.address, impatient)).await;
    let cases = [
        (VolumeError::Busy, "busy"),
        (VolumeError::Corrupt, "corrupt"),
        (VolumeError::Unavailable, "unavailable"),
    ];
    for (error, case) in cases {
        disk.queue(Fault::Fail(error.clone()));
        let read = soon(remote.read(Span::new(0, 512), Class::Demand)).await;
        let same = matches!(&read, Err(found) if std::mem::discriminant(found) == std::mem::discriminant(&error));
        assert!(same, "{case}: {read:?}");
    }
    assert!(
        soon(remote.read(Span::new(0, 512), Class::Demand))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn a_peers_read_is_refused_where_a_guests_waits() {
    let disk = disk(BlockSize::B512, MIB);
    let served = serve(Arc::clone(&disk)).await;
    let remote = soon(attach(
        &served.address,
        Options {
            queue_limit: 1,
            ..options()
        },
    ))
    .await;
    disk.queue(Fault::Hang);
    let first = remote.read(Span::new(0, 512), Class::Demand);
    tokio::pin!(first);
    assert!(poll_once(&mut first).await.is_none());
    let refused = soon(remote.read(Span::new(512, 512), Class::Peer)).await;
    assert!(matches!(refused, Err(VolumeError::Busy)));
    let guest = remote.read(Span::new(512, 512), Class::Demand);
    tokio::pin!(guest);
    assert!(poll_once(&mut guest).await.is_none());
}

#[tokio::test]
async fn a_dropped_read_harms_nobody() {
    let disk = disk(BlockSize::B512, MIB);
    let served = serve(Arc::clone(&disk)).await;
    let remote = soon(attach(&served.address, options())).await;
    for round in 0..50u64 {
        {
            let dropped = remote.read(Span::new(0, MIB), Class::Demand);
            tokio::pin!(dropped);
            assert!(poll_once(&mut dropped).await.is_none());
        }
        let (offset, start) = (round * 4096, usize::try_from(round * 4096).expect("small"));
        let read = soon(remote.read(Span::new(offset, 4096), Class::Demand))
            .await
            .expect("read");
        assert!(read == disk.below().contents()[start..][..4096]);
    }
}

#[tokio::test]
async fn a_closed_session_says_so() {
    let served = serve(disk(BlockSize::B512, MIB)).await;
    let session = soon(connect(&served.address, options())).await;
    let other = session.clone();
    soon(session.close()).await;
    let after = soon(other.execute(
        Lun(0),
        &Command::TestUnitReady,
        Transfer::None,
        Class::Demand,
    ))
    .await;
    assert!(matches!(after, Err(Error::Closed)));
    soon(other.close()).await;
}

#[tokio::test]
async fn units_that_come_and_go_do_not_disturb_others() {
    let served = serve(disk(BlockSize::B512, MIB)).await;
    let remote = soon(attach(&served.address, options())).await;
    served.target.withdraw(&name(TARGET));
    export(&served.target, disk(BlockSize::B512, MIB), 7);
    assert!(
        soon(remote.read(Span::new(0, 512), Class::Demand))
            .await
            .is_ok()
    );
    assert!(remote.paths()[0].logins >= 2);
}

/// Polls a future once, which is enough to submit what it submits.
async fn poll_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    std::future::poll_fn(|context| {
        std::task::Poll::Ready(match std::pin::Pin::new(&mut *future).poll(context) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        })
    })
    .await
}
