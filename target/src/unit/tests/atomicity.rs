//! What is one step for everybody else who writes, on a volume where nothing is whole by itself.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use proptest::prelude::{ProptestConfig, any, prop, prop_assert_eq, proptest};
use tokio::task::{JoinSet, yield_now};
use tokio::time::timeout;

use super::{Bench, block};

/// A hang is a failure.
const PATIENCE: Duration = Duration::from_secs(60);

fn torn() -> Arc<Bench> {
    let bench = Bench::new();
    bench.disk().torn.store(true, Ordering::SeqCst);
    Arc::new(bench)
}

fn read(lba: u8, blocks: u8) -> [u8; 10] {
    [0x28, 0, 0, 0, 0, lba, 0, 0, blocks, 0]
}

fn write(lba: u8, blocks: u8) -> [u8; 10] {
    [0x2a, 0, 0, 0, 0, lba, 0, 0, blocks, 0]
}

fn compare_and_write(lba: u8, blocks: u8) -> [u8; 16] {
    [0x89, 0, 0, 0, 0, 0, 0, 0, 0, lba, 0, 0, 0, blocks, 0, 0]
}

/// Counts up at the end of a block, as a lock on shared storage does, until `times` succeeded.
async fn count(bench: Arc<Bench>, times: u8) {
    let mut done = 0;
    while done < times {
        let found = bench.good(&read(3, 1), &[]).await;
        let mut next = found.clone();
        next[511] += 1;
        next[0] = next[511];
        let data = [found, next].concat();
        let response = bench.run(&compare_and_write(3, 1), &data).await;
        done += u8::from(response.status.0 == 0);
        yield_now().await;
    }
}

#[tokio::test]
async fn no_count_is_lost() {
    let bench = torn();
    bench.good(&write(3, 1), &block(0)).await;
    let mut tasks = JoinSet::new();
    for _ in 0..8 {
        tasks.spawn(count(Arc::clone(&bench), 20));
    }
    timeout(PATIENCE, tasks.join_all()).await.unwrap();
    let found = bench.blocks(3, 1);
    assert_eq!((found[0], found[511]), (160, 160));
}

/// A plain write that was answered is never undone by a comparison that was made before it.
#[tokio::test]
async fn no_write_is_undone() {
    let bench = torn();
    let mut tasks = JoinSet::new();
    for lba in [0, 1, 2] {
        let bench = Arc::clone(&bench);
        // Marks whatever it finds in block 2 and its neighbours.
        tasks.spawn(async move {
            for _ in 0..200 {
                let found = bench.run(&read(lba, 3), &[]).await.data.concat();
                let mut marked = found.clone();
                marked[1024 - usize::from(lba) * 512 + 256] ^= 0xff;
                let data = [found, marked].concat();
                bench.run(&compare_and_write(lba, 3), &data).await;
            }
        });
    }
    let writer = Arc::clone(&bench);
    tasks.spawn(async move {
        for stamp in 1..=200 {
            writer.good(&write(2, 1), &block(stamp)).await;
            let found = writer.good(&read(2, 1), &[]).await;
            let (first, last) = (found[0], found[511]);
            assert_eq!((first, last), (stamp, stamp));
        }
    });
    timeout(PATIENCE, tasks.join_all()).await.unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// However the tasks take turns, every bit that was ever added is there in the end.
    #[test]
    fn no_bit_is_lost(
        jobs in prop::collection::vec((0u8..6, 1u8..3, any::<u8>(), 0u8..4), 1..24),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let mut expected = vec![0u8; 8 * 512];
        for (lba, blocks, bits, _) in &jobs {
            let at = usize::from(*lba) * 512;
            let run = &mut expected[at..at + usize::from(*blocks) * 512];
            run.iter_mut().for_each(|byte| *byte |= bits);
        }
        let found = runtime.block_on(async {
            let bench = torn();
            bench.good(&write(0, 8), &vec![0; 8 * 512]).await;
            let mut tasks = JoinSet::new();
            for (lba, blocks, bits, pauses) in jobs {
                let bench = Arc::clone(&bench);
                tasks.spawn(async move {
                    for _ in 0..pauses {
                        yield_now().await;
                    }
                    let cdb = [0x8b, 0, 0, 0, 0, 0, 0, 0, 0, lba, 0, 0, 0, blocks, 0, 0];
                    bench.good(&cdb, &vec![bits; usize::from(blocks) * 512]).await;
                });
            }
            timeout(PATIENCE, tasks.join_all()).await.unwrap();
            bench.blocks(0, 8)
        });
        prop_assert_eq!(found, expected);
    }
}
