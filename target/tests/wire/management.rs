//! Task management over sessions (RFC 7143 §11.5, SAM-5 §7): tasks are really gone, others are told, and the answer
//! comes in bounded time whatever the disk does.

use std::time::Duration;

use iscsi_target::TargetOptions;
use tokio::time::timeout;

use crate::harness::{
    DISK, Initiator, PATIENCE, READ_BLOCK_2, TEST_UNIT_READY, World, discovery, write_block,
};

const ABORT_TASK: u8 = 1;
const ABORT_TASK_SET: u8 = 2;
const CLEAR_ACA: u8 = 3;
const CLEAR_TASK_SET: u8 = 4;
const LOGICAL_UNIT_RESET: u8 = 5;
const TARGET_WARM_RESET: u8 = 6;
const TARGET_COLD_RESET: u8 = 7;

const COMPLETE: u8 = 0;

impl Initiator {
    /// The unit has this to say, and nothing else.
    async fn is_told(&mut self, lun: u8, code: [u8; 2]) {
        let told = self.scsi(lun, &TEST_UNIT_READY, 0).await;
        assert_eq!(told, (2, vec![], [6, code[0], code[1]]));
        self.is_told_nothing(lun).await;
    }

    /// The unit has nothing to say. No answer to any task came before.
    async fn is_told_nothing(&mut self, lun: u8) {
        self.command(lun, &TEST_UNIT_READY, 0, &[]).await;
        let answer = self.receive().await.expect("an answer");
        assert_eq!((answer.tag(), answer.header[3]), (self.tag, 0));
    }
}

/// RFC 7143 §11.6.1
#[tokio::test]
async fn a_command_that_waits_holds_up_nobody_and_can_be_aborted() {
    let world = World::new(TargetOptions::default()).await;
    let mut initiator = world.settled(1).await;
    world.volume.queue(vmthunder_volume::testing::Fault::Hang);
    let stuck = initiator.command(0, &READ_BLOCK_2, 512, &[]).await;
    let later = initiator.scsi(0, &READ_BLOCK_2, 512).await;
    assert_eq!(later.0, 0, "a later command overtakes");
    assert_eq!(initiator.manage(ABORT_TASK, 0, Some(stuck)).await, COMPLETE);
    let again = initiator.manage(ABORT_TASK, 0, Some(stuck)).await;
    assert_eq!(again, 1, "task does not exist");
    assert_eq!(initiator.scsi(0, &READ_BLOCK_2, 512).await.0, 0);
}

/// SAM-5 §6.3.3: everybody's tasks are gone, nobody gets an answer for one, everybody is told.
#[tokio::test]
async fn a_unit_reset_takes_the_tasks_of_all_sessions() {
    let world = World::new(TargetOptions::default()).await;
    let (mut one, mut other) = (world.settled(1).await, world.settled(2).await);
    world.volume.hold();
    for initiator in [&mut one, &mut other] {
        initiator.command(0, &READ_BLOCK_2, 512, &[]).await;
        initiator.command(0, &READ_BLOCK_2, 512, &[]).await;
    }
    world.volume.hangs(4).await;
    assert_eq!(one.manage(LOGICAL_UNIT_RESET, 0, None).await, COMPLETE);
    world.volume.let_go();
    one.is_told(0, [0x29, 0x03]).await;
    other.is_told(0, [0x29, 0x03]).await;
    // The other unit is none of the reset's business.
    one.is_told_nothing(3).await;
    other.is_told_nothing(3).await;
    let stats = world.target.stats();
    assert_eq!((stats.resets, stats.purged), (1, 2));
}

/// RFC 7143 §4.2.3.3 c and d: the answer comes after the tasks have ended at the SCSI layer.
#[tokio::test]
async fn a_reset_is_answered_when_writes_of_others_have_ended() {
    let world = World::new(TargetOptions::default()).await;
    let (mut one, mut other) = (world.settled(1).await, world.settled(2).await);
    world.volume.hold();
    other.command(0, &write_block(2), 0, &[0x11; 512]).await;
    world.volume.hangs(1).await;
    let reset = one.order(LOGICAL_UNIT_RESET, 0, None).await;
    // The reset is under way: the other unit works, and the other session was told.
    other.is_told(0, [0x29, 0x03]).await;
    assert_eq!(one.scsi(3, &READ_BLOCK_2, 512).await.0, 0);
    assert_eq!(world.volume.block(2), [2; 512]);
    world.volume.let_go();
    let answer = one.answer_to(reset).await;
    assert_eq!((answer.header[0], answer.header[2]), (0x22, COMPLETE));
    assert_eq!(world.volume.block(2), [0x11; 512], "it has ended");
    assert_eq!(one.scsi(0, &TEST_UNIT_READY, 0).await.2, [6, 0x29, 0x03]);
    assert_eq!(one.write(0, 2, 0x22).await, 0);
    assert_eq!(world.volume.block(2), [0x22; 512]);
}

/// RFC 7143 §11.6: every function is answered. The disk never answers, the target does; and what hangs never lands on
/// top of what is written later.
#[tokio::test]
async fn every_function_is_answered_though_the_disk_hangs() {
    for (function, task) in [
        (ABORT_TASK, true),
        (ABORT_TASK_SET, false),
        (CLEAR_TASK_SET, false),
        (LOGICAL_UNIT_RESET, false),
        (TARGET_WARM_RESET, false),
    ] {
        let mut options = TargetOptions::default();
        options.session.limits.abort_grace = Duration::from_millis(100);
        let world = World::new(options).await;
        let (mut one, mut other) = (world.settled(1).await, world.settled(2).await);
        world.volume.hold();
        let write = one.command(0, &write_block(2), 0, &[0x11; 512]).await;
        other.command(0, &write_block(3), 0, &[0x11; 512]).await;
        world.volume.hangs(2).await;
        let task = task.then_some(write);
        assert_eq!(one.manage(function, 0, task).await, COMPLETE, "{function}");
        // A write that overlaps waits for the one that hangs.
        if function != ABORT_TASK && function != ABORT_TASK_SET {
            let _ = one.scsi(0, &TEST_UNIT_READY, 0).await;
        }
        let again = one.command(0, &write_block(2), 0, &[0x22; 512]).await;
        let elsewhere = one.scsi(3, &TEST_UNIT_READY, 0).await;
        assert!(elsewhere.0 == 0 || elsewhere.2[1] == 0x29);
        world.volume.let_go();
        assert_eq!(one.outcome(again).await.0, 0, "{function}");
        assert_eq!(world.volume.block(2), [0x22; 512], "{function}");
    }
}

/// RFC 7143 §4.2.3.2: of this session alone.
#[tokio::test]
async fn abort_task_set_leaves_others_alone() {
    let world = World::new(TargetOptions::default()).await;
    let (mut one, mut other) = (world.settled(1).await, world.settled(2).await);
    world.volume.hold();
    one.command(0, &READ_BLOCK_2, 512, &[]).await;
    one.command(0, &READ_BLOCK_2, 512, &[]).await;
    let theirs = other.command(0, &READ_BLOCK_2, 512, &[]).await;
    world.volume.hangs(3).await;
    assert_eq!(one.manage(ABORT_TASK_SET, 0, None).await, COMPLETE);
    world.volume.let_go();
    assert_eq!(other.outcome(theirs).await.0, 0);
    one.is_told_nothing(0).await;
    other.is_told_nothing(0).await;
}

/// SAM-5 table 40: who lost a command to another initiator is told; who lost none is not.
#[tokio::test]
async fn clear_task_set_tells_those_who_lost_a_command() {
    let world = World::new(TargetOptions::default()).await;
    let (mut one, mut loser) = (world.settled(1).await, world.settled(2).await);
    let mut idle = world.settled(3).await;
    world.volume.hold();
    one.command(0, &READ_BLOCK_2, 512, &[]).await;
    loser.command(0, &READ_BLOCK_2, 512, &[]).await;
    world.volume.hangs(2).await;
    assert_eq!(one.manage(CLEAR_TASK_SET, 0, None).await, COMPLETE);
    world.volume.let_go();
    loser.is_told(0, [0x2f, 0x00]).await;
    one.is_told_nothing(0).await;
    idle.is_told_nothing(0).await;
}

/// RFC 7143 §11.5.1: all units, all initiators; no connection is closed.
#[tokio::test]
async fn a_warm_reset_is_of_all_units() {
    let world = World::new(TargetOptions::default()).await;
    let (mut one, mut other) = (world.settled(1).await, world.settled(2).await);
    world.volume.hold();
    world.other.hold();
    one.command(0, &READ_BLOCK_2, 512, &[]).await;
    other.command(3, &READ_BLOCK_2, 512, &[]).await;
    world.volume.hangs(1).await;
    world.other.hangs(1).await;
    assert_eq!(one.manage(TARGET_WARM_RESET, 0, None).await, COMPLETE);
    world.volume.let_go();
    world.other.let_go();
    for initiator in [&mut one, &mut other] {
        initiator.is_told(0, [0x29, 0x00]).await;
        initiator.is_told(3, [0x29, 0x00]).await;
    }
}

/// RFC 7143 §11.5.1: as a power-on event, terminating all connections to all initiators.
#[tokio::test]
async fn a_cold_reset_closes_all_connections_of_the_target() {
    let world = World::new(TargetOptions::default()).await;
    let (mut one, mut other) = (world.settled(1).await, world.settled(2).await);
    let mut asking = world.connect().await;
    asking.log_in(3, &discovery()).await;
    world.volume.hold();
    other.command(0, &write_block(2), 0, &[0x11; 512]).await;
    world.volume.hangs(1).await;
    let reset = one.order(TARGET_COLD_RESET, 0, None).await;
    assert!(other.is_closed().await);
    world.volume.let_go();
    let answer = one.answer_to(reset).await;
    assert_eq!((answer.header[0], answer.header[2]), (0x22, COMPLETE));
    assert!(one.is_closed().await);
    assert!(asking.send_targets("All").await.contains(DISK));
    world.log_in(1).await.settle(0).await;
}

/// RFC 7143 §11.6.1: no auto contingent allegiance is ever established, so there is nothing to clear.
#[tokio::test]
async fn what_there_is_not_is_not_managed() {
    let world = World::new(TargetOptions::default()).await;
    let mut initiator = world.settled(1).await;
    assert_eq!(initiator.manage(CLEAR_ACA, 0, None).await, 5);
    for function in [ABORT_TASK_SET, CLEAR_TASK_SET, LOGICAL_UNIT_RESET] {
        assert_eq!(initiator.manage(function, 1, None).await, 2, "no such LUN");
    }
    initiator.is_told_nothing(0).await;
}

/// Two sessions that reset each other's unit at once: both are answered.
#[tokio::test]
async fn resets_that_cross_do_not_wait_for_each_other() {
    let mut options = TargetOptions::default();
    options.session.limits.abort_grace = Duration::from_millis(100);
    let world = World::new(options).await;
    let (mut one, mut other) = (world.settled(1).await, world.settled(2).await);
    world.volume.hold();
    for initiator in [&mut one, &mut other] {
        initiator.command(0, &write_block(2), 0, &[0x11; 512]).await;
    }
    world.volume.hangs(1).await;
    let resets = async {
        tokio::join!(
            one.manage(LOGICAL_UNIT_RESET, 0, None),
            other.manage(TARGET_WARM_RESET, 0, None)
        )
    };
    let answers = timeout(PATIENCE, resets).await.expect("both are answered");
    assert_eq!(answers, (COMPLETE, COMPLETE));
    world.volume.let_go();
}

/// A session that ends while others wait for its writes: they wait until these have ended.
#[tokio::test]
async fn a_reset_waits_for_the_writes_of_a_session_that_ends() {
    let world = World::new(TargetOptions::default()).await;
    let (mut one, mut other) = (world.settled(1).await, world.settled(2).await);
    world.volume.hold();
    other.command(0, &write_block(2), 0, &[0x11; 512]).await;
    world.volume.hangs(1).await;
    drop(other);
    let reset = one.order(LOGICAL_UNIT_RESET, 0, None).await;
    assert_eq!(one.scsi(3, &READ_BLOCK_2, 512).await.0, 0);
    world.volume.let_go();
    assert_eq!(one.answer_to(reset).await.header[2], COMPLETE);
    assert_eq!(world.volume.block(2), [0x11; 512]);
}

/// PERSISTENT RESERVE OUT, PREEMPT AND ABORT (SPC-4 §5.13.11.2.6): the commands of the one who is preempted are gone.
#[tokio::test]
async fn preempt_and_abort_takes_the_tasks_of_the_preempted() {
    let world = World::new(TargetOptions::default()).await;
    let (mut one, mut other) = (world.settled(1).await, world.settled(2).await);
    let register = |action: u8, kind: u8| [0x5f, action, kind, 0, 0, 0, 0, 0, 24, 0];
    let keys = |own: u8, other: u8| {
        let mut list = [0; 24];
        (list[7], list[15]) = (own, other);
        list
    };
    for (initiator, key) in [(&mut one, 1), (&mut other, 2)] {
        let tag = initiator
            .command(0, &register(0, 0), 0, &keys(0, key))
            .await;
        assert_eq!(initiator.outcome(tag).await.0, 0);
    }
    world.volume.hold();
    other.command(0, &READ_BLOCK_2, 512, &[]).await;
    world.volume.hangs(1).await;
    let tag = one.command(0, &register(5, 5), 0, &keys(1, 2)).await;
    assert_eq!(one.outcome(tag).await.0, 0);
    world.volume.let_go();
    let mut told = Vec::new();
    loop {
        other.command(0, &TEST_UNIT_READY, 0, &[]).await;
        let answer = other.receive().await.expect("an answer");
        assert_eq!(answer.tag(), other.tag, "the read is never answered");
        match answer.header[3] {
            2 => told.push([answer.data[4], answer.data[14], answer.data[15]]),
            _ => break,
        }
    }
    told.sort_unstable();
    assert_eq!(told, [[6, 0x2a, 0x05], [6, 0x2f, 0x00]]);
    assert_eq!(world.target.stats().purged, 1);
}
