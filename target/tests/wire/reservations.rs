//! Reservations between sessions (SPC-4 §5.13): who is shut out, who is told, and that a fenced initiator writes no more.

use std::time::Duration;

use iscsi_target::{Export, ExportError, Target, TargetOptions, Unit};
use tokio::time::timeout;

use crate::harness::{
    DISK, HOST, Initiator, PATIENCE, READ_BLOCK_2, TEST_UNIT_READY, World, unit, write_block,
};

const GOOD: u8 = 0x00;
const CHECK_CONDITION: u8 = 0x02;
const CONFLICT: u8 = 0x18;

const REGISTER: u8 = 0x00;
const RESERVE: u8 = 0x01;
const PREEMPT: u8 = 0x04;
const PREEMPT_AND_ABORT: u8 = 0x05;

const WRITE_EXCLUSIVE: u8 = 1;
const EXCLUSIVE_ACCESS: u8 = 3;

const RESERVE_6: [u8; 6] = [0x16, 0, 0, 0, 0, 0];
const READ_KEYS: [u8; 10] = [0x5e, 0, 0, 0, 0, 0, 0, 1, 0, 0];

/// A parameter list of 24 bytes.
fn list(key: u8, action_key: u8, flags: u8) -> Vec<u8> {
    let mut list = vec![0; 24];
    (list[7], list[15], list[20]) = (key, action_key, flags);
    list
}

impl Initiator {
    /// Sends PERSISTENT RESERVE OUT to unit 0.
    async fn send_out(&mut self, action: u8, kind: u8, list: &[u8]) -> u32 {
        let length = u8::try_from(list.len()).expect("a short list");
        let cdb = [0x5f, action, kind, 0, 0, 0, 0, 0, length, 0];
        self.command(0, &cdb, 0, list).await
    }

    /// Sends PERSISTENT RESERVE OUT to unit 0 and takes the status.
    async fn out(&mut self, action: u8, kind: u8, list: &[u8]) -> u8 {
        let tag = self.send_out(action, kind, list).await;
        self.outcome(tag).await.0
    }

    /// The keys of unit 0.
    async fn keys(&mut self) -> Vec<u8> {
        let (status, report, _) = self.scsi(0, &READ_KEYS, 256).await;
        assert_eq!(status, GOOD);
        report[8..].chunks(8).map(|key| key[7]).collect()
    }

    /// The status of TEST UNIT READY, and the sense codes.
    async fn ready(&mut self) -> (u8, [u8; 3]) {
        let (status, _, sense) = self.scsi(0, &TEST_UNIT_READY, 0).await;
        (status, sense)
    }

    /// The answer to a command for the other unit comes before any other.
    async fn is_answered_by_the_other_unit(&mut self) {
        let tag = self.command(3, &TEST_UNIT_READY, 0, &[]).await;
        let answer = self.receive().await.expect("an answer");
        assert_eq!((answer.tag(), answer.header[3]), (tag, GOOD));
    }
}

/// Two sessions with the keys 1 and 2, the second of which holds a reservation.
async fn reserved(world: &World, kind: u8) -> (Initiator, Initiator) {
    let (mut one, mut other) = (world.settled(1).await, world.settled(2).await);
    assert_eq!(one.out(REGISTER, 0, &list(0, 1, 0)).await, GOOD);
    assert_eq!(other.out(REGISTER, 0, &list(0, 2, 0)).await, GOOD);
    assert_eq!(other.out(RESERVE, kind, &list(2, 0, 0)).await, GOOD);
    (one, other)
}

/// Waits until so many sessions are left.
async fn left(world: &World, sessions: usize) {
    let ended = async {
        while world.target.sessions().len() > sessions {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, ended).await.expect("sessions end");
}

/// SAM-5 §5.3.3: RESERVATION CONFLICT comes before REGISTRATIONS PREEMPTED, which is told by a command that passes.
#[tokio::test]
async fn a_conflict_hides_what_it_is_due_to() {
    let world = World::new(TargetOptions::default()).await;
    let (mut one, mut other) = reserved(&world, WRITE_EXCLUSIVE).await;
    assert_eq!(one.write(0, 2, 0x11).await, CONFLICT);
    assert_eq!(one.scsi(0, &READ_BLOCK_2, 512).await.0, GOOD);
    let order = list(1, 2, 0);
    assert_eq!(one.out(PREEMPT, EXCLUSIVE_ACCESS, &order).await, GOOD);
    assert_eq!(one.write(0, 2, 0x22).await, GOOD);
    assert_eq!(other.scsi(0, &READ_BLOCK_2, 512).await.0, CONFLICT);
    assert_eq!(other.write(0, 2, 0x33).await, CONFLICT);
    let told = (CHECK_CONDITION, [6, 0x2a, 0x05]);
    assert_eq!(other.ready().await, told);
    assert_eq!(other.ready().await, (GOOD, [0; 3]));
    assert_eq!(other.keys().await, [1]);
    assert_eq!(world.volume.block(2), [0x22; 512]);
    assert_eq!(world.target.stats().reservation_conflicts, 3);
}

/// SPC-4 §5.13.11.5: PREEMPT AND ABORT is over when no command of the preempted one is under way.
#[tokio::test]
async fn a_write_under_way_is_waited_for() {
    let world = World::new(TargetOptions::default()).await;
    let (mut one, mut other) = reserved(&world, WRITE_EXCLUSIVE).await;
    world.volume.hold();
    let stuck = other.command(0, &write_block(2), 0, &[0x11; 512]).await;
    world.volume.hangs(1).await;
    let fence = one
        .send_out(PREEMPT_AND_ABORT, WRITE_EXCLUSIVE, &list(1, 2, 0))
        .await;
    // In force at once, for writes that were sent later and for everybody.
    assert_eq!(one.keys().await, [1]);
    assert_eq!(other.write(0, 3, 0x11).await, CONFLICT);
    one.is_answered_by_the_other_unit().await;
    world.volume.let_go();
    assert_eq!(one.outcome(fence).await.0, GOOD);
    assert_eq!(world.volume.block(2), [0x11; 512], "it has ended");
    assert_eq!(world.volume.block(3), [3; 512]);
    // The command that was aborted is not answered; the next answer is one to the next command.
    assert_eq!(other.ready().await, (CHECK_CONDITION, [6, 0x2a, 0x05]));
    assert_eq!(other.ready().await, (CHECK_CONDITION, [6, 0x2f, 0x00]));
    assert_eq!(other.ready().await, (GOOD, [0; 3]));
    assert!(stuck < other.tag);
}

/// A host that has crashed is what fencing is for: its last write is waited for, though nothing else of it is left.
#[tokio::test]
async fn a_write_of_a_dead_session_is_waited_for() {
    let options = TargetOptions {
        write_grace: Duration::ZERO,
        ..TargetOptions::default()
    };
    let world = World::new(options).await;
    let (mut one, mut other) = reserved(&world, WRITE_EXCLUSIVE).await;
    world.volume.hold();
    other.command(0, &write_block(2), 0, &[0x11; 512]).await;
    world.volume.hangs(1).await;
    drop(other);
    left(&world, 1).await;
    let fence = one
        .send_out(PREEMPT_AND_ABORT, WRITE_EXCLUSIVE, &list(1, 2, 0))
        .await;
    assert_eq!(one.keys().await, [1]);
    one.is_answered_by_the_other_unit().await;
    world.volume.let_go();
    assert_eq!(one.outcome(fence).await.0, GOOD);
    assert_eq!(world.volume.block(2), [0x11; 512], "it has ended");
}

/// SPC-4 §5.13.1: a command whose data comes when the unit is somebody else's does nothing.
#[tokio::test]
async fn a_write_that_waits_for_its_data_is_refused() {
    let world = World::new(TargetOptions::default()).await;
    let (mut one, mut other) = reserved(&world, WRITE_EXCLUSIVE).await;
    let mut header = other.header(0x01, 0xa0, 0);
    header[20..24].copy_from_slice(&512u32.to_be_bytes());
    header[32..42].copy_from_slice(&write_block(2));
    other.cmd_sn += 1;
    other.send(header, &[]).await;
    let ask = other.receive().await.expect("an R2T");
    assert_eq!(ask.header[0], 0x31);
    let preempt = list(1, 2, 0);
    assert_eq!(one.out(PREEMPT, WRITE_EXCLUSIVE, &preempt).await, GOOD);
    let mut header = [0; 48];
    header[..2].copy_from_slice(&[0x05, 0x80]);
    header[16..24].copy_from_slice(&ask.header[16..24]);
    header[28..32].copy_from_slice(&other.stat_sn.to_be_bytes());
    other.send(header, &[0x11; 512]).await;
    assert_eq!(other.outcome(ask.tag()).await.0, CONFLICT);
    assert_eq!(world.volume.block(2), [2; 512]);
}

/// SPC-4 §5.13.7: a registration belongs to the nexus, not to the session.
#[tokio::test]
async fn a_registration_outlives_its_session() {
    let world = World::new(TargetOptions::default()).await;
    let (one, mut other) = reserved(&world, WRITE_EXCLUSIVE).await;
    drop(one);
    left(&world, 1).await;
    assert_eq!(other.keys().await, [1, 2]);
    let mut one = world.settled(1).await;
    let order = list(1, 2, 0);
    assert_eq!(one.out(PREEMPT, WRITE_EXCLUSIVE, &order).await, GOOD);
    assert_eq!(one.write(0, 2, 0x11).await, GOOD);
}

/// SPC-2 §5.5.1: what RESERVE gave ends with the nexus.
#[tokio::test]
async fn a_reserve_ends_with_its_session() {
    let world = World::new(TargetOptions::default()).await;
    let (mut one, mut other) = (world.settled(1).await, world.settled(2).await);
    assert_eq!(one.scsi(0, &RESERVE_6, 0).await.0, GOOD);
    assert_eq!(other.ready().await.0, CONFLICT);
    assert_eq!(other.scsi(0, &RESERVE_6, 0).await.0, CONFLICT);
    assert_eq!(one.ready().await.0, GOOD);
    drop(one);
    left(&world, 1).await;
    assert_eq!(other.ready().await.0, GOOD);
    // LOGICAL UNIT RESET ends it as well.
    assert_eq!(other.scsi(0, &RESERVE_6, 0).await.0, GOOD);
    let mut one = world.settled(1).await;
    assert_eq!(one.scsi(0, &READ_BLOCK_2, 512).await.0, CONFLICT);
    assert_eq!(one.manage(5, 0, None).await, 0);
    assert_eq!(one.ready().await, (CHECK_CONDITION, [6, 0x29, 0x03]));
    assert_eq!(one.scsi(0, &READ_BLOCK_2, 512).await.0, GOOD);
}

/// SPC-4 §7.6.4.6: an initiator's name stands for all its ports that are logged in.
#[tokio::test]
async fn all_ports_of_an_initiator_are_registered() {
    let world = World::new(TargetOptions::default()).await;
    let (mut one, mut other) = (world.settled(1).await, world.settled(2).await);
    let mut registration = list(0, 7, 0x08);
    registration.extend([0, 0, 0, 36, 0x05, 0, 0, 32]);
    registration.extend(HOST.bytes());
    registration.resize(24 + 4 + 36, 0);
    assert_eq!(one.out(REGISTER, 0, &registration).await, GOOD);
    assert_eq!(other.keys().await, [7, 7]);
    assert_eq!(
        other.out(RESERVE, WRITE_EXCLUSIVE, &list(7, 0, 0)).await,
        GOOD
    );
}

/// A unit of `DISK` alone, with a file for its reservations.
fn kept(world: &World, folder: &tempfile::TempDir) -> Export<std::sync::Arc<crate::harness::Disk>> {
    let file = folder.path().join("unit-0");
    let unit = Unit {
        reservations_file: Some(file),
        ..unit(0, &world.volume)
    };
    Export::new(DISK.parse().expect("a name"), vec![unit])
}

/// SPC-4 §5.13.5: with APTPL a reservation is there again when the unit is.
#[tokio::test]
async fn a_reservation_outlives_its_unit() {
    let folder = tempfile::tempdir().expect("a folder");
    let world = World::new(TargetOptions::default()).await;
    let name = DISK.parse().expect("a name");
    assert!(world.target.withdraw(&name));
    world
        .target
        .export(kept(&world, &folder))
        .expect("no reservations yet");
    let mut one = world.log_in(1).await;
    one.settle(0).await;
    assert_eq!(one.out(REGISTER, 0, &list(0, 1, 1)).await, GOOD);
    assert_eq!(
        one.out(RESERVE, WRITE_EXCLUSIVE, &list(1, 0, 0)).await,
        GOOD
    );
    assert!(world.target.withdraw(&name));
    left(&world, 0).await;

    world
        .target
        .export(kept(&world, &folder))
        .expect("sound reservations");
    let mut other = world.log_in(2).await;
    other.settle(0).await;
    assert_eq!(other.keys().await, [1]);
    assert_eq!(other.write(0, 2, 0x11).await, CONFLICT);
    let mut one = world.log_in(1).await;
    one.settle(0).await;
    assert_eq!(one.write(0, 2, 0x22).await, GOOD);
}

#[tokio::test]
async fn a_unit_with_damaged_reservations_is_not_served() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("unit-0"), b"reservations").expect("room");
    let world = World::new(TargetOptions::default()).await;
    let refused = Target::new(TargetOptions::default()).export(kept(&world, &folder));
    assert!(matches!(
        refused,
        Err(ExportError::Unreadable { unit: 0, .. })
    ));
}
