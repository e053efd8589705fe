//! A unit that hangs is nobody else's problem.

use iscsi_target::TargetOptions;

use crate::harness::{READ_BLOCK_2, World, read_block, write_block};

const WINDOW: u32 = 128;

/// The window is full of commands for a unit that hangs; the other one serves many times a window.
#[tokio::test]
async fn a_unit_that_hangs_leaves_the_window_to_others() {
    let world = World::new(TargetOptions::default()).await;
    let mut initiator = world.settled(1).await;
    world.volume.hold();
    let mut stuck = Vec::new();
    for number in 0..WINDOW {
        let tag = if number % 2 == 0 {
            initiator.command(0, &READ_BLOCK_2, 512, &[]).await
        } else {
            initiator.command(0, &write_block(5), 0, &[0x55; 512]).await
        };
        stuck.push(tag);
    }
    // The window is shut: the target opens it by itself once the unit has been silent for long enough.
    initiator.window_opens().await;
    for round in 0..3 * WINDOW {
        let block = u8::try_from(round % 200).expect("below 200");
        let (status, data, _) = initiator.scsi(3, &read_block(block), 512).await;
        assert_eq!((status, data), (0, vec![block; 512]));
    }
    world.volume.let_go();
    for tag in stuck {
        assert_eq!(initiator.outcome(tag).await.0, 0);
    }
}

/// Bytes that a unit that hangs holds do not count against the others either.
#[tokio::test]
async fn a_unit_that_hangs_leaves_memory_to_others() {
    let world = World::new(TargetOptions::default()).await;
    let mut initiator = world.settled(1).await;
    world.volume.hold();
    // 100 reads of half a MiB, more than one unit may hold: the rest waits.
    let read_all = [0x28, 0, 0, 0, 0, 0, 0, 0x04, 0x00, 0];
    let stuck: Vec<u32> = {
        let mut stuck = Vec::new();
        for _ in 0..100 {
            stuck.push(initiator.command(0, &read_all, 1024 * 512, &[]).await);
        }
        stuck
    };
    world.volume.hangs(64).await;
    for _ in 0..20 {
        assert_eq!(initiator.scsi(3, &READ_BLOCK_2, 512).await.0, 0);
    }
    assert_eq!(world.other.below().reads(), 20);
    assert_eq!(initiator.write(3, 9, 0x99).await, 0);
    assert_eq!(world.volume.below().reads(), 0);
    world.volume.let_go();
    for tag in stuck {
        let mut ended = false;
        while !ended {
            let answer = initiator.answer_to(tag).await;
            assert_eq!(answer.header[0], 0x25);
            ended = answer.header[1] & 0x01 != 0;
        }
    }
}

/// Units take turns: a long queue for one does not make the other wait for its end.
#[tokio::test]
async fn units_take_turns() {
    let world = World::new(TargetOptions::default()).await;
    let mut initiator = world.settled(1).await;
    for _ in 0..100 {
        initiator.command(0, &READ_BLOCK_2, 512, &[]).await;
    }
    let late = initiator.command(3, &READ_BLOCK_2, 512, &[]).await;
    let mut before = 0;
    while initiator.receive().await.expect("an answer").tag() != late {
        before += 1;
    }
    assert!(before <= 100);
    for _ in before..100 {
        assert!(initiator.receive().await.is_some());
    }
}
