//! What becomes of a command whose future is dropped.

#[path = "harness/actor.rs"]
mod actor;
mod harness;

use std::sync::Arc;
use std::time::Duration;

use actor::{Act, Actor, What};
use bytes::Bytes;
use harness::{Wire, connect, disk, options, serve, soon};
use iscsi_initiator::{Options, Outage, Remote, Session};
use iscsi_proto::scsi::Command;
use iscsi_proto::session::{ManagementFunction, Transfer};
use iscsi_proto::wire::lun::Lun;
use tokio::task::{JoinHandle, JoinSet};
use vmthunder_volume::{BlockSize, Class, Span, Volume};

fn write(session: &Session, lba: u64, byte: u8) -> JoinHandle<()> {
    let session = session.clone();
    tokio::spawn(async move {
        let data = Transfer::Write(Bytes::from(vec![byte; 512]));
        let command = Command::write(lba, 1);
        let writing = session.execute(Lun(0), &command, data, Class::Demand);
        soon(writing).await.expect("written");
    })
}

async fn until(truth: impl Fn() -> bool) {
    let wait = async {
        while !truth() {
            tokio::task::yield_now().await;
        }
    };
    soon(wait).await;
}

/// The target may carry out what it has in any order: a newer write waits until the older one is over.
#[tokio::test]
async fn a_write_that_was_given_up_is_over_before_a_newer_one_is_sent() {
    let actor = Actor::new(|cue| match cue.what {
        What::Write(1, 0xa1) => vec![],
        _ => vec![Act::Play],
    });
    let session = soon(connect(&actor.portal(1).await, options())).await;
    let old = write(
        &session.with_command_timeout(Some(Duration::from_millis(300))),
        1,
        0xa1,
    );
    actor.arrived(1, |what| what == What::Write(1, 0xa1)).await;
    old.abort();
    until(|| old.is_finished()).await;
    let new = write(&session, 1, 0xb1);
    soon(write(&session, 2, 0xc1)).await.expect("written");
    soon(new).await.expect("written");
    let journal = actor.stage().journal.clone();
    let kinds: Vec<What> = journal.into_iter().map(|cue| cue.what).collect();
    assert_eq!(
        kinds[1..],
        [
            What::Write(1, 0xa1),
            What::Write(2, 0xc1),
            What::Manage(ManagementFunction::AbortTask),
            What::Write(1, 0xb1)
        ]
    );
    until(|| session.in_flight() == 0).await;
}

#[tokio::test]
async fn what_was_not_sent_is_forgotten_and_its_place_is_free() {
    let actor = Actor::new(|cue| match cue.what {
        What::Write(1, _) => vec![],
        _ => vec![Act::Play],
    });
    actor.stage().window = 1;
    let session = soon(connect(&actor.portal(1).await, options())).await;
    let hasty = session.with_command_timeout(Some(Duration::from_millis(300)));
    let held = write(&hasty, 1, 0xa1);
    actor.arrived(1, |what| what == What::Write(1, 0xa1)).await;
    let given_up = write(&session, 2, 0xb1);
    until(|| session.in_flight() == 2).await;
    tokio::task::yield_now().await;
    given_up.abort();
    until(|| given_up.is_finished()).await;
    let kept = write(&session, 3, 0xc1);
    until(|| session.in_flight() == 2).await;
    held.abort();
    soon(kept).await.expect("written");
    assert_eq!(actor.writes(), [(0, 1, 0xa1), (0, 3, 0xc1)]);
    until(|| session.in_flight() == 0).await;
}

/// Whoever stops waiting for a target that is away leaves nothing behind.
#[tokio::test]
async fn places_come_back_during_an_outage() {
    let actor = Actor::new(|_| vec![Act::Play]);
    let wire = Wire::to(&actor.portal(1).await).await;
    let mut patient = options();
    patient.reconnect.outage = Outage::Wait;
    let session = soon(connect(&wire.address, patient)).await;
    wire.set_down(true);
    until(|| !session.is_connected()).await;
    let writes: Vec<_> = (0..20).map(|lba| write(&session, lba, 1)).collect();
    until(|| session.in_flight() == 20).await;
    for write in &writes[1..] {
        write.abort();
    }
    until(|| session.in_flight() == 1).await;
    wire.set_down(false);
    for (lba, write) in writes.into_iter().enumerate() {
        assert_eq!(soon(write).await.is_ok(), lba == 0);
    }
    assert_eq!(actor.writes(), [(1, 0, 1)]);
}

/// A random number, good enough for tests (xorshift).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// Writes and reads one range again and again and gives most of it up. What it then holds is what was acknowledged last,
/// or something newer; and once a write is acknowledged nothing older comes back.
async fn fickle(remote: Remote, start: u64, seed: u64) -> u64 {
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let length = 8 * 512;
    let span = Span::new(start, length);
    let first = soon(remote.read(span, Class::Demand)).await.expect("read");
    let (mut possible, mut given_up) = (vec![first.to_vec()], 0);
    for round in 0..700u64 {
        let patience = dice.below(60);
        let impatient = async {
            for _ in 0..patience {
                tokio::task::yield_now().await;
            }
        };
        let value = round.to_le_bytes().repeat(512);
        if dice.below(4) == 0 {
            let read = soon(remote.read(span, Class::Demand)).await;
            let read = read.expect("read");
            assert!(possible.iter().any(|bytes| *bytes == read), "round {round}");
            continue;
        }
        tokio::select! {
            biased;
            written = remote.write(start, Bytes::from(value.clone())) => {
                written.expect("written");
                possible = vec![value];
            }
            () = impatient => {
                possible.push(value);
                given_up += 1;
            }
        }
    }
    let last = vec![0xee; 8 * 512];
    soon(remote.write(start, Bytes::from(last.clone())))
        .await
        .expect("written");
    for _ in 0..20 {
        let read = soon(remote.read(span, Class::Demand)).await;
        assert!(read.expect("read") == last, "something older came back");
    }
    given_up
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_dropped_futures_leave_no_trace() {
    let disk = disk(BlockSize::B512, 1 << 20);
    let served = serve(Arc::clone(&disk)).await;
    let wire = Wire::to(&served.address).await;
    let narrow = Options {
        queue_limit: 24,
        ..options()
    };
    let session = soon(connect(&wire.address, narrow)).await;
    let remote = soon(Remote::attach(session.clone(), Lun(0)))
        .await
        .expect("a unit");
    wire.set_lifetime(3_000_000);
    wire.cut();
    let mut lanes = JoinSet::new();
    for lane in 0..10 {
        lanes.spawn(fickle(remote.clone(), lane * 64 * 1024, lane + 1));
    }
    let mut given_up = 0;
    while let Some(lane) = lanes.join_next().await {
        given_up += lane.expect("no lane panics");
    }
    assert!(given_up > 1000, "only {given_up} were given up");
    assert!(
        wire.connections() > 3,
        "only {} connections",
        wire.connections()
    );
    until(|| session.in_flight() == 0).await;
    let contents = disk.below().contents();
    for lane in 0..10 {
        assert!(
            contents[lane * 64 * 1024..][..8 * 512]
                .iter()
                .all(|byte| *byte == 0xee)
        );
    }
    // Every place is there again.
    let mut all = JoinSet::new();
    for lba in 0..24 {
        let session = session.clone();
        all.spawn(async move {
            let command = Command::read(lba, 1);
            session
                .execute(Lun(0), &command, Transfer::Read(512), Class::Peer)
                .await
        });
    }
    while let Some(read) = soon(all.join_next()).await {
        read.expect("no panic").expect("read");
    }
}
