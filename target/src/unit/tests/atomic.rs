//! WRITE ATOMIC(16): whole for readers, for other writers, and after an end at any moment.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::timeout;
use vmthunder_volume::{Error, Volume};

use super::{Bench, Unit, block};

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

#[tokio::test]
async fn a_failure_leaves_what_was_there_or_completes_it_later() {
    let folder = tempfile::tempdir().unwrap();
    let bench = bench(folder.path());
    let read = [0x28, 0, 0, 0, 0, 4, 0, 0, 2, 0];
    let data = [block(0xa4), block(0xa5)].concat();
    bench.disk().fail(Some(Error::NoSpace));
    // Neither the write nor its undoing succeeds: nothing can be said about the blocks until one of them does.
    assert_eq!(
        bench.refused(&write_atomic(4, 2), &data).await,
        [7, 0x27, 7]
    );
    assert_eq!(bench.refused(&read, &[]).await, [7, 0x27, 7]);
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
