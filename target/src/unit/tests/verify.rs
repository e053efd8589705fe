//! VERIFY and WRITE AND VERIFY.

use super::{Bench, block};

#[tokio::test]
async fn verify_compares_if_asked() {
    let bench = Bench::new();
    let verify = |check: u8| [0x2f, check, 0, 0, 0, 4, 0, 0, 2, 0];
    let same = [block(4), block(5)].concat();
    assert!(bench.good(&verify(0x00), &[]).await.is_empty());
    assert!(bench.good(&verify(0x02), &same).await.is_empty());
    let mut other = same.clone();
    other[1023] ^= 1;
    let sense = bench.sense(&verify(0x02), &other).await;
    // VALID, and the offset of the first byte that differs in the data as INFORMATION.
    assert_eq!(sense[..7], [0xf0, 0, 0x0e, 0, 0, 0x03, 0xff]);
    assert_eq!(sense[12..14], [0x1d, 0x00]);
    assert!(
        bench.good(&verify(0x00), &other).await.is_empty(),
        "no data is asked for"
    );
    assert_eq!(bench.refused(&verify(0x04), &same).await, [5, 0x24, 0x00]);
}

/// BYTCHK 11b: one block is sent, and compared with each (SBC-3 §5.31).
#[tokio::test]
async fn one_block_can_be_compared_with_many() {
    let bench = Bench::new();
    bench
        .good(&[0x41, 0, 0, 0, 0x10, 0, 0, 0x20, 0, 0], &block(0x77))
        .await;
    let verify = [0xaf, 0x06, 0, 0, 0x10, 0, 0, 0, 0x20, 0, 0, 0];
    let response = bench.run(&verify, &block(0x77)).await;
    assert_eq!((response.status.0, response.transfer_length), (0, 512));
    bench
        .good(&[0x2a, 0, 0, 0, 0x2f, 0xff, 0, 0, 1, 0], &block(0x78))
        .await;
    let sense = bench.sense(&verify, &block(0x77)).await;
    assert_eq!(sense[..7], [0xf0, 0, 0x0e, 0, 0, 0, 0]);
    let nothing = [0x8f, 0x06, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0];
    assert!(bench.good(&nothing, &block(1)).await.is_empty());
    // WRITE AND VERIFY has no such form.
    let sense = bench
        .sense(&[0x2e, 0x06, 0, 0, 0, 5, 0, 0, 1, 0], &block(1))
        .await;
    assert_eq!(
        (sense[2], &sense[12..18]),
        (5, &[0x24, 0, 0, 0xca, 0, 1][..])
    );
}

#[tokio::test]
async fn what_is_written_can_be_verified_at_once() {
    let bench = Bench::new();
    let forms: [&[u8]; 3] = [
        &[0x2e, 0x00, 0, 0, 0, 5, 0, 0, 1, 0],
        &[0xae, 0x02, 0, 0, 0, 5, 0, 0, 0, 1, 0, 0],
        &[0x8e, 0x02, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 1, 0, 0],
    ];
    for (fill, cdb) in (0xb0..).zip(forms) {
        let response = bench.run(cdb, &block(fill)).await;
        assert_eq!((response.status.0, response.transfer_length), (0, 512));
        assert_eq!(bench.disk().contents()[5 * 512..6 * 512], block(fill));
    }
    assert_eq!(bench.disk().flushes(), 3, "verified on the medium");
}
