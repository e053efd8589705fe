//! COMPARE AND WRITE and ORWRITE, one at a time.

use super::{Bench, block};

fn compare_and_write(lba: u8, blocks: u8) -> [u8; 16] {
    [0x89, 0, 0, 0, 0, 0, 0, 0, 0, lba, 0, 0, 0, blocks, 0, 0]
}

#[tokio::test]
async fn what_is_as_expected_is_replaced() {
    let bench = Bench::new();
    let data = [block(4), block(5), block(0xa4), block(0xa5)].concat();
    let response = bench.run(&compare_and_write(4, 2), &data).await;
    assert_eq!((response.status.0, response.transfer_length), (0, 2048));
    assert_eq!(
        bench.blocks(3, 4),
        [block(3), block(0xa4), block(0xa5), block(6)].concat()
    );
    assert_eq!(bench.disk().flushes(), 0);
    let mut forced = compare_and_write(6, 1);
    forced[1] = 0x08;
    bench.good(&forced, &[block(6), block(7)].concat()).await;
    assert_eq!(bench.disk().flushes(), 1, "FUA");
}

/// SBC-3 §5.2: INFORMATION is the offset of the first byte that differs.
#[tokio::test]
async fn what_is_not_as_expected_stays() {
    let bench = Bench::new();
    let mut data = [block(4), block(5), block(0xa4), block(0xa5)].concat();
    data[700] = 0xff;
    data[900] = 0xff;
    let sense = bench.sense(&compare_and_write(4, 2), &data).await;
    assert_eq!(sense[..7], [0xf0, 0, 0x0e, 0, 0, 0x02, 0xbc]);
    assert_eq!(sense[12..14], [0x1d, 0x00]);
    assert_eq!(bench.blocks(4, 2), [block(4), block(5)].concat());
}

#[tokio::test]
async fn the_data_has_to_be_twice_the_blocks() {
    let bench = Bench::new();
    let four = [block(4), block(5), block(6), block(7)].concat();
    for blocks in [1, 3, 0] {
        assert_eq!(
            bench.refused(&compare_and_write(4, blocks), &four).await,
            [5, 0x24, 0],
            "{blocks}"
        );
    }
    assert!(bench.good(&compare_and_write(4, 0), &[]).await.is_empty());
    let mut outside = compare_and_write(0xff, 2);
    outside[8] = 0x7f;
    assert_eq!(bench.refused(&outside, &four).await, [5, 0x21, 0]);
    assert_eq!(bench.blocks(4, 2), [block(4), block(5)].concat());
}

#[tokio::test]
async fn bits_are_added() {
    let bench = Bench::new();
    let or_write = [0x8b, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 2, 0, 0];
    let response = bench
        .run(&or_write, &[block(0xf0), block(0x01)].concat())
        .await;
    assert_eq!((response.status.0, response.transfer_length), (0, 1024));
    assert_eq!(
        bench.blocks(7, 4),
        [block(7), block(0xf8), block(9), block(10)].concat()
    );
    // A block of two is sent, and a part of the other.
    let response = bench.run(&or_write, &vec![0xff; 600]).await;
    assert_eq!((response.status.0, response.transfer_length), (0, 1024));
    assert_eq!(bench.blocks(8, 2), [block(0xff), block(9)].concat());
}
