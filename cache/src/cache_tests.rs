//! The cache over a volume that counts, gates, refuses and lies.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::{prop, proptest};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use vmthunder_volume::testing::{Fault, FaultyVolume, MemVolume};
use vmthunder_volume::{
    Allocation, BlockSize, Class, EXTENT_BYTES, Error, Extent, Geometry, Result, Span, Volume,
};

use crate::disk::BootId;
use crate::flight::Limits;
use crate::testing::{CrashDisk, Machine};
use crate::{Cache, ImageKey, Store, StoreOptions};

const KEY: ImageKey = ImageKey([1; 32]);
const LIMIT: Duration = Duration::from_secs(30);

/// An image of so many extents whose last one is short, every sector different.
fn image(extents: u64) -> Arc<MemVolume> {
    let bytes = extents * EXTENT_BYTES - 5 * 512;
    let content = (0..bytes / 8)
        .flat_map(|word| (word ^ 0x5a5a).to_le_bytes())
        .collect();
    Arc::new(MemVolume::new(
        Geometry::of_bytes(BlockSize::B512, bytes),
        content,
    ))
}

async fn store(directory: &tempfile::TempDir, slots: u64) -> Arc<Store> {
    let path = directory.path().join("store");
    Store::open(StoreOptions {
        path,
        bytes: 65536 + slots * EXTENT_BYTES,
        scrub_bytes_per_second: 0,
    })
    .await
    .unwrap()
}

/// Waits until the store holds so many extents.
async fn settle(store: &Store, resident: u64) {
    let settled = async {
        while store.stats().resident != resident {
            tokio::task::yield_now().await;
        }
    };
    timeout(LIMIT, settled).await.unwrap();
}

async fn read<V: Volume>(volume: &V, span: Span, class: Class) -> Result<Bytes> {
    timeout(LIMIT, volume.read(span, class)).await.unwrap()
}

#[tokio::test]
async fn a_second_open_serves_without_asking_below() {
    let directory = tempfile::tempdir().unwrap();
    let below = image(10);
    let whole = below.geometry().whole();
    let first = store(&directory, 20).await;
    let cache = Cache::new(Arc::clone(&first), KEY, Arc::clone(&below));
    assert!(read(&cache, whole, Class::Demand).await.unwrap() == below.contents());
    assert_eq!(
        (
            below.reads(),
            cache.stats().flights,
            cache.stats().miss_bytes
        ),
        (10, 10, whole.length())
    );
    settle(&first, 10).await;
    first.close().await.unwrap();
    drop((cache, first));

    let second = store(&directory, 20).await;
    assert_eq!(
        (second.stats().resident, second.stats().unverified),
        (10, 0)
    );
    let cache = Cache::new(Arc::clone(&second), KEY, Arc::clone(&below));
    for _ in 0..2 {
        assert!(read(&cache, whole, Class::Demand).await.unwrap() == below.contents());
    }
    assert_eq!(
        (below.reads(), cache.stats().hit_bytes),
        (10, 2 * whole.length())
    );
    drop((cache, second));

    // Not closed: everything is hashed once, and served.
    let third = store(&directory, 20).await;
    assert_eq!((third.stats().resident, third.stats().unverified), (10, 10));
    let cache = Cache::new(Arc::clone(&third), KEY, Arc::clone(&below));
    assert!(read(&cache, whole, Class::Demand).await.unwrap() == below.contents());
    assert_eq!(
        (
            below.reads(),
            third.stats().unverified,
            third.stats().corrupt
        ),
        (10, 0, 0)
    );
}

#[tokio::test]
async fn forgotten_images_are_fetched_again_and_others_stay() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(&directory, 20).await;
    let (one, two) = (image(3), image(4));
    let other = ImageKey([2; 32]);
    let first = Cache::new(Arc::clone(&store), KEY, Arc::clone(&one));
    let second = Cache::new(Arc::clone(&store), other, Arc::clone(&two));
    read(&first, one.geometry().whole(), Class::Demand)
        .await
        .unwrap();
    read(&second, two.geometry().whole(), Class::Demand)
        .await
        .unwrap();
    settle(&store, 7).await;
    assert!(first.is_resident(Extent(2)) && !first.is_resident(Extent(3)));
    assert_eq!(store.forget(KEY).await.unwrap(), 3);
    assert_eq!(
        (store.stats().resident, first.is_resident(Extent(2))),
        (4, false)
    );
    // The old cache reads past the store, a new one fills it again.
    read(&first, one.geometry().whole(), Class::Demand)
        .await
        .unwrap();
    let again = Cache::new(Arc::clone(&store), KEY, Arc::clone(&one));
    assert!(
        read(&again, one.geometry().whole(), Class::Demand)
            .await
            .unwrap()
            == one.contents()
    );
    settle(&store, 7).await;
    assert_eq!((one.reads(), two.reads()), (9, 4));
}

/// A volume whose reads wait until the test lets them go.
#[derive(Debug)]
struct Gate<V> {
    below: V,
    open: Semaphore,
}

impl<V: Volume> Volume for Gate<V> {
    fn geometry(&self) -> Geometry {
        self.below.geometry()
    }

    async fn read(&self, span: Span, class: Class) -> Result<Bytes> {
        self.open.acquire().await.unwrap().forget();
        if class == Class::Peer {
            return Err(Error::Busy);
        }
        self.below.read(span, class).await
    }

    async fn write(&self, _: u64, _: Bytes) -> Result<()> {
        Err(Error::ReadOnly)
    }

    async fn flush(&self) -> Result<()> {
        Ok(())
    }

    async fn trim(&self, _: Span) -> Result<()> {
        Err(Error::ReadOnly)
    }
}

fn gated(extents: u64) -> Arc<Gate<Arc<MemVolume>>> {
    Arc::new(Gate {
        below: image(extents),
        open: Semaphore::new(0),
    })
}

/// Waits until something is so.
async fn until(what: impl Fn() -> bool) {
    let so = async {
        while !what() {
            tokio::task::yield_now().await;
        }
    };
    timeout(LIMIT, so).await.unwrap();
}

#[tokio::test]
async fn a_hundred_readers_make_one_fetch_that_outlives_who_leaves() {
    let directory = tempfile::tempdir().unwrap();
    let gate = gated(2);
    let cache = Cache::new(store(&directory, 20).await, KEY, Arc::clone(&gate));
    let span = Span::new(4096, 8192);
    let mut readers = Vec::new();
    for _ in 0..100 {
        let cache = cache.clone();
        readers.push(tokio::spawn(async move {
            cache.read(span, Class::Demand).await
        }));
    }
    until(|| cache.stats().joined == 99).await;
    // Whoever began the fetch is among those who leave.
    for reader in readers.drain(..50) {
        reader.abort();
        assert!(
            timeout(LIMIT, reader)
                .await
                .unwrap()
                .unwrap_err()
                .is_cancelled()
        );
    }
    gate.open.add_permits(100);
    for reader in readers {
        let bytes = timeout(LIMIT, reader).await.unwrap().unwrap().unwrap();
        assert!(bytes == gate.below.contents()[4096..12288]);
    }
    assert_eq!((gate.below.reads(), cache.stats().flights), (1, 1));
}

#[tokio::test]
async fn a_guest_who_joined_a_peers_flight_does_not_share_its_refusal() {
    let directory = tempfile::tempdir().unwrap();
    let gate = gated(2);
    let cache = Cache::new(store(&directory, 20).await, KEY, Arc::clone(&gate));
    let span = Span::new(0, 512);
    let spawn = |class| {
        let cache = cache.clone();
        tokio::spawn(async move { cache.read(span, class).await })
    };
    let peer = spawn(Class::Peer);
    until(|| cache.stats().flights == 1).await;
    let guest = spawn(Class::Demand);
    until(|| cache.stats().joined == 1).await;
    gate.open.add_permits(2);
    assert!(matches!(
        timeout(LIMIT, peer).await.unwrap().unwrap(),
        Err(Error::Busy)
    ));
    assert!(timeout(LIMIT, guest).await.unwrap().unwrap().is_ok());
    assert_eq!(cache.stats().flights, 2);
}

#[tokio::test]
async fn at_the_limit_peers_are_refused_and_guests_wait_in_line() {
    let directory = tempfile::tempdir().unwrap();
    let gate = gated(8);
    let limits = Limits {
        flights: 2,
        peer_reserve: 0,
        bulk_flights: 1,
        waiters: 100,
    };
    let cache = Cache::with_limits(store(&directory, 20).await, KEY, Arc::clone(&gate), limits);
    let whole = gate.geometry().whole();
    let guest = {
        let cache = cache.clone();
        tokio::spawn(async move { cache.read(whole, Class::Demand).await })
    };
    until(|| cache.stats().flights == 2).await;
    let refused = read(&cache, Span::new(7 * EXTENT_BYTES, 512), Class::Peer).await;
    assert!(matches!(refused, Err(Error::Busy)));
    gate.open.add_permits(100);
    let bytes = timeout(LIMIT, guest).await.unwrap().unwrap().unwrap();
    assert!(bytes == gate.below.contents());
    assert_eq!(gate.below.reads(), 8);
}

#[tokio::test]
async fn a_disk_that_is_full_costs_nobody_an_answer() {
    let machine = Machine::new();
    let store =
        Store::assemble(CrashDisk::new(&machine), 30 * EXTENT_BYTES, BootId([1; 16])).unwrap();
    machine.leave_pages(Some(40));
    let below = image(10);
    let cache = Cache::new(Arc::clone(&store), KEY, Arc::clone(&below));
    for _ in 0..3 {
        assert!(
            read(&cache, below.geometry().whole(), Class::Demand)
                .await
                .unwrap()
                == below.contents()
        );
    }
    until(|| store.stats().fill_errors > 0).await;
    assert!(store.stats().resident <= 3);
    machine.leave_pages(None);
    read(&cache, below.geometry().whole(), Class::Demand)
        .await
        .unwrap();
    settle(&store, 10).await;
}

#[tokio::test]
async fn what_fails_below_is_told_and_not_kept() {
    let directory = tempfile::tempdir().unwrap();
    let below = Arc::new(FaultyVolume::new(image(2)));
    let cache = Cache::new(store(&directory, 20).await, KEY, Arc::clone(&below));
    let span = Span::new(0, 512);
    below.set(Fault::Fail(Error::Unavailable));
    assert!(matches!(
        read(&cache, span, Class::Demand).await,
        Err(Error::Unavailable)
    ));
    assert!(!cache.is_resident(Extent(0)));
    below.set(Fault::None);
    assert!(read(&cache, span, Class::Demand).await.is_ok());
    assert_eq!((cache.stats().failed, cache.stats().flights), (1, 2));
    assert!(matches!(
        cache.write(0, Bytes::new()).await,
        Err(Error::ReadOnly)
    ));
    assert!(matches!(cache.trim(span).await, Err(Error::ReadOnly)));
    let outside = cache.geometry().bytes();
    assert!(matches!(
        read(&cache, Span::new(outside, 512), Class::Demand).await,
        Err(Error::OutOfRange)
    ));
    assert!(matches!(
        cache.warm(Extent(2), Class::Prefetch).await,
        Err(Error::OutOfRange)
    ));
}

proptest! {
    #[test]
    fn reads_what_is_below_whatever_is_held(
        spans in prop::collection::vec((0..1275_u64, 1..300_u64, 0..3_u8), 1..40),
        slots in 1..12_u64,
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async move {
            let machine = Machine::new();
            let bytes = (2 + slots) * EXTENT_BYTES;
            let store = Store::assemble(CrashDisk::new(&machine), bytes, BootId([1; 16])).unwrap();
            let below = image(10);
            let cache = Cache::new(store, KEY, Arc::clone(&below));
            let content = below.contents();
            let mut readers = Vec::new();
            for (sector, sectors, class) in spans {
                let sectors = sectors.min(1275 - sector);
                let span = Span::new(sector * 512, sectors * 512);
                let class = [Class::Demand, Class::Peer, Class::Prefetch][usize::from(class)];
                let cache = cache.clone();
                readers.push((span, tokio::spawn(async move { cache.read(span, class).await })));
            }
            for (span, reader) in readers {
                let bytes = timeout(LIMIT, reader).await.unwrap().unwrap().unwrap();
                let range = usize::try_from(span.offset()).unwrap()..usize::try_from(span.end()).unwrap();
                assert!(bytes == content[range], "{span}");
            }
        });
    }
}

/// A volume that knows some of its extents to be zeros.
struct Known {
    below: MemVolume,
    zeros: std::ops::Range<u64>,
}

impl Volume for Known {
    fn geometry(&self) -> Geometry {
        self.below.geometry()
    }

    async fn read(&self, span: Span, class: Class) -> Result<Bytes> {
        self.below.read(span, class).await
    }

    async fn write(&self, _: u64, _: Bytes) -> Result<()> {
        Err(Error::ReadOnly)
    }

    async fn flush(&self) -> Result<()> {
        Ok(())
    }

    async fn trim(&self, _: Span) -> Result<()> {
        Err(Error::ReadOnly)
    }

    async fn allocation(&self, span: Span) -> Result<(Allocation, Span)> {
        match self.zeros.contains(&(span.offset() / EXTENT_BYTES)) {
            true => Ok((Allocation::Hole, span)),
            false => Ok((Allocation::Mapped, span)),
        }
    }
}

#[tokio::test]
async fn zeros_that_are_known_below_take_no_slot() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(&directory, 20).await;
    // Ten extents: six known zeros, two zeros that nobody knows of, two others.
    let mut bytes = vec![0; 10 << 16];
    bytes[8 << 16..].fill(7);
    let geometry = Geometry::of_bytes(BlockSize::B512, 10 * EXTENT_BYTES);
    let below = Arc::new(Known {
        below: MemVolume::new(geometry, bytes.clone()),
        zeros: 0..6,
    });
    let cache = Cache::new(Arc::clone(&store), KEY, Arc::clone(&below));
    for _ in 0..2 {
        assert!(read(&cache, geometry.whole(), Class::Demand).await.unwrap() == bytes);
        settle(&store, 4).await;
    }
    let stats = store.stats();
    assert_eq!((stats.fills, stats.fill_drops), (4, 0));
    let last = Span::new(6 * EXTENT_BYTES, 4 * EXTENT_BYTES);
    let before = below.below.reads();
    assert!(read(&cache, last, Class::Demand).await.unwrap() == bytes[6 << 16..]);
    assert_eq!(below.below.reads(), before, "what takes a slot is held");
}
