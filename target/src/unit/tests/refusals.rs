//! What is refused, by whom first, and what the sense points at.

use super::{Bench, Unit, block};

#[tokio::test]
async fn what_lies_outside_is_refused() {
    let bench = Bench::new();
    let out_of_range = [5, 0x21, 0x00];
    let outside: [&[u8]; 9] = [
        &[0x28, 0, 0, 0, 0x80, 0x00, 0, 0, 1, 0],
        &[0x28, 0, 0, 0, 0x7f, 0xff, 0, 0, 2, 0],
        &[0x28, 0, 0, 0, 0x80, 0x00, 0, 0, 0, 0],
        &[
            0x88, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 2, 0, 0,
        ],
        &[0x2f, 0, 0, 0, 0x7f, 0xff, 0, 0, 2, 0],
        &[0x35, 0, 0, 0, 0x7f, 0xff, 0, 0, 2, 0],
        &[0x34, 0, 0, 0, 0x80, 0x00, 0, 0, 0, 0],
        &[0x41, 0, 0, 0, 0x7f, 0xff, 0, 0, 2, 0],
        &[0x9e, 0x12, 0, 0, 0, 0, 0, 0, 0x80, 0x00, 0, 0, 0, 24, 0, 0],
    ];
    for cdb in outside {
        assert_eq!(
            bench.refused(cdb, &block(0)).await,
            out_of_range,
            "{cdb:02x?}"
        );
    }
    let before = bench.disk().contents();
    assert_eq!(
        bench
            .refused(&[0x2a, 0, 0, 0, 0x7f, 0xff, 0, 0, 2, 0], &[0; 1024])
            .await,
        out_of_range
    );
    assert!(bench.disk().contents() == before);
    // No blocks at an address that exists, and more than 8 MiB.
    assert!(
        bench
            .good(&[0x28, 0, 0, 0, 0x7f, 0xff, 0, 0, 0, 0], &[])
            .await
            .is_empty()
    );
    assert_eq!(
        bench
            .refused(&[0xa8, 0, 0, 0, 0, 0, 0, 0, 0x40, 1, 0, 0], &[])
            .await,
        [5, 0x24, 0x00]
    );
}

/// SPC-4 §4.5: the sense of a refusal points at the field; C/D, BPV and the bit are in its first byte.
#[tokio::test]
async fn a_refusal_points_at_the_field() {
    let bench = Bench::new();
    let both = [0; 1024];
    let refused: [(&[u8], &[u8], [u8; 3]); 9] = [
        // More than 8 MiB: the number of blocks, in each form.
        (
            &[0xa8, 0, 0, 0, 0, 0, 0, 0, 0x40, 1, 0, 0],
            &[],
            [0xcf, 0, 6],
        ),
        (
            &[0x88, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x40, 1, 0, 0],
            &[],
            [0xcf, 0, 10],
        ),
        (&[0x41, 0, 0, 0, 0, 0, 0, 0, 0, 0], &block(0), [0xcf, 0, 7]),
        (
            &[0x41, 0x10, 0, 0, 0, 0, 0, 0, 1, 0],
            &block(0),
            [0xcc, 0, 1],
        ),
        (
            &[0x42, 0x01, 0, 0, 0, 0, 0, 0, 24, 0],
            &[0; 24],
            [0xc8, 0, 1],
        ),
        // Three blocks compared with two.
        (
            &[0x89, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0],
            &both,
            [0xcf, 0, 13],
        ),
        (&[0x1b, 0, 0, 0, 2, 0], &[], [0xc9, 0, 4]),
        (&[0x1e, 0, 0, 0, 2, 0], &[], [0xc9, 0, 4]),
        (&[0x12, 1, 0x84, 0, 255, 0], &[], [0xcf, 0, 2]),
    ];
    for (cdb, data, field) in refused {
        let sense = bench.sense(cdb, data).await;
        assert_eq!((sense[2], sense[12], sense[13]), (5, 0x24, 0), "{cdb:02x?}");
        assert_eq!(sense[15..18], field, "{cdb:02x?}");
    }
    let first = bench
        .sense(&[0x28, 0, 0, 0, 0x7f, 0xff, 0, 0, 2, 0], &[])
        .await;
    assert_eq!(
        first[..7],
        [0xf0, 0, 5, 0, 0, 0x80, 0],
        "the first block that is not there"
    );
}

#[tokio::test]
async fn a_read_only_unit_keeps_what_it_has() {
    let bench = Bench::with(|unit| Unit {
        read_only: true,
        ..unit
    });
    let before = bench.disk().contents();
    let writes: [&[u8]; 9] = [
        &[0x0a, 0, 0, 0, 1, 0],
        &[0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0],
        &[0x8a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0],
        &[0x2e, 0, 0, 0, 0, 5, 0, 0, 1, 0],
        &[0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0],
        &[0x41, 0, 0, 0, 0, 0, 0, 0, 1, 0],
        &[0x89, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0],
        &[0x8b, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0],
        &[0x48, 0x02, 0, 0, 0, 0, 0, 0, 0, 0],
    ];
    for cdb in writes {
        assert_eq!(
            bench.refused(cdb, &block(0)).await,
            [7, 0x27, 0x00],
            "{cdb:02x?}"
        );
    }
    assert!(bench.disk().contents() == before);
    // Write protection comes before the fields of the command.
    assert_eq!(
        bench
            .refused(&[0x2a, 0, 0xff, 0, 0, 0, 0, 0, 1, 0], &block(0))
            .await,
        [7, 0x27, 0x00]
    );
    // Nothing can be flushed, and nothing has to be.
    for harmless in [
        [0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        [0x28, 8, 0, 0, 0, 0, 0, 0, 1, 0],
    ] {
        bench.good(&harmless, &[]).await;
    }
    bench.good(&[0x1b, 0, 0, 0, 0, 0], &[]).await;
    assert_eq!(bench.disk().flushes(), 0);
}

#[tokio::test]
async fn small_commands_are_obeyed() {
    let bench = Bench::new();
    let obeyed: [&[u8]; 7] = [
        &[0x00],
        &[0x1b, 0, 0, 0, 1, 0],
        &[0x1b, 0, 0, 0, 0, 0],
        &[0x1e, 0, 0, 0, 1, 0],
        &[0x35],
        &[0x91, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0],
        &[0x34, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    ];
    for cdb in obeyed {
        assert!(bench.good(cdb, &[]).await.is_empty(), "{cdb:02x?}");
    }
    let atomic = [0x9c, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0];
    assert_eq!(
        bench.refused(&atomic, &block(0)).await,
        [5, 0x20, 0x00],
        "WRITE ATOMIC(16)"
    );
    assert_eq!(
        bench
            .refused(&[0x28, 0x20, 0, 0, 0, 0, 0, 0, 1, 0], &[])
            .await,
        [5, 0x24, 0x00],
        "RDPROTECT"
    );
}

/// A reservation of somebody else comes before all that the unit itself has to say.
#[tokio::test]
async fn conflicts_come_first() {
    let bench = Bench::with(|unit| Unit {
        read_only: true,
        removable: true,
        ..unit
    });
    bench.good(&[0x1b, 0, 0, 0, 2, 0], &[]).await;
    let write = [0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0];
    assert_eq!(bench.refused(&write, &block(0)).await, [2, 0x3a, 0]);
    bench
        .good_as(bench.other(), &[0x16, 0, 0, 0, 0, 0], &[])
        .await;
    let response = bench.run(&write, &block(0)).await;
    assert_eq!(response.status.0, 0x18);
    assert_eq!(
        bench.refused(&[0x9c], &[]).await,
        [5, 0x20, 0],
        "what does not exist, exists for nobody"
    );
}

#[tokio::test]
async fn a_unit_that_cannot_be_reserved_knows_no_reservations() {
    let bench = Bench::with(|unit| Unit {
        reservable: false,
        ..unit
    });
    for cdb in [
        [0x16, 0],
        [0x17, 0],
        [0x56, 0],
        [0x57, 0],
        [0x5e, 0],
        [0x5f, 6],
    ] {
        assert_eq!(
            bench.refused(&cdb, &[0; 24]).await,
            [5, 0x20, 0],
            "{cdb:02x?}"
        );
        let one = [0xa3, 0x0c, 3, cdb[0], 0, cdb[1], 0, 0, 0, 64, 0, 0];
        assert_eq!(bench.good(&one, &[]).await, [0, 1, 0, 0], "{cdb:02x?}");
    }
}
