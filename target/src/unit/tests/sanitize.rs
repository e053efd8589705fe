//! SANITIZE: what is left of the content, and who may do what meanwhile.

use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use vmthunder_volume::Error;

use super::{BLOCKS, Bench, block};

const READY: [u8; 6] = [0, 0, 0, 0, 0, 0];
const ERASE: [u8; 10] = [0x48, 0x02, 0, 0, 0, 0, 0, 0, 0, 0];
const ERASE_AT_ONCE: [u8; 10] = [0x48, 0x82, 0, 0, 0, 0, 0, 0, 0, 0];
const EXIT: [u8; 10] = [0x48, 0x1f, 0, 0, 0, 0, 0, 0, 0, 0];
const GOING_ON: [u8; 3] = [2, 0x04, 0x1b];
const FAILED: [u8; 3] = [3, 0x31, 0x03];

fn overwrite(length: u16) -> [u8; 10] {
    let [high, low] = length.to_be_bytes();
    [0x48, 0x01, 0, 0, 0, 0, 0, high, low, 0]
}

#[tokio::test(start_paused = true)]
async fn a_pattern_takes_the_place_of_the_content() {
    let bench = Bench::new();
    bench.disk().resize(0x1003);
    // Two passes, the second inverted; three bytes of pattern in each block.
    let list = [0x82, 0, 0, 3, 0x0f, 0xaa, 0x01];
    let response = bench.run(&overwrite(7), &list).await;
    assert_eq!((response.status.0, response.transfer_length), (0, 7));
    let one: Vec<u8> = [0xf0, 0x55, 0xfe].into_iter().cycle().take(512).collect();
    let found = bench.disk().contents();
    assert_eq!(found.len(), 0x1003 * 512);
    assert!(found.chunks(512).all(|block| block == one));
    assert!(
        bench.disk().durable()[..found.len()] == found,
        "each pass reaches the medium"
    );
    assert_eq!(bench.disk().flushes(), 2);
    bench.good(&READY, &[]).await;
}

#[tokio::test(start_paused = true)]
async fn erased_blocks_are_zeros_and_take_no_space() {
    let bench = Bench::new();
    bench.good(&ERASE, &[]).await;
    assert!(bench.disk().durable().iter().all(|byte| *byte == 0));
    let status = [0x9e, 0x12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0];
    let found = bench.good(&status, &[]).await;
    assert_eq!(found[..4], [0, 0, 0, 20]);
    assert_eq!(
        found[8..],
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80, 0, 1, 0, 0, 0]
    );
}

#[tokio::test(start_paused = true)]
async fn everybody_waits_until_it_is_done() {
    static GATE: Semaphore = Semaphore::const_new(0);
    let bench = Bench::new();
    *bench.disk().gate.lock().unwrap() = Some(&GATE);
    bench.good(&ERASE_AT_ONCE, &[]).await;
    // 16 MiB in 16 parts: a quarter of them.
    GATE.add_permits(4);
    sleep(Duration::from_secs(1)).await;
    let others: [&[u8]; 7] = [
        &READY,
        &[0x1b, 0, 0, 0, 1, 0],
        &[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0],
        &[0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0],
        &[0x1a, 0, 0x3f, 0, 255, 0],
        &[0x25],
        &ERASE,
    ];
    for cdb in others {
        let sense = bench.sense(cdb, &block(0)).await;
        assert_eq!([sense[2], sense[12], sense[13]], GOING_ON, "{cdb:02x?}");
        // SKSV, and a quarter of 65536.
        assert_eq!(sense[15..18], [0x80, 0x40, 0x00], "{cdb:02x?}");
        assert_eq!(
            bench.refused_as(bench.other(), cdb, &block(0)).await,
            GOING_ON
        );
    }
    let condition = bench.unit().condition().to_fixed_bytes();
    assert_eq!(
        (condition[2], condition[12], condition[13]),
        (2, 0x04, 0x1b),
        "REQUEST SENSE"
    );
    let told: [&[u8]; 3] = [
        &[0x12, 0, 0, 0, 36, 0],
        &[0xa3, 0x0c, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0],
        &[0x4d, 0, 0x40, 0, 0, 0, 0, 0, 64, 0],
    ];
    for cdb in told {
        bench.good(cdb, &[]).await;
    }
    // Neither a reset nor the end of the session ends it.
    bench.unit().reset();
    bench.unit().nexus_lost(&bench.guest().nexus);
    assert_eq!(bench.refused(&READY, &[]).await, GOING_ON);
    GATE.add_permits(100);
    sleep(Duration::from_secs(60)).await;
    bench.good(&READY, &[]).await;
    assert_eq!(bench.disk().contents()[..512], block(0));
    let condition = bench.unit().condition().to_fixed_bytes();
    assert_eq!((condition[2], condition[12]), (0, 0));
}

/// The answer may be dropped with its session; the work goes on.
#[tokio::test(start_paused = true)]
async fn it_outlives_whoever_asked() {
    let bench = Bench::new();
    let asked = timeout(Duration::from_secs(1), bench.run(&ERASE, &[]));
    assert!(
        asked.await.is_err(),
        "it takes as long as path checkers need to see it"
    );
    assert_eq!(bench.refused(&READY, &[]).await, GOING_ON);
    sleep(Duration::from_secs(60)).await;
    bench.good(&READY, &[]).await;
    assert!(bench.disk().contents().iter().all(|byte| *byte == 0));
}

/// Writes that are under way end first; those that wait for their data are refused when they have it.
#[tokio::test(start_paused = true)]
async fn writes_that_are_under_way_end_first() {
    static GATE: Semaphore = Semaphore::const_new(0);
    let bench = Bench::new();
    *bench.disk().gate.lock().unwrap() = Some(&GATE);
    let data = block(0xee);
    let write = bench.run(&[0x2a, 0, 0, 0, 0, 7, 0, 0, 1, 0], &data);
    let erase = async {
        bench.good(&ERASE_AT_ONCE, &[]).await;
        sleep(Duration::from_secs(1)).await;
        assert!(bench.disk().contents()[..512] == *block(0) && bench.blocks(9, 1) == block(9));
        GATE.add_permits(100);
    };
    let (written, ()) = tokio::join!(write, erase);
    assert_eq!(written.status.0, 0);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(bench.blocks(7, 1), block(0), "wiped after it was written");
}

#[tokio::test(start_paused = true)]
async fn a_failure_stays_until_it_is_made_good() {
    let bench = Bench::new();
    bench.disk().fail(Some(Error::NoSpace));
    assert_eq!(bench.refused(&ERASE, &[]).await, FAILED);
    bench.disk().fail(None);
    assert_eq!(bench.refused(&READY, &[]).await, FAILED);
    // AUSE was zero: only a SANITIZE that ends well will do.
    assert_eq!(bench.refused(&EXIT, &[]).await, [5, 0x24, 0]);
    bench.good(&ERASE, &[]).await;
    bench.good(&READY, &[]).await;
    bench.good(&EXIT, &[]).await;
    bench.disk().fail(Some(Error::NoSpace));
    let unrestricted = [0x48, 0x22, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(bench.refused(&unrestricted, &[]).await, FAILED);
    bench.good(&EXIT, &[]).await;
    bench.good(&READY, &[]).await;
}

#[tokio::test(start_paused = true)]
async fn lists_have_to_be_right() {
    let bench = Bench::new();
    let before = bench.disk().contents();
    for length in [0, 1, 4, 517] {
        let sense = bench
            .sense(&overwrite(length), &vec![1; usize::from(length)])
            .await;
        assert_eq!(sense[12..18], [0x24, 0, 0, 0xcf, 0, 7], "{length}");
    }
    let lists: [&[u8]; 3] = [&[0, 0, 0, 1, 9], &[1, 0, 0, 0, 9], &[1, 0, 0, 2, 9]];
    for list in lists {
        let length = u16::try_from(list.len()).unwrap();
        assert_eq!(bench.refused(&overwrite(length), list).await, [5, 0x26, 0]);
    }
    let with_list = [0x48, 0x02, 0, 0, 0, 0, 0, 0, 8, 0];
    assert_eq!(bench.refused(&with_list, &[0; 8]).await, [5, 0x24, 0]);
    let keys = [0x48, 0x03, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(
        bench.refused(&keys, &[]).await,
        [5, 0x24, 0],
        "there is no key"
    );
    assert!(bench.disk().contents() == before);
    assert_eq!(u64::try_from(before.len()).unwrap(), BLOCKS * 512);
}
