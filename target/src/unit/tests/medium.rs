//! Removable media: who may eject them, and what others find afterwards.

use super::{Bench, Unit};

const EJECT: [u8; 6] = [0x1b, 0, 0, 0, 2, 0];
const LOAD: [u8; 6] = [0x1b, 0, 0, 0, 3, 0];
const STOP: [u8; 6] = [0x1b, 0, 0, 0, 0, 0];
const PREVENT: [u8; 6] = [0x1e, 0, 0, 0, 1, 0];
const ALLOW: [u8; 6] = [0x1e, 0, 0, 0, 0, 0];
const READY: [u8; 6] = [0x00, 0, 0, 0, 0, 0];

const NO_MEDIUM: [u8; 3] = [2, 0x3a, 0];
const PREVENTED: [u8; 3] = [5, 0x53, 2];

fn removable() -> Bench {
    Bench::with(|unit| Unit {
        removable: true,
        ..unit
    })
}

#[tokio::test]
async fn an_ejected_medium_is_gone_for_everybody_until_it_is_loaded() {
    let bench = removable();
    bench.good(&EJECT, &[]).await;
    bench.good(&EJECT, &[]).await;
    assert_eq!(
        bench.disk().flushes(),
        1,
        "what was written is on the medium"
    );
    let gone: [&[u8]; 12] = [
        &READY,
        &[0x25],
        &[0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32],
        &[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0],
        &[0x2f, 0, 0, 0, 0, 0, 0, 0, 1, 0],
        &[0x35],
        &[0x34],
        &[0x9e, 0x12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 24],
        &[0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0],
        &[0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0],
        &[0x89, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0],
        &[0x48, 0x02, 0, 0, 0, 0, 0, 0, 0, 0],
    ];
    for cdb in gone {
        assert_eq!(
            bench.refused(cdb, &[0; 1024]).await,
            NO_MEDIUM,
            "{cdb:02x?}"
        );
    }
    assert_eq!(
        bench.refused_as(bench.other(), &READY, &[]).await,
        NO_MEDIUM
    );
    let there: [&[u8]; 4] = [
        &[0x12, 0, 0, 0, 36, 0],
        &[0x1a, 0, 0x3f, 0, 255, 0],
        &[0xa3, 0x0c, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0],
        &[0x4d, 0, 0x40, 0, 0, 0, 0, 0, 64, 0],
    ];
    for cdb in there {
        bench.good(cdb, &[]).await;
    }
    assert_eq!(bench.news_of_the_other(), None);
    bench.good(&LOAD, &[]).await;
    bench.good(&LOAD, &[]).await;
    // SPC-4: the others may have something of the old medium in their caches.
    assert_eq!(bench.news_of_the_other(), Some([6, 0x28, 0]));
    assert_eq!((bench.news_of_the_other(), bench.news()), (None, None));
    bench.good(&READY, &[]).await;
}

#[tokio::test]
async fn whoever_needs_the_medium_keeps_it() {
    let bench = removable();
    bench.good(&PREVENT, &[]).await;
    bench.good_as(bench.other(), &PREVENT, &[]).await;
    for asker in [bench.guest(), bench.other()] {
        assert_eq!(bench.refused_as(asker, &EJECT, &[]).await, PREVENTED);
        assert_eq!(bench.refused_as(asker, &LOAD, &[]).await, PREVENTED);
    }
    bench.good(&ALLOW, &[]).await;
    assert_eq!(
        bench.refused(&EJECT, &[]).await,
        PREVENTED,
        "the other one still"
    );
    bench.good_as(bench.other(), &ALLOW, &[]).await;
    bench.good(&EJECT, &[]).await;
    // It can be prevented while there is no medium; then none gets in.
    bench.good(&PREVENT, &[]).await;
    assert_eq!(bench.refused(&LOAD, &[]).await, PREVENTED);
    bench.good(&ALLOW, &[]).await;
    bench.good(&LOAD, &[]).await;
}

#[tokio::test]
async fn prevention_ends_with_the_nexus_and_with_a_reset() {
    let bench = removable();
    bench.good(&PREVENT, &[]).await;
    bench.unit().nexus_lost(&bench.other().nexus);
    assert_eq!(bench.refused(&EJECT, &[]).await, PREVENTED);
    bench.unit().nexus_lost(&bench.guest().nexus);
    bench.good(&EJECT, &[]).await;
    bench.good(&LOAD, &[]).await;
    bench.good(&PREVENT, &[]).await;
    bench.unit().reset();
    bench.good(&EJECT, &[]).await;
    bench.unit().reset();
    assert_eq!(
        bench.refused(&READY, &[]).await,
        NO_MEDIUM,
        "a reset loads nothing"
    );
}

/// What stops disks when it shuts down must find them as they were; power conditions eject nothing.
#[tokio::test]
async fn stopping_changes_nothing() {
    for bench in [Bench::new(), removable()] {
        bench.good(&STOP, &[]).await;
        assert_eq!(bench.disk().flushes(), 1);
        bench.good(&READY, &[]).await;
        for power in 1..16 {
            bench.good(&[0x1b, 1, 0, 0, power << 4 | 2, 0], &[]).await;
            bench.good(&READY, &[]).await;
        }
    }
    let fixed = Bench::new();
    assert_eq!(fixed.refused(&EJECT, &[]).await, [5, 0x24, 0]);
    assert_eq!(fixed.refused(&LOAD, &[]).await, [5, 0x24, 0]);
    fixed.good(&PREVENT, &[]).await;
    fixed.good(&STOP, &[]).await;
}
