//! Mode pages: what initiators can set, and what becomes of it.

use super::{Bench, Unit, block};

/// The page in force, without header.
async fn page(bench: &Bench, control: u8, code: u8) -> Vec<u8> {
    let cdb = [0x1a, 8, control << 6 | code, 0, 255, 0];
    bench.good(&cdb, &[]).await[4..].to_vec()
}

/// MODE SELECT(6) of one page.
async fn select(bench: &Bench, page: &[u8]) {
    let list = [&[0, 0, 0, 0], page].concat();
    let length = u8::try_from(list.len()).unwrap();
    bench.good(&[0x15, 0x10, 0, 0, length, 0], &list).await;
}

#[tokio::test]
async fn pages_say_what_is_in_force_what_can_be_changed_and_what_a_reset_brings_back() {
    let bench = Bench::new();
    let header = bench.good(&[0x1a, 8, 0x3f, 0, 255, 0], &[]).await[..4].to_vec();
    assert_eq!(header[1..], [0, 0x10, 0], "DPOFUA");
    assert_eq!(page(&bench, 0, 0x08).await[..3], [0x08, 0x12, 0x04], "WCE");
    assert_eq!(page(&bench, 1, 0x08).await[..3], [0x08, 0x12, 0x04]);
    let control = page(&bench, 0, 0x0a).await;
    assert_eq!(control[..6], [0x0a, 0x0a, 0x02, 0x10, 0x00, 0x00]);
    let changeable = page(&bench, 1, 0x0a).await;
    assert_eq!(
        changeable[..6],
        [0x0a, 0x0a, 0x04, 0x00, 0x08, 0x00],
        "D_SENSE and SWP"
    );
    assert_eq!(
        bench.refused(&[0x1a, 8, 0xff, 0, 255, 0], &[]).await,
        [5, 0x39, 0],
        "no saved pages"
    );
    let mut other = page(&bench, 0, 0x08).await;
    other[2] = 0;
    select(&bench, &other).await;
    assert_eq!(page(&bench, 0, 0x08).await[2], 0);
    assert_eq!(page(&bench, 2, 0x08).await[2], 0x04);
    bench.unit().reset();
    assert_eq!(page(&bench, 0, 0x08).await[2], 0x04);
}

/// SPC-4 §5.8.7: mode pages are shared, so the others are told.
#[tokio::test]
async fn the_others_hear_of_what_was_changed() {
    let bench = Bench::new();
    let mut control = page(&bench, 0, 0x0a).await;
    select(&bench, &control).await;
    assert_eq!(bench.news_of_the_other(), None, "as before");
    control[4] |= 0x08;
    select(&bench, &control).await;
    assert_eq!(bench.news_of_the_other(), Some([6, 0x2a, 1]));
    assert_eq!(bench.news(), None);
}

#[tokio::test]
async fn initiators_can_protect_what_is_written() {
    let bench = Bench::new();
    let mut control = page(&bench, 0, 0x0a).await;
    control[4] |= 0x08;
    select(&bench, &control).await;
    let writes: [&[u8]; 4] = [
        &[0x2a, 0, 0, 0, 0, 3, 0, 0, 1, 0],
        &[0x41, 0, 0, 0, 0, 3, 0, 0, 1, 0],
        &[0x8b, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0],
        &[0x48, 0x02, 0, 0, 0, 0, 0, 0, 0, 0],
    ];
    for cdb in writes {
        assert_eq!(
            bench.refused(cdb, &block(0)).await,
            [7, 0x27, 2],
            "{cdb:02x?}"
        );
    }
    let header = bench.good(&[0x1a, 8, 0x0a, 0, 255, 0], &[]).await;
    assert_eq!(header[2], 0x90, "WP");
    bench.good(&[0x28, 0, 0, 0, 0, 3, 0, 0, 1, 0], &[]).await;
    bench.good(&[0x35], &[]).await;
    control[4] &= !0x08;
    select(&bench, &control).await;
    bench.good(writes[0], &block(0)).await;
}

/// SPC-4 §4.5: with D_SENSE sense comes in descriptors, which hold 64 bits of address.
#[tokio::test]
async fn sense_comes_in_the_format_that_was_asked_for() {
    let bench = Bench::new();
    let mut control = page(&bench, 0, 0x0a).await;
    control[2] |= 0x04;
    select(&bench, &control).await;
    let far = [0x88, 0, 0x80, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0];
    assert_eq!(
        bench.sense(&far, &[]).await,
        [
            0x72, 5, 0x21, 0, 0, 0, 0, 12, 0, 0x0a, 0x80, 0, 0x80, 0, 0, 0, 0, 0, 0, 1
        ]
    );
    assert_eq!(
        bench
            .sense(&[0x28, 0x20, 0, 0, 0, 0, 0, 0, 1, 0], &[])
            .await,
        [0x72, 5, 0x24, 0, 0, 0, 0, 8, 2, 6, 0, 0, 0xcf, 0, 1, 0],
        "also what was not understood"
    );
    bench.unit().reset();
    let fixed = bench.sense(&far, &[]).await;
    assert_eq!(
        fixed[..7],
        [0x70, 0, 5, 0, 0, 0, 0],
        "does not fit, so it is not there"
    );
}

/// SPC-4 §6.10: a list is obeyed as a whole, or not at all.
#[tokio::test]
async fn a_list_with_a_mistake_changes_nothing() {
    let bench = Bench::new();
    let mut caching = page(&bench, 0, 0x08).await;
    caching[2] = 0;
    let mut control = page(&bench, 0, 0x0a).await;
    control[5] |= 0x40;
    let list = [&[0, 0, 0, 0], &caching[..], &control[..]].concat();
    let length = u8::try_from(list.len()).unwrap();
    let sense = bench.sense(&[0x15, 0x10, 0, 0, length, 0], &list).await;
    assert_eq!((sense[2], sense[12], sense[13]), (5, 0x26, 0));
    assert_eq!(
        sense[15..18],
        [0x8e, 0, 29],
        "TAS, byte 5 of the second page"
    );
    assert_eq!(page(&bench, 0, 0x08).await[2], 0x04);
    // Saving is not offered.
    let sense = bench.sense(&[0x15, 0x11, 0, 0, length, 0], &list).await;
    assert_eq!(sense[12..18], [0x24, 0, 0, 0xc8, 0, 1]);
    let read_only = Bench::with(|unit| Unit {
        read_only: true,
        ..unit
    });
    assert_eq!(
        page(&read_only, 0, 0x08).await[2],
        0,
        "nothing that could be lost"
    );
    assert_eq!(page(&read_only, 1, 0x08).await[2], 0);
}
