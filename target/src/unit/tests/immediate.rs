//! IMMED: answers that do not wait, and work that goes on behind them.

use std::sync::atomic::Ordering;

use tokio::sync::Semaphore;
use tokio::task::yield_now;

use super::{Bench, block};

const FLUSH: [u8; 10] = [0x35, 0x02, 0, 0, 0, 0, 0, 0, 0, 0];

async fn others_run() {
    for _ in 0..100 {
        yield_now().await;
    }
}

/// A flush that is asked for while one goes on begins after it: what was written in between is in it.
#[tokio::test]
async fn a_flush_behind_the_answer_is_done_once_more_if_need_be() {
    static GATE: Semaphore = Semaphore::const_new(1);
    let bench = Bench::new();
    bench
        .good(&[0x2a, 0, 0, 0, 0, 1, 0, 0, 1, 0], &block(0x11))
        .await;
    *bench.disk().gate.lock().unwrap() = Some(&GATE);
    GATE.acquire().await.unwrap().forget();
    bench.good(&FLUSH, &[]).await;
    others_run().await;
    *bench.disk().gate.lock().unwrap() = None;
    bench
        .good(&[0x2a, 0, 0, 0, 0, 2, 0, 0, 1, 0], &block(0x22))
        .await;
    for _ in 0..50 {
        bench.good(&FLUSH, &[]).await;
    }
    assert_eq!(bench.disk().flushes(), 0);
    GATE.add_permits(1);
    others_run().await;
    assert_eq!(
        bench.disk().flushes(),
        2,
        "one, and one for all that came meanwhile"
    );
    assert_eq!(
        bench.disk().durable()[512..1536],
        [block(0x11), block(0x22)].concat()
    );
    bench.good(&FLUSH, &[]).await;
    others_run().await;
    assert_eq!(bench.disk().flushes(), 3);
}

#[tokio::test]
async fn read_ahead_does_not_hold_up_its_answer() {
    let bench = Bench::new();
    bench.good(&[0x34, 0x02, 0, 0, 0, 4, 0, 0, 2, 0], &[]).await;
    assert_eq!(bench.disk().prefetched.load(Ordering::SeqCst), 0);
    others_run().await;
    assert_eq!(bench.disk().prefetched.load(Ordering::SeqCst), 1024);
    assert_eq!(
        bench
            .refused(&[0x34, 0x02, 0, 0, 0x80, 0, 0, 0, 1, 0], &[])
            .await,
        [5, 0x21, 0],
        "what is wrong is told at once"
    );
}
