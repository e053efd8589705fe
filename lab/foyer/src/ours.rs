//! This project's cache.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use vmthunder_cache::{Cache, ImageKey, Store, StoreOptions};
use vmthunder_volume::{BlockSize, Class, Error, Extent, Geometry, Span, Volume};

use crate::{Cached, EXTENT, FETCH, Fetched, Key};

/// The images that were asked for, over one store.
pub(crate) struct Ours {
    store: Arc<Store>,
    fetched: Fetched,
    images: Mutex<HashMap<u32, Cache<Far>>>,
}

/// Where an image comes from.
pub(crate) struct Far {
    image: u32,
    fetched: Fetched,
}

pub(crate) async fn open(folder: &Path, bytes: usize, fetched: &Fetched) -> Result<Ours> {
    let options = StoreOptions {
        path: folder.join("cache"),
        bytes: bytes as u64,
        scrub_bytes_per_second: 0,
    };
    Ok(Ours {
        store: Store::open(options).await?,
        fetched: Arc::clone(fetched),
        images: Mutex::default(),
    })
}

impl Ours {
    fn image(&self, image: u32) -> Cache<Far> {
        let mut images = self.images.lock().unwrap_or_else(PoisonError::into_inner);
        let made = images.entry(image).or_insert_with(|| {
            let mut key = [0; 32];
            key[..4].copy_from_slice(&image.to_le_bytes());
            let far = Far {
                image,
                fetched: Arc::clone(&self.fetched),
            };
            Cache::new(Arc::clone(&self.store), ImageKey(key), far)
        });
        made.clone()
    }
}

impl Cached for Ours {
    async fn read(&self, key: Key) -> Result<bool> {
        let image = self.image(key.image);
        let span = image.geometry().extent_span(Extent(key.extent.into()));
        Ok(key.is(&image.read(span, Class::Demand).await?))
    }

    async fn settle(&self) {
        loop {
            let before = self.store.stats().fills;
            tokio::time::sleep(Duration::from_millis(500)).await;
            if self.store.stats().fills == before {
                return;
            }
        }
    }
}

impl Volume for Far {
    fn geometry(&self) -> Geometry {
        Geometry::of_bytes(BlockSize::B4096, EXTENT as u64 * (1 << 20))
    }

    async fn read(&self, span: Span, _: Class) -> vmthunder_volume::Result<Bytes> {
        tokio::time::sleep(FETCH).await;
        self.fetched.fetch_add(1, Ordering::Relaxed);
        let extent = u32::try_from(span.offset() / EXTENT as u64).map_err(|_| Error::OutOfRange)?;
        let image = self.image;
        Ok(Key { image, extent }.content().into())
    }

    async fn write(&self, _: u64, _: Bytes) -> vmthunder_volume::Result<()> {
        Err(Error::ReadOnly)
    }

    async fn flush(&self) -> vmthunder_volume::Result<()> {
        Ok(())
    }

    async fn trim(&self, _: Span) -> vmthunder_volume::Result<()> {
        Err(Error::ReadOnly)
    }
}
