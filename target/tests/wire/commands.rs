//! SCSI commands from the wire to the volume and back.

use iscsi_target::TargetOptions;
use vmthunder_volume::Error;
use vmthunder_volume::testing::Fault;

use crate::harness::{READ_BLOCK_2, World};

#[tokio::test]
async fn a_missing_unit_says_so() {
    let world = World::new(TargetOptions::default()).await;
    let mut initiator = world.log_in(1).await;
    let (status, inquiry, _) = initiator.scsi(1, &[0x12, 0, 0, 0, 36, 0], 36).await;
    assert_eq!((status, inquiry[0]), (0, 0x7f));
    assert_eq!(initiator.scsi(1, &[0x00], 0).await.2, [5, 0x25, 0x00]);
    assert_eq!(
        initiator.scsi(1, &READ_BLOCK_2, 512).await.2,
        [5, 0x25, 0x00]
    );
    let (status, sense, _) = initiator.scsi(1, &[0x03, 0, 0, 0, 18, 0], 18).await;
    assert_eq!((status, sense[2], sense[12]), (0, 5, 0x25));
}

#[tokio::test]
async fn blocks_travel_both_ways() {
    let world = World::new(TargetOptions::default()).await;
    let mut initiator = world.log_in(1).await;
    initiator.settle(0).await;
    assert_eq!(
        initiator.scsi(0, &READ_BLOCK_2, 512).await,
        (0, vec![2; 512], [0; 3])
    );
    initiator
        .command(0, &[0x2a, 8, 0, 0, 0, 2, 0, 0, 1, 0], 0, &[0x77; 512])
        .await;
    let answer = initiator.receive().await.unwrap();
    assert_eq!((answer.header[0], answer.header[3]), (0x21, 0));
    assert_eq!(
        initiator.scsi(0, &READ_BLOCK_2, 512).await,
        (0, vec![0x77; 512], [0; 3])
    );
    assert_eq!(world.volume.below().contents()[1024..1536], [0x77; 512]);
    let stats = world.target.stats();
    assert_eq!(
        (
            stats.read_bytes,
            stats.written_bytes,
            stats.commands,
            stats.failures
        ),
        (1024, 512, 4, 1)
    );
    assert_eq!((stats.connections, stats.logins, stats.sessions), (1, 1, 1));
}

#[tokio::test]
async fn refusals_of_the_volume_reach_the_initiator() {
    let world = World::new(TargetOptions::default()).await;
    let mut initiator = world.log_in(1).await;
    initiator.settle(0).await;
    world.volume.queue(Fault::Fail(Error::Busy));
    assert_eq!(
        initiator.scsi(0, &READ_BLOCK_2, 512).await.0,
        0x08,
        "BUSY: nothing else is under way"
    );
    world.volume.queue(Fault::Hang);
    initiator.command(0, &READ_BLOCK_2, 512, &[]).await;
    world.volume.queue(Fault::Fail(Error::Busy));
    assert_eq!(
        initiator.scsi(0, &READ_BLOCK_2, 512).await.0,
        0x28,
        "TASK SET FULL"
    );
    world.volume.queue(Fault::Fail(Error::Corrupt));
    assert_eq!(
        initiator.scsi(0, &READ_BLOCK_2, 512).await.2,
        [3, 0x11, 0x00]
    );
}

#[tokio::test]
async fn a_slow_reader_is_bounded() {
    let world = World::new(TargetOptions::default()).await;
    let mut initiator = world.log_in(1).await;
    initiator.settle(0).await;
    let read_half = [0x28, 0, 0, 0, 0, 0, 0, 0x02, 0x00, 0];
    for _ in 0..120 {
        initiator.command(0, &read_half, 512 * 512, &[]).await;
    }
    // Another session's commands give the first one's task many turns.
    let mut other = world.log_in(2).await;
    other.settle(0).await;
    for _ in 0..500 {
        assert_eq!(other.scsi(0, &[0x00], 0).await.0, 0);
    }
    // What waits in the target and in the sockets between, generously.
    assert!(
        world.volume.below().reads() < 100,
        "the target reads ahead of the reader without bound"
    );
    let mut ended = 0;
    let mut bytes = 0;
    while ended < 120 {
        let answer = initiator.receive().await.expect("an answer");
        assert_eq!(answer.header[0], 0x25);
        bytes += answer.data.len();
        ended += u32::from(answer.header[1] & 0x01);
    }
    assert_eq!(bytes, 120 * 512 * 512);
    assert_eq!(world.volume.below().reads(), 120);
}
