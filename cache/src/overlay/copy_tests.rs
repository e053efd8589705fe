//! Copies are cuts between two writes, quotas are limits.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use vmthunder_volume::testing::MemVolume;
use vmthunder_volume::{BlockSize, Class, Error, Geometry, Span, Volume};

use super::{Lack, Overlay, OverlayOptions};
use crate::ImageKey;

const KEY: ImageKey = ImageKey([3; 32]);
const BYTES: u64 = 24 << 20;

fn base() -> Arc<MemVolume> {
    let geometry = Geometry::of_bytes(BlockSize::B512, BYTES);
    Arc::new(MemVolume::new(geometry, vec![9; 24 << 20]))
}

async fn create(path: &Path) -> Overlay<Arc<MemVolume>> {
    let options = OverlayOptions {
        base: KEY,
        bytes: Some(BYTES + (1 << 20)),
    };
    Overlay::create(path, options, base()).await.unwrap()
}

async fn read(overlay: &Overlay<Arc<MemVolume>>, offset: u64, length: u64) -> Bytes {
    let read = overlay.read(Span::new(offset, length), Class::Demand);
    read.await.unwrap()
}

#[tokio::test]
async fn a_copy_has_what_was_written_and_trimmed_and_nothing_of_later() {
    let folder = tempfile::tempdir().unwrap();
    let overlay = create(&folder.path().join("one")).await;
    overlay.write(512, vec![1; 1024].into()).await.unwrap();
    overlay
        .write(20 << 20, vec![2; 70_000 / 512 * 512].into())
        .await
        .unwrap();
    overlay.write(BYTES, vec![3; 4096].into()).await.unwrap();
    overlay.trim(Span::new(8192, 4096)).await.unwrap();
    let place = folder.path().join("two");
    overlay.copy_to(&place).await.unwrap();
    let before = read(&overlay, 0, BYTES + (1 << 20)).await;
    overlay.write(0, vec![7; 16384].into()).await.unwrap();
    assert!(
        overlay.copy_to(&place).await.is_err(),
        "what is there is never overwritten"
    );

    let copy = Overlay::open(&place, KEY, base()).await.unwrap();
    assert!(read(&copy, 0, BYTES + (1 << 20)).await == before);
    assert_eq!(read(&copy, 8192, 4096).await, vec![0; 4096]);
    copy.write(0, vec![5; 512].into()).await.unwrap();
    assert_eq!(read(&overlay, 0, 512).await, vec![7; 512]);
    assert!(copy.stored_bytes() < 1 << 20, "{}", copy.stored_bytes());
}

/// Each round writes its number to places far apart, in their order: whatever moment a copy shows, no place may be
/// ahead of one that was written before it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_under_writes_is_one_moment_between_two_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let overlay = Arc::new(create(&folder.path().join("one")).await);
    let places: Vec<u64> = (0..24).map(|place| place << 20).collect();
    let stop = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn({
        let (overlay, places, stop) = (Arc::clone(&overlay), places.clone(), Arc::clone(&stop));
        async move {
            let mut round = 0_u32;
            while !stop.load(Ordering::Relaxed) {
                round += 1;
                for place in &places {
                    let bytes = round.to_le_bytes().repeat(1024);
                    overlay.write(*place, bytes.into()).await.unwrap();
                }
            }
        }
    });
    // The base's bytes are round 0.
    let round = |bytes: &Bytes| match bytes[..4] {
        [9, 9, 9, 9] => 0,
        _ => u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
    };
    for number in 0..8 {
        let path = folder.path().join(format!("copy-{number}"));
        let least = round(&read(&overlay, 23 << 20, 4096).await);
        overlay.copy_to(&path).await.unwrap();
        let copy = Overlay::open(&path, KEY, base()).await.unwrap();
        let mut rounds = Vec::new();
        for place in &places {
            let bytes = read(&copy, *place, 4096).await;
            assert!(bytes == bytes.slice(..4).repeat(1024), "a torn write");
            rounds.push(round(&bytes));
        }
        assert!(rounds.is_sorted_by(|a, b| a >= b), "{rounds:?}");
        assert!(rounds[0] - rounds[23] <= 1, "{rounds:?}");
        assert!(rounds[23] >= least, "{least} of {rounds:?}");
    }
    stop.store(true, Ordering::Relaxed);
    writer.await.unwrap();
}

#[tokio::test]
async fn a_quota_refuses_what_takes_more_and_lets_go_when_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let overlay = create(&folder.path().join("one")).await;
    overlay.set_quota(Some(64 << 10));
    overlay.write(0, vec![1; 64 << 10].into()).await.unwrap();
    overlay.flush().await.unwrap();
    let refused = overlay.write(1 << 20, vec![1; 512].into()).await;
    assert!(matches!(refused, Err(Error::Quota)), "{refused:?}");
    assert_eq!(overlay.lacks(), Some(Lack::Quota));
    assert_eq!(read(&overlay, 1 << 20, 512).await, vec![9; 512]);
    overlay.write(4096, vec![2; 8192].into()).await.unwrap();
    overlay.trim(Span::new(0, 32 << 10)).await.unwrap();
    overlay.write(1 << 20, vec![3; 512].into()).await.unwrap();
    assert_eq!(overlay.lacks(), None);
    overlay
        .write(2 << 20, vec![3; 32 << 10].into())
        .await
        .unwrap_err();
    overlay.set_quota(None);
    overlay
        .write(2 << 20, vec![4; 32 << 10].into())
        .await
        .unwrap();
    assert_eq!(read(&overlay, 2 << 20, 32 << 10).await, vec![4; 32 << 10]);
}
