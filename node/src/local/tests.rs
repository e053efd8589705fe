//! Copies of small images, filled from memory.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;
use bytes::Bytes;
use tempfile::TempDir;
use vmthunder_swarm::manifest::{Root, build, manifest_geometry};
use vmthunder_volume::testing::MemVolume;
use vmthunder_volume::{BlockSize, Class, Error, Geometry, Span, Volume};

use super::{Ask, Local, Locals, Phase};

const EXTENT: usize = 65_536;

/// An image of which every fourth extent is zeros and the last is short; its manifest, and a folder for copies.
struct Scene {
    folder: TempDir,
    image: Vec<u8>,
    source: Arc<MemVolume>,
    manifest: MemVolume,
    root: Root,
}

impl Scene {
    async fn new(extents: usize) -> Self {
        let mut image = vec![0; (extents - 1) * EXTENT + 512];
        for (index, extent) in image.chunks_mut(EXTENT).enumerate() {
            if index % 4 != 3 {
                extent.fill(u8::try_from(index % 250).unwrap() + 1);
            }
        }
        let geometry = Geometry::of_bytes(BlockSize::B512, image.len() as u64);
        let source = Arc::new(MemVolume::new(geometry, image.clone()));
        let manifest = MemVolume::zeroed(manifest_geometry(geometry));
        let header = build(Arc::clone(&source), &manifest, |_| {}).await.unwrap();
        Self {
            folder: tempfile::tempdir().unwrap(),
            source: Arc::new(MemVolume::new(geometry, image.clone())),
            image,
            manifest,
            root: header.root(),
        }
    }

    fn locals(&self) -> Locals {
        Locals::open(self.folder.path().join("local"))
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder
            .path()
            .join(format!("local/{}/{name}", self.root))
    }

    fn stored(&self) -> u64 {
        let extents = self.image.chunks(EXTENT);
        let stored = extents.filter(|extent| extent.iter().any(|byte| *byte != 0));
        stored.map(|extent| extent.len() as u64).sum()
    }

    async fn fill(&self, local: &Local) -> Result<()> {
        local
            .fill(&self.manifest, |_| Some(Arc::clone(&self.source)))
            .await
    }

    async fn is_right(&self, local: &Local) {
        let copy = local.copy().expect("it is complete");
        let whole = copy
            .read(Span::new(0, self.image.len() as u64))
            .await
            .unwrap();
        assert!(whole == self.image, "the copy differs");
    }
}

/// Answers so many reads, and then with an error.
struct Ends {
    source: Arc<MemVolume>,
    left: Arc<AtomicUsize>,
    then: Error,
}

impl Volume for Ends {
    fn geometry(&self) -> Geometry {
        self.source.geometry()
    }

    async fn read(&self, span: Span, class: Class) -> vmthunder_volume::Result<Bytes> {
        let took = self
            .left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                left.checked_sub(1)
            });
        match took {
            Ok(_) => self.source.read(span, class).await,
            Err(_) => Err(self.then.clone()),
        }
    }

    async fn write(&self, _offset: u64, _bytes: Bytes) -> vmthunder_volume::Result<()> {
        Err(Error::ReadOnly)
    }

    async fn flush(&self) -> vmthunder_volume::Result<()> {
        Ok(())
    }

    async fn trim(&self, _span: Span) -> vmthunder_volume::Result<()> {
        Err(Error::ReadOnly)
    }
}

#[tokio::test]
async fn a_copy_is_fetched_once_without_zeros_and_found_again() {
    let scene = Scene::new(30).await;
    let local = scene.locals().take(scene.root, u64::MAX);
    scene.fill(&local).await.unwrap();
    assert_eq!(scene.source.read_bytes(), scene.stored());
    assert_eq!(*local.phase().borrow(), Phase::Complete);
    assert_eq!(local.progress(), (scene.stored(), scene.stored()));
    scene.is_right(&local).await;
    drop(local);

    let locals = scene.locals();
    locals
        .take_up(&BTreeMap::from([(scene.root, u64::MAX)]))
        .await;
    scene.is_right(&locals.get(scene.root).unwrap()).await;
    assert!(locals.unfinished().is_empty());
    locals.keep_only(&BTreeSet::new());
    assert!(!scene.path("").exists());
    assert!(locals.get(scene.root).is_none());
}

#[tokio::test]
async fn what_was_brought_before_is_not_brought_again_unless_it_rotted() {
    let scene = Scene::new(60).await;
    let local = scene.locals().take(scene.root, u64::MAX);
    let left = Arc::new(AtomicUsize::new(20));
    let source = |_| {
        Some(Ends {
            source: Arc::clone(&scene.source),
            left: Arc::clone(&left),
            then: Error::Corrupt,
        })
    };
    let error = local.fill(&scene.manifest, source).await.unwrap_err();
    assert!(
        format!("{error:#}").contains("cannot fetch bytes"),
        "{error:#}"
    );
    assert!(local.copy().is_none());
    drop(local);

    // One extent of those that are there is torn.
    let path = scene.path("image.unfinished");
    let mut bytes = std::fs::read(&path).unwrap();
    let there = bytes.chunks(EXTENT).zip(scene.image.chunks(EXTENT));
    let there: Vec<usize> = there
        .enumerate()
        .filter(|(_, (is, should))| is == should && should[0] != 0)
        .map(|(index, _)| index)
        .collect();
    assert!((1..=20).contains(&there.len()), "{there:?}");
    bytes[there[0] * EXTENT + 4000] ^= 1;
    std::fs::write(&path, bytes).unwrap();

    let local = scene.locals().take(scene.root, u64::MAX);
    let before = scene.source.reads();
    scene.fill(&local).await.unwrap();
    let stored = scene
        .image
        .chunks(EXTENT)
        .filter(|extent| extent[0] != 0)
        .count();
    assert_eq!(
        scene.source.reads() - before,
        (stored - there.len() + 1) as u64
    );
    scene.is_right(&local).await;
}

#[tokio::test]
async fn a_source_that_refuses_is_asked_again_and_one_that_lies_is_given_up() {
    let scene = Scene::new(9).await;
    let local = scene.locals().take(scene.root, u64::MAX);
    let refusals = AtomicUsize::new(3);
    let source = |_| {
        let took = refusals.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
            left.checked_sub(1)
        });
        took.is_err().then(|| Arc::clone(&scene.source))
    };
    local.fill(&scene.manifest, source).await.unwrap();
    scene.is_right(&local).await;

    let scene = Scene::new(9).await;
    let local = scene.locals().take(scene.root, u64::MAX);
    let liar = Arc::new(MemVolume::zeroed(scene.source.geometry()));
    // The first answer may be wrong, if the second is not.
    let source = |ask| match ask {
        Ask::First => Some(Arc::clone(&liar)),
        Ask::Again => Some(Arc::clone(&scene.source)),
    };
    local.fill(&scene.manifest, source).await.unwrap();
    scene.is_right(&local).await;

    let scene = Scene::new(9).await;
    let local = scene.locals().take(scene.root, u64::MAX);
    let error = local
        .fill(&scene.manifest, |_| Some(Arc::clone(&liar)))
        .await
        .unwrap_err();
    assert!(
        format!("{error:#}").contains("cannot write extent"),
        "{error:#}"
    );
    assert!(local.copy().is_none() && !scene.path("image").exists());
}

#[tokio::test]
async fn a_complete_copy_answers_nothing_that_rotted() {
    let scene = Scene::new(8).await;
    let local = scene.locals().take(scene.root, u64::MAX);
    scene.fill(&local).await.unwrap();
    drop(local);
    let path = scene.path("image");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[2 * EXTENT + 7] ^= 1;
    bytes[3 * EXTENT] = 9;
    std::fs::write(&path, bytes).unwrap();

    let locals = scene.locals();
    locals
        .take_up(&BTreeMap::from([(scene.root, u64::MAX)]))
        .await;
    let copy = locals.get(scene.root).unwrap().copy().unwrap();
    let span = |index: usize| Span::new((index * EXTENT) as u64, EXTENT as u64);
    let read = copy.read(Span::new(2 * EXTENT as u64, 512)).await;
    assert!(matches!(read, Err(Error::Corrupt)), "{read:?}");
    assert_eq!(
        copy.read(span(1)).await.unwrap(),
        scene.image[EXTENT..2 * EXTENT]
    );
    let zeros = copy.read(span(3)).await.unwrap();
    assert!(
        zeros.iter().all(|byte| *byte == 0),
        "what must be zeros needs nobody"
    );

    let right = Bytes::copy_from_slice(&scene.image[2 * EXTENT..3 * EXTENT]);
    copy.mend(span(2), &right).await;
    assert_eq!(copy.read(span(2)).await.unwrap(), right);
    assert_eq!(copy.rotten(), 1);
}

#[tokio::test]
async fn a_copy_with_a_damaged_manifest_is_put_right() {
    let scene = Scene::new(8).await;
    let local = scene.locals().take(scene.root, u64::MAX);
    scene.fill(&local).await.unwrap();
    drop(local);
    let path = scene.path("manifest");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[EXTENT + 33] ^= 1;
    std::fs::write(&path, bytes).unwrap();

    let locals = scene.locals();
    locals
        .take_up(&BTreeMap::from([(scene.root, u64::MAX)]))
        .await;
    let local = locals
        .unfinished()
        .pop()
        .expect("it does not count as complete");
    let before = scene.source.reads();
    scene.fill(&local).await.unwrap();
    scene.is_right(&local).await;
    assert_eq!(scene.source.reads(), before, "the image itself was right");
}

/// The disk has room when it is looked at first, and later it has not.
fn fills_up(folder: &Path) -> Result<u64> {
    static LOOKS: AtomicUsize = AtomicUsize::new(0);
    assert!(folder.to_string_lossy().contains("local"));
    Ok(match LOOKS.fetch_add(1, Ordering::SeqCst) {
        0..=1 => u64::MAX,
        _ => 1 << 20,
    })
}

#[tokio::test]
async fn a_disk_without_room_ends_it_before_and_while_it_is_filled() {
    let scene = Scene::new(500).await;
    let mut locals = scene.locals();
    locals.free = |_| Ok(1 << 20);
    let error = scene.fill(&locals.local(scene.root)).await.unwrap_err();
    assert!(format!("{error:#}").contains("no room"), "{error:#}");
    assert_eq!(scene.source.reads(), 0);

    locals.free = fills_up;
    let error = scene.fill(&locals.local(scene.root)).await.unwrap_err();
    assert!(format!("{error:#}").contains("no room"), "{error:#}");
    assert!(scene.source.reads() > 100, "it had begun");
    assert!(!scene.path("image").exists());
}
