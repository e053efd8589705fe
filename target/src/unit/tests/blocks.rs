//! READ, WRITE, WRITE SAME, UNMAP, GET LBA STATUS, SYNCHRONIZE CACHE: what happens to blocks.

use std::sync::atomic::Ordering;

use vmthunder_volume::Error;

use super::{BLOCKS, Bench, Unit, block};

#[tokio::test]
async fn blocks_are_read_and_written_in_every_form() {
    let bench = Bench::new();
    let forms: [(&[u8], &[u8]); 4] = [
        (&[0x0a, 0, 0, 9, 1, 0], &[0x08, 0, 0, 9, 1, 0]),
        (
            &[0x2a, 0, 0, 0, 0, 9, 0, 0, 1, 0],
            &[0x28, 0, 0, 0, 0, 9, 0, 0, 1, 0],
        ),
        (
            &[0xaa, 8, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0],
            &[0xa8, 8, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0],
        ),
        (
            &[0x8a, 0x18, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0],
            &[0x88, 0x18, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0],
        ),
    ];
    for (fill, (write, read)) in (0xa0..).zip(forms) {
        let response = bench.run(write, &block(fill)).await;
        assert_eq!((response.status.0, response.transfer_length), (0, 512));
        assert_eq!(bench.good(read, &[]).await, block(fill));
    }
    let two = bench.good(&[0x28, 0, 0, 0, 0, 8, 0, 0, 2, 0], &[]).await;
    assert_eq!(two, [block(8), block(0xa3)].concat());
}

/// RFC 7143 §11.4.5.2: what was not sent is not written, also inside a block, and the residual tells of it.
#[tokio::test]
async fn a_short_write_moves_what_was_sent() {
    let bench = Bench::new();
    let write = [0x2a, 0, 0, 0, 0, 4, 0, 0, 3, 0];
    let response = bench.run(&write, &vec![0xee; 1300]).await;
    assert_eq!((response.status.0, response.transfer_length), (0, 1536));
    let found = bench.good(&[0x28, 0, 0, 0, 0, 4, 0, 0, 4, 0], &[]).await;
    assert_eq!(found[..1300], [0xee; 1300]);
    assert_eq!(found[1300..1536], [6; 236]);
    assert_eq!(found[1536..], block(7));
    let response = bench.run(&write, &[]).await;
    assert_eq!((response.status.0, response.transfer_length), (0, 1536));
    assert_eq!(bench.blocks(4, 1), block(0xee));
}

#[tokio::test]
async fn one_block_fills_many() {
    let bench = Bench::new();
    assert!(
        bench
            .good(&[0x41, 0, 0, 0, 0, 0, 0x10, 0x10, 0x01, 0], &block(0x33))
            .await
            .is_empty()
    );
    let contents = bench.disk().contents();
    assert!(contents[..0x1001 * 512].iter().all(|byte| *byte == 0x33));
    assert_eq!(
        contents[0x1001 * 512..0x1002 * 512],
        block(u8::try_from(0x1001 % 251).unwrap())
    );
    // NDOB: zeros, though no block is sent.
    assert!(
        bench
            .good(&[0x93, 0x01, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 2, 0, 0], &[])
            .await
            .is_empty()
    );
    let found = bench.good(&[0x28, 0, 0, 0, 0, 3, 0, 0, 4, 0], &[]).await;
    assert_eq!(found, [block(0x33), vec![0; 1024], block(0x33)].concat());
    let invalid = [5, 0x24, 0x00];
    assert_eq!(
        bench
            .refused(&[0x41, 0, 0, 0, 0, 0, 0, 0, 0, 0], &block(0))
            .await,
        invalid,
        "no blocks"
    );
    assert_eq!(
        bench
            .refused(&[0x41, 0, 0, 0, 0, 0, 0, 0, 1, 0], &[0; 1024])
            .await,
        invalid,
        "two blocks sent"
    );
    assert_eq!(
        bench
            .refused(&[0x41, 0x10, 0, 0, 0, 0, 0, 0, 1, 0], &block(0))
            .await,
        invalid,
        "anchor"
    );
}

#[tokio::test]
async fn blocks_are_given_back() {
    let bench = Bench::new();
    let list = |lba: u8, blocks: u8| {
        [
            0, 22, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, lba, 0, 0, 0, blocks, 0, 0, 0, 0,
        ]
    };
    let unmap = [0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0];
    assert!(bench.good(&unmap, &list(8, 16)).await.is_empty());
    let found = bench.good(&[0x28, 0, 0, 0, 0, 7, 0, 0, 18, 0], &[]).await;
    assert_eq!(found, [block(7), vec![0; 16 * 512], block(24)].concat());
    let mut beyond = list(0, 2);
    beyond[8..16].copy_from_slice(&[0, 0, 0, 0, 0, 0, 0x7f, 0xff]);
    assert_eq!(bench.refused(&unmap, &beyond).await, [5, 0x21, 0x00]);
    let mut long = list(0, 2);
    long[16..20].copy_from_slice(&[0, 0x10, 0, 1]);
    assert_eq!(
        bench.refused(&unmap, &long).await,
        [5, 0x26, 0x00],
        "more than the limit"
    );
    assert_eq!(
        bench
            .refused(&[0x42, 1, 0, 0, 0, 0, 0, 0, 24, 0], &list(0, 1))
            .await,
        [5, 0x24, 0x00]
    );
    assert!(
        bench.good(&[0x42], &[]).await.is_empty(),
        "no list is no error"
    );
    let full = Bench::with(|unit| Unit {
        thin: false,
        ..unit
    });
    assert_eq!(full.refused(&unmap, &list(0, 1)).await, [5, 0x20, 0x00]);
    assert_eq!(
        full.refused(&[0x41, 0x08, 0, 0, 0, 0, 0, 0, 1, 0], &block(0))
            .await,
        [5, 0x24, 0x00],
        "WRITE SAME with UNMAP"
    );
}

/// SBC-3 §5.28: nothing is given back if one descriptor is wrong.
#[tokio::test]
async fn a_wrong_descriptor_spoils_the_whole_list() {
    let bench = Bench::new();
    let list = [
        0, 38, 0, 32, 0, 0, 0, 0, // header
        0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, //
        0, 0, 0, 0, 0, 0, 0x80, 0, 0, 0, 0, 1, 0, 0, 0, 0,
    ];
    let unmap = [0x42, 0, 0, 0, 0, 0, 0, 0, 40, 0];
    let sense = bench.sense(&unmap, &list).await;
    // VALID, and the first block that does not exist as INFORMATION.
    assert_eq!(sense[..7], [0xf0, 0, 5, 0, 0, 0x80, 0]);
    assert_eq!(bench.blocks(1, 1), block(1));
}

#[tokio::test]
async fn holes_are_told_from_content() {
    let bench = Bench::new();
    let status = [0x9e, 0x12, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 56, 0, 0];
    let whole = bench.good(&status, &[]).await;
    assert_eq!(
        whole,
        [
            0, 0, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0x7f, 0xfe, 0, 0, 0, 0
        ]
    );
    let list = [
        0, 22, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 3, 0, 0, 0, 0,
    ];
    bench.good(&[0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0], &list).await;
    let parts = bench.good(&status, &[]).await;
    let expected = [
        [0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 3, 1, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0x7f, 0xf9, 0, 0, 0, 0],
    ];
    assert_eq!(parts[..8], [0, 0, 0, 52, 0, 0, 0, 0]);
    assert_eq!(parts[8..], expected.concat());
}

/// SBC-3 §4.15: with FUA the answer means that the medium has the data; a read finds nothing that the medium has not.
#[tokio::test]
async fn forced_access_reaches_the_medium() {
    let bench = Bench::new();
    let write = |flags| [0x2a, flags, 0, 0, 0, 3, 0, 0, 1, 0];
    bench.good(&write(0x00), &block(0xa1)).await;
    assert_eq!(bench.disk().durable()[3 * 512], 3, "in the cache alone");
    bench.good(&write(0x10), &block(0xa2)).await;
    assert_eq!(bench.disk().flushes(), 0, "DPO is about caches alone");
    let read = |flags| [0x28, flags, 0, 0, 0, 3, 0, 0, 1, 0];
    assert_eq!(bench.good(&read(0x00), &[]).await, block(0xa2));
    assert_eq!(bench.disk().flushes(), 0);
    assert_eq!(bench.good(&read(0x08), &[]).await, block(0xa2));
    assert_eq!(
        bench.disk().durable()[3 * 512],
        0xa2,
        "what FUA reads is on the medium"
    );
    bench.good(&write(0x08), &block(0xa3)).await;
    assert_eq!(bench.disk().durable()[3 * 512], 0xa3, "FUA");
}

/// With WCE=0 there is no cache that could lose anything.
#[tokio::test]
async fn without_a_write_cache_every_answer_means_the_medium() {
    let bench = Bench::new();
    // MODE SELECT(6): the caching page with WCE cleared.
    let mut list = vec![0; 24];
    (list[4], list[5]) = (0x08, 0x12);
    bench.good(&[0x15, 0x10, 0, 0, 24, 0], &list).await;
    let unmap = [
        0, 22, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0, 0,
    ];
    let both = [block(6), block(0x66)].concat();
    let writes: [(&[u8], &[u8], usize, u8); 5] = [
        (&[0x0a, 0, 0, 5, 1, 0], &block(0x55), 5, 0x55),
        (
            &[0x89, 0, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 1, 0, 0],
            &both,
            6,
            0x66,
        ),
        (
            &[0x8b, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 1, 0, 0],
            &block(0xf0),
            7,
            0xf7,
        ),
        (&[0x41, 0, 0, 0, 0, 8, 0, 0, 1, 0], &block(0x88), 8, 0x88),
        (&[0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0], &unmap, 9, 0),
    ];
    for (cdb, data, lba, fill) in writes {
        bench.good(cdb, data).await;
        assert_eq!(
            bench.disk().durable()[lba * 512..(lba + 1) * 512],
            block(fill)
        );
    }
}

/// A volume can shrink between two commands, or under one: never a panic, and the right sense.
#[tokio::test]
async fn what_has_vanished_is_out_of_range() {
    let bench = Bench::new();
    bench.disk().resize(8);
    let outside: [(&[u8], &[u8]); 4] = [
        (&[0x28, 0, 0, 0, 0, 7, 0, 0, 2, 0], &[]),
        (&[0x2a, 0, 0, 0, 0, 8, 0, 0, 1, 0], &[0; 512]),
        (
            &[0x89, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 2, 0, 0],
            &[0; 2048],
        ),
        (&[0x35, 0, 0, 0, 0, 8, 0, 0, 0, 0], &[]),
    ];
    for (cdb, data) in outside {
        assert_eq!(bench.refused(cdb, data).await, [5, 0x21, 0], "{cdb:02x?}");
    }
    assert_eq!(bench.good(&[0x25], &[]).await, [0, 0, 0, 7, 0, 0, 2, 0]);
    bench.disk().resize(BLOCKS * 2);
    assert_eq!(
        bench.good(&[0x25], &[]).await,
        [0, 0, 0xff, 0xff, 0, 0, 2, 0]
    );
}

#[tokio::test]
async fn a_full_store_says_so() {
    let bench = Bench::new();
    bench.disk().fail(Some(Error::NoSpace));
    let write = [0x2a, 0, 0, 0, 0, 3, 0, 0, 1, 0];
    assert_eq!(bench.refused(&write, &block(1)).await, [7, 0x27, 0x07]);
    bench.disk().fail(Some(Error::Fenced));
    assert_eq!(bench.refused(&write, &block(1)).await, [3, 0x0c, 0x00]);
    bench.disk().fail(None);
    bench.good(&write, &block(1)).await;
}

#[tokio::test]
async fn read_ahead_reads_at_most_so_much() {
    let bench = Bench::new();
    let fetched = || bench.disk().prefetched.load(Ordering::SeqCst);
    bench.good(&[0x34, 0, 0, 0, 0, 4, 0, 0, 2, 0], &[]).await;
    assert_eq!(fetched(), 1024);
    let to_the_end = [0x90, 0, 0, 0, 0, 0, 0, 0, 0x7f, 0xfe, 0, 0, 0, 0, 0, 0];
    bench.good(&to_the_end, &[]).await;
    assert_eq!(fetched(), 2048);
}
