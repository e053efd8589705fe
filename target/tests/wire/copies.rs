//! EXTENDED COPY that is aborted while it writes to another unit.

use iscsi_target::TargetOptions;
use tokio::time::timeout;

use crate::harness::{Initiator, PATIENCE, READ_BLOCK_2, World, write_block};

const ABORT_TASK: u8 = 1;

/// A CSCD descriptor that names a unit of the harness by its NAA designator.
fn unit(number: u8) -> [u8; 32] {
    let mut out = [0; 32];
    (out[0], out[4], out[5], out[7]) = (0xe4, 0x01, 0x03, 8);
    (out[8], out[15]) = (0x30, number);
    out[30] = 2;
    out
}

/// One block of the first unit to the second.
fn segment(from: u8, to: u8) -> [u8; 28] {
    let mut out = [0; 28];
    (out[0], out[3], out[7], out[11]) = (0x02, 0x18, 1, 1);
    (out[19], out[27]) = (from, to);
    out
}

/// The blocks 10 and 20 of unit 0 become the blocks 100 and 101 of unit 3; results are kept as number 1.
async fn copy(initiator: &mut Initiator) -> u32 {
    let mut list = vec![1, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0, 56, 0, 0, 0, 0];
    list.extend([unit(0), unit(3)].concat());
    list.extend([segment(10, 100), segment(20, 101)].concat());
    let mut cdb = [0; 16];
    (cdb[0], cdb[13]) = (0x83, 136);
    initiator.command(0, &cdb, 0, &list).await
}

/// Waits until copy number 1 is over; gives its state.
async fn over(initiator: &mut Initiator) -> u8 {
    let status = [0x84, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 12, 0, 0];
    let ended = async {
        loop {
            let (_, data, _) = initiator.scsi(0, &status, 12).await;
            if data[4] != 0 {
                return data[4];
            }
        }
    };
    timeout(PATIENCE, ended).await.expect("the copy ends")
}

#[tokio::test]
async fn a_copy_between_units_copies() {
    let world = World::new(TargetOptions::default()).await;
    let mut initiator = world.settled(1).await;
    let tag = copy(&mut initiator).await;
    assert_eq!(initiator.outcome(tag).await.0, 0);
    assert_eq!(over(&mut initiator).await, 1);
    assert_eq!(world.other.block(100), vec![10; 512]);
    assert_eq!(world.other.block(101), vec![20; 512]);
}

/// What is under way lands before later writes to the unit that is copied to, though another unit got the command; the
/// rest is not copied.
#[tokio::test]
async fn an_aborted_copy_writes_nothing_behind_later_writes() {
    let world = World::new(TargetOptions::default()).await;
    let mut initiator = world.settled(1).await;
    world.other.hold();
    let tag = copy(&mut initiator).await;
    world.other.hangs(1).await;
    assert_eq!(initiator.manage(ABORT_TASK, 0, Some(tag)).await, 0);
    assert_eq!(over(&mut initiator).await, 2);
    let later = initiator
        .command(3, &write_block(100), 0, &[0xee; 512])
        .await;
    // Every command before this one has been begun.
    assert_eq!(initiator.scsi(0, &READ_BLOCK_2, 512).await.0, 0);
    world.other.let_go();
    assert_eq!(initiator.outcome(later).await.0, 0);
    assert_eq!(world.other.block(100), vec![0xee; 512]);
    assert_eq!(world.other.block(101), vec![101; 512]);
}
