//! WRITE ATOMIC(16): whole for readers, for other writers, and after an end at any moment.

use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use iscsi_proto::scsi::Command;
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, yield_now};
use tokio::time::timeout;
use vmthunder_volume::{Error, Volume};

use super::{Bench, Unit, block};
use crate::tasks::poll_once;

fn write_atomic(lba: u8, blocks: u8) -> [u8; 16] {
    [0x9c, 0, 0, 0, 0, 0, 0, 0, 0, lba, 0, 0, 0, blocks, 0, 0]
}

fn bench(folder: &Path) -> Bench {
    let path = folder.join("disk.atomic");
    Bench::with(|unit| Unit {
        atomic_file: Some(path),
        ..unit
    })
}

#[tokio::test]
async fn all_blocks_are_written_and_safe() {
    let folder = tempfile::tempdir().unwrap();
    let bench = bench(folder.path());
    let data = [block(0xa4), block(0xa5)].concat();
    let response = bench.run(&write_atomic(4, 2), &data).await;
    assert_eq!((response.status.0, response.transfer_length), (0, 1024));
    assert_eq!(bench.disk().durable()[4 * 512..6 * 512], data);
    assert!(bench.good(&write_atomic(4, 0), &[]).await.is_empty());
}

#[tokio::test]
async fn what_could_not_be_whole_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let bench = bench(folder.path());
    let mut bounded = write_atomic(4, 2);
    bounded[11] = 1;
    let refused = [
        (bounded, 2, [0xcf, 0, 10]),
        (write_atomic(4, 3), 2, [0xcf, 0, 12]),
        (write_atomic(4, 1), 2, [0xcf, 0, 12]),
    ];
    for (cdb, blocks, field) in refused {
        let sense = bench.sense(&cdb, &vec![1; blocks * 512]).await;
        assert_eq!((sense[2], sense[12]), (5, 0x24));
        assert_eq!(sense[15..18], field);
    }
    // 2049 blocks are more than 1 MiB.
    let long = [0x9c, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 1, 0, 0];
    assert_eq!(
        bench.refused(&long, &vec![1; 2049 * 512]).await,
        [5, 0x24, 0]
    );
    let outside = [0x9c, 0, 0, 0, 0, 0, 0, 0, 0x7f, 0xff, 0, 0, 0, 2, 0, 0];
    assert_eq!(bench.refused(&outside, &[1; 1024]).await, [5, 0x21, 0]);
    assert_eq!(bench.blocks(4, 2), [block(4), block(5)].concat());
    let limits = bench.good(&[0x12, 1, 0xb0, 0, 64, 0], &[]).await;
    assert_eq!(
        limits[44..64],
        [0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    );
    let one = [0xa3, 0x0c, 1, 0x9c, 0, 0, 0, 0, 0, 64, 0, 0];
    assert_eq!(bench.good(&one, &[]).await[1], 3);
}

/// Every reader sees one write or another, on a volume whose reads and writes come in halves.
#[tokio::test]
async fn nobody_sees_a_part_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Arc::new(bench(folder.path()));
    bench.disk().torn.store(true, Ordering::SeqCst);
    bench.good(&write_atomic(2, 6), &vec![0; 6 * 512]).await;
    let mut tasks = JoinSet::new();
    for first in [1u8, 101] {
        let bench = Arc::clone(&bench);
        tasks.spawn(async move {
            for fill in first..first + 20 {
                bench.good(&write_atomic(2, 6), &vec![fill; 6 * 512]).await;
            }
        });
    }
    for verify in [false, true] {
        let bench = Arc::clone(&bench);
        tasks.spawn(async move {
            for _ in 0..200 {
                let found = bench.good(&[0x28, 0, 0, 0, 0, 2, 0, 0, 6, 0], &[]).await;
                assert!(found.iter().all(|byte| *byte == found[0]));
                if verify {
                    let cdb = [0x2f, 0x06, 0, 0, 0, 2, 0, 0, 6, 0];
                    let sense = bench.run(&cdb, &found[..512]).await.sense;
                    // All blocks are the same: if one differs, all do, and the first byte says so.
                    assert!(sense.is_none_or(|sense| sense[3..7] == [0; 4]));
                }
            }
        });
    }
    timeout(Duration::from_secs(60), tasks.join_all())
        .await
        .unwrap();
}

/// The process ends when the record is safe and a part of the blocks is written.
#[tokio::test]
async fn what_was_interrupted_is_whole_before_anybody_looks() {
    let folder = tempfile::tempdir().unwrap();
    let data = [block(0xa4), block(0xa5), block(0xa6)].concat();
    let path = folder.path().join("disk.atomic");
    {
        let bench = bench(folder.path());
        bench.good(&write_atomic(4, 3), &data).await;
    }
    // The record as it was when the blocks were written.
    let mut record = std::fs::read(&path).unwrap();
    record[..8].copy_from_slice(b"VMTATOM1");
    for written in 0..=3 {
        std::fs::write(&path, &record).unwrap();
        let bench = bench(folder.path());
        let part = data[..written * 512].to_vec();
        bench.disk().write(4 * 512, part.into()).await.unwrap();
        let found = bench.good(&[0x28, 0, 0, 0, 0, 3, 0, 0, 5, 0], &[]).await;
        assert_eq!(
            found,
            [block(3), data.clone(), block(7)].concat(),
            "{written}"
        );
        assert_eq!(bench.disk().durable()[4 * 512..7 * 512], data);
        assert_eq!(std::fs::read(&path).unwrap()[..8], [0; 8]);
    }
    // Somebody else has written to the file meanwhile.
    std::fs::write(&path, &record).unwrap();
    let bench = bench(folder.path());
    bench
        .disk()
        .write(5 * 512, block(0x99).into())
        .await
        .unwrap();
    let found = bench.good(&[0x28, 0, 0, 0, 0, 4, 0, 0, 3, 0], &[]).await;
    assert_eq!(found, [block(4), block(0x99), block(6)].concat());
}

/// Power fails when the record is safe. It knows the blocks by what they held before, so that has to be on the medium,
/// too: else they would be taken for blocks that somebody else has written to.
#[tokio::test]
async fn what_the_blocks_held_before_is_safe_before_the_record_is() {
    static GATE: Semaphore = Semaphore::const_new(0);
    let folder = tempfile::tempdir().unwrap();
    let bench = Arc::new(bench(folder.path()));
    let cached = [0x2a, 0, 0, 0, 0, 4, 0, 0, 1, 0];
    bench.good(&cached, &block(0x77)).await;
    assert_eq!(bench.disk().durable()[4 * 512..5 * 512], block(4));
    *bench.disk().gate.lock().unwrap() = Some(&GATE);
    // One flush, and not the write in place.
    GATE.add_permits(1);
    let writer = Arc::clone(&bench);
    let data = [block(0xa4), block(0xa5)].concat();
    let written = tokio::spawn(async move { writer.good(&write_atomic(4, 2), &data).await });
    let journal = folder.path().join("disk.atomic");
    let recorded = async {
        while !std::fs::read(&journal).is_ok_and(|found| found.starts_with(b"VMTATOM1")) {
            yield_now().await;
        }
    };
    timeout(Duration::from_secs(60), recorded).await.unwrap();
    assert_eq!(bench.disk().durable()[4 * 512..5 * 512], block(0x77));
    GATE.add_permits(2);
    timeout(Duration::from_secs(60), written)
        .await
        .unwrap()
        .unwrap();
}

/// A read that was half-way when an atomic write came is repeated.
#[tokio::test]
async fn a_read_under_way_sees_nothing_of_it_or_all() {
    let folder = tempfile::tempdir().unwrap();
    let bench = bench(folder.path());
    bench.disk().torn.store(true, Ordering::SeqCst);
    let read = [0x28, 0, 0, 0, 0, 4, 0, 0, 2, 0];
    let mut reading = pin!(bench.good(&read, &[]));
    assert!(poll_once(reading.as_mut()).await.is_pending());
    bench.disk().torn.store(false, Ordering::SeqCst);
    let data = [block(0xa4), block(0xa5)].concat();
    bench.good(&write_atomic(4, 2), &data).await;
    assert!(reading.await == data);
}

/// What is written after an abort stays, even if the aborted write had not had its turn yet.
#[tokio::test]
async fn an_aborted_write_that_waits_for_its_turn_is_fenced() {
    static GATE: Semaphore = Semaphore::const_new(0);
    let folder = tempfile::tempdir().unwrap();
    let bench = bench(folder.path());
    *bench.disk().gate.lock().unwrap() = Some(&GATE);
    let (data, late) = ([block(0xa4), block(0xa5)].concat(), block(0xa8));
    let (first, second) = (write_atomic(4, 2), write_atomic(8, 1));
    let mut hangs = pin!(bench.good(&first, &data));
    let mut aborted = pin!(bench.good(&second, &late));
    assert!(poll_once(hangs.as_mut()).await.is_pending());
    assert!(poll_once(aborted.as_mut()).await.is_pending());
    bench.unit().fence(&Command::parse(&second).unwrap());
    let (write, new) = ([0x2a, 0, 0, 0, 0, 8, 0, 0, 1, 0], block(0xb8));
    let mut newer = pin!(bench.good(&write, &new));
    assert!(poll_once(newer.as_mut()).await.is_pending());
    // What is elsewhere need not wait for any of them.
    *bench.disk().gate.lock().unwrap() = None;
    bench
        .good(&[0x2a, 0, 0, 0, 0, 9, 0, 0, 1, 0], &block(0xb9))
        .await;
    GATE.add_permits(1);
    let all = async { tokio::join!(hangs, aborted, newer) };
    timeout(Duration::from_secs(60), all).await.unwrap();
    let expected = [&data, &block(6)[..], &block(7), &new, &block(0xb9)].concat();
    assert_eq!(bench.blocks(4, 6), expected);
}

#[tokio::test]
async fn a_failure_leaves_what_was_there_or_completes_it_later() {
    static GATE: Semaphore = Semaphore::const_new(0);
    let folder = tempfile::tempdir().unwrap();
    let bench = bench(folder.path());
    let read = [0x28, 0, 0, 0, 0, 4, 0, 0, 2, 0];
    let data = [block(0xa4), block(0xa5)].concat();
    bench.disk().fail(Some(Error::NoSpace));
    assert_eq!(
        bench.refused(&write_atomic(4, 2), &data).await,
        [7, 0x27, 7]
    );
    assert_eq!(bench.good(&read, &[]).await, [block(4), block(5)].concat());
    bench.disk().fail(None);
    // Neither the write nor its undoing succeeds: nothing can be said about the blocks until one of them does.
    *bench.disk().gate.lock().unwrap() = Some(&GATE);
    let write = write_atomic(4, 2);
    let mut fails = pin!(bench.refused(&write, &data));
    assert!(poll_once(fails.as_mut()).await.is_pending());
    bench.disk().fail(Some(Error::NoSpace));
    GATE.add_permits(1);
    assert_eq!(fails.await, [7, 0x27, 7]);
    *bench.disk().gate.lock().unwrap() = None;
    assert_eq!(bench.refused(&read, &[]).await, [7, 0x27, 7]);
    // What asks for no block is answered all the same.
    bench.good(&[0x12, 0, 0, 0, 36, 0], &[]).await;
    bench.disk().fail(None);
    assert_eq!(bench.good(&read, &[]).await, data);
    // There is no place for the journal.
    let nowhere = folder.path().join("missing").join("disk.atomic");
    let bench = Bench::with(|unit| Unit {
        atomic_file: Some(nowhere),
        ..unit
    });
    assert_eq!(
        bench.refused(&write_atomic(4, 2), &data).await,
        [3, 0x0c, 0]
    );
    assert_eq!(bench.good(&read, &[]).await, [block(4), block(5)].concat());
}
