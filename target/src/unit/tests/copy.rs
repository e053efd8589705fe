//! EXTENDED COPY and RECEIVE COPY RESULTS between the units of one target.

use vmthunder_volume::BlockSize;

use super::{Bench, Disk, Unit, block, numbered};

/// Two units of 512-byte blocks, and one of 4096 bytes.
fn three() -> Bench {
    let large = Unit {
        volume: Disk::new(BlockSize::B4096, 64),
        ..numbered(2)
    };
    Bench::of(vec![numbered(0), numbered(1), large])
}

/// A CSCD descriptor that names a unit by its NAA designator.
fn cscd(number: u8, block_bytes: u16) -> Vec<u8> {
    let mut out = vec![0; 32];
    (out[0], out[4], out[5], out[7]) = (0xe4, 0x01, 0x03, 8);
    out[8..16].copy_from_slice(&[0x3a, 0xbc, 0xde, 0xf0, 0x12, 0x34, 0x56, 0x78 + number]);
    out[30..32].copy_from_slice(&block_bytes.to_be_bytes());
    out
}

fn segment(source: u8, destination: u8, blocks: u16, from: u16, to: u16) -> Vec<u8> {
    let mut out = vec![0; 28];
    (out[0], out[3], out[5], out[7]) = (0x02, 0x18, source, destination);
    out[10..12].copy_from_slice(&blocks.to_be_bytes());
    out[18..20].copy_from_slice(&from.to_be_bytes());
    out[26..28].copy_from_slice(&to.to_be_bytes());
    out
}

fn list(id: u8, cscds: &[Vec<u8>], segments: &[Vec<u8>]) -> Vec<u8> {
    let (cscds, segments) = (cscds.concat(), segments.concat());
    let mut out = vec![0; 16];
    out[0] = id;
    out[2..4].copy_from_slice(&u16::try_from(cscds.len()).unwrap().to_be_bytes());
    out[10..12].copy_from_slice(&u16::try_from(segments.len()).unwrap().to_be_bytes());
    [out, cscds, segments].concat()
}

fn extended_copy(list: &[u8]) -> [u8; 16] {
    let [high, low] = u16::try_from(list.len()).unwrap().to_be_bytes();
    [0x83, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, high, low, 0, 0]
}

fn results(action: u8, id: u8) -> [u8; 16] {
    [0x84, action, id, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0]
}

async fn copy(bench: &Bench, list: &[u8]) {
    let cdb = extended_copy(list);
    assert!(bench.good(&cdb, list).await.is_empty());
}

async fn aborted(bench: &Bench, list: &[u8]) -> [u8; 3] {
    bench.refused(&extended_copy(list), list).await
}

#[tokio::test]
async fn blocks_go_from_unit_to_unit() {
    let bench = three();
    let list = list(
        7,
        &[cscd(0, 512), cscd(1, 512)],
        &[segment(0, 1, 4096, 10, 0x100), segment(0, 1, 1, 9, 0)],
    );
    copy(&bench, &list).await;
    let (from, to) = (bench.disk().contents(), bench.contents_of(1));
    assert!(to[0x100 * 512..0x1100 * 512] == from[10 * 512..4106 * 512]);
    assert_eq!(to[..1024], [block(9), block(1)].concat());
    // COPY STATUS: completed, two segments, 4097 blocks.
    assert_eq!(
        bench.good(&results(0x00, 7), &[]).await,
        [0, 0, 0, 8, 1, 0, 2, 0, 0, 0x20, 0x02, 0x00]
    );
    assert_eq!(
        bench.good(&results(0x04, 7), &[]).await,
        [0; 4],
        "no failure"
    );
    assert_eq!(bench.refused(&results(0x00, 8), &[]).await, [5, 0x24, 0]);
    let response = bench.run_as(bench.other(), &results(0x00, 7), &[]).await;
    assert_eq!(response.status.0, 2, "results are for whoever copied");
    bench.unit().nexus_lost(&bench.guest().nexus);
    assert_eq!(bench.refused(&results(0x00, 7), &[]).await, [5, 0x24, 0]);
}

#[tokio::test]
async fn a_unit_can_be_copied_onto_itself() {
    for (from, to) in [(10, 20), (20, 10)] {
        let bench = three();
        let before = bench.disk().contents();
        let segments = [segment(0, 0, 5000, from, to)];
        copy(&bench, &list(1, &[cscd(0, 512)], &segments)).await;
        let (from, to) = (usize::from(from) * 512, usize::from(to) * 512);
        let length = 5000 * 512;
        assert!(bench.disk().contents()[to..to + length] == before[from..from + length]);
    }
}

/// DC tells whose blocks are counted; a length must fill blocks of both.
#[tokio::test]
async fn block_sizes_may_differ() {
    let bench = three();
    let cscds = [cscd(0, 512), cscd(2, 4096)];
    copy(&bench, &list(1, &cscds, &[segment(0, 1, 16, 3, 2)])).await;
    assert!(bench.contents_of(2)[2 * 4096..4 * 4096] == bench.disk().contents()[3 * 512..19 * 512]);
    let mut counted = segment(0, 1, 1, 8, 5);
    counted[1] = 0x02;
    copy(&bench, &list(2, &cscds, &[counted])).await;
    assert!(bench.contents_of(2)[5 * 4096..6 * 4096] == bench.disk().contents()[8 * 512..16 * 512]);
    let odd = list(3, &cscds, &[segment(0, 1, 7, 0, 0)]);
    assert_eq!(aborted(&bench, &odd).await, [0xa, 0x26, 0x0a]);
}

#[tokio::test]
async fn what_cannot_be_copied_leaves_everything_as_it_was() {
    let bench = three();
    let (zero, one) = (cscd(0, 512), cscd(1, 512));
    let good = segment(0, 1, 4, 0, 100);
    let mut null = zero.clone();
    null[1] = 0x20;
    let mut stranger = zero.clone();
    stranger[15] = 0x99;
    let wrong_size = cscd(1, 4096);
    let refused = [
        (vec![zero.clone()], segment(0, 1, 1, 0, 0), [0xa, 0x0d, 2]),
        (vec![null, one.clone()], good.clone(), [0xa, 0x0d, 2]),
        (vec![stranger, one.clone()], good.clone(), [0xa, 0x0d, 2]),
        (vec![zero.clone(), wrong_size], good.clone(), [0xa, 0x0d, 3]),
        (
            vec![zero.clone(), one.clone()],
            segment(0, 1, 4, 0, 0x7ffd),
            [0xa, 0x00, 0],
        ),
    ];
    for (cscds, last, sense) in refused {
        let list = list(5, &cscds, &[good.clone(), last]);
        assert_eq!(aborted(&bench, &list).await, sense);
        assert!(
            bench.contents_of(1)[100 * 512..104 * 512] == *[100, 101, 102, 103].map(block).concat()
        );
        // COPY STATUS: failed. FAILED SEGMENT DETAILS: CHECK CONDITION with that sense.
        assert_eq!(bench.good(&results(0x00, 5), &[]).await[4], 2);
        let details = bench.good(&results(0x04, 5), &[]).await;
        assert_eq!((details[..4].to_vec(), details[56]), (vec![0, 0, 0, 74], 2));
        assert_eq!(details[58..63], [0, 18, 0x70, 0, sense[0]]);
    }
    let long = list(1, &[zero], &vec![good; 73]);
    assert_eq!(aborted(&bench, &long).await, [5, 0x1a, 0]);
    assert!(bench.good(&extended_copy(&[]), &[]).await.is_empty());
}

/// A copy does what the initiator itself might do, and no more.
#[tokio::test]
async fn reservations_and_protection_hold_for_copies() {
    let protected = Unit {
        read_only: true,
        ..numbered(1)
    };
    let bench = Bench::of(vec![numbered(0), protected]);
    let cscds = [cscd(0, 512), cscd(1, 512)];
    let there = list(1, &cscds, &[segment(0, 1, 1, 0, 5)]);
    assert_eq!(aborted(&bench, &there).await, [0xa, 0x0d, 1]);
    copy(&bench, &list(1, &cscds, &[segment(1, 0, 1, 9, 5)])).await;
    assert_eq!(bench.blocks(5, 1), block(9));
    let bench = three();
    let reserve = [0x16, 0, 0, 0, 0, 0];
    let response = bench.run_at(1, bench.other(), &reserve, &[]).await;
    assert_eq!(response.status.0, 0);
    for ends in [segment(0, 1, 1, 0, 5), segment(1, 0, 1, 0, 5)] {
        let list = list(1, &cscds, &[ends]);
        assert_eq!(aborted(&bench, &list).await, [0xa, 0x0d, 1]);
    }
}

#[tokio::test]
async fn limits_are_told() {
    let bench = three();
    let told = bench.good(&results(0x03, 0), &[]).await;
    assert_eq!(
        told[..16],
        [0, 0, 0, 42, 1, 0, 0, 0, 0, 8, 0, 64, 0, 0, 8, 0]
    );
    // 65535 blocks in a segment, 16 copies at a time, multiples of 512 bytes.
    assert_eq!(told[16..20], [0x01, 0xff, 0xfe, 0x00]);
    assert_eq!(told[34..38], [0, 16, 16, 9]);
    assert_eq!(told[43..], [2, 0x02, 0xe4]);
}
