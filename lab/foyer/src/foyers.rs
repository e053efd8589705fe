//! foyer's hybrid cache as its README sets it up, written on insertion as ours is, and through the page cache as ours.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Result;
use foyer::{
    BlockEngineConfig, DeviceBuilder as _, FsDeviceBuilder, HybridCache, HybridCacheBuilder,
    HybridCachePolicy, PsyncIoEngineConfig,
};

use crate::{Cached, FETCH, Fetched, Key};

/// Its memory tier: as much as may wait to be written in ours.
const MEMORY: usize = 64 << 20;

pub(crate) struct Foyer {
    cache: HybridCache<u64, Vec<u8>>,
    fetched: Fetched,
}

pub(crate) async fn open(folder: &Path, bytes: usize, fetched: &Fetched) -> Result<Foyer> {
    let device = FsDeviceBuilder::new(folder).with_capacity(bytes).build()?;
    let cache = HybridCacheBuilder::new()
        .with_policy(HybridCachePolicy::WriteOnInsertion)
        .memory(MEMORY)
        .with_weighter(|_, bytes: &Vec<u8>| bytes.len())
        .storage()
        .with_io_engine_config(PsyncIoEngineConfig::new())
        .with_engine_config(BlockEngineConfig::new(device).with_buffer_pool_size(MEMORY))
        .build()
        .await?;
    let fetched = Arc::clone(fetched);
    Ok(Foyer { cache, fetched })
}

impl Cached for Foyer {
    async fn read(&self, key: Key) -> Result<bool> {
        let fetched = Arc::clone(&self.fetched);
        let number = (u64::from(key.image) << 32) | u64::from(key.extent);
        let fetch = || async move {
            tokio::time::sleep(FETCH).await;
            fetched.fetch_add(1, Ordering::Relaxed);
            Ok::<_, anyhow::Error>(key.content())
        };
        let entry = self.cache.get_or_fetch(&number, fetch).await?;
        Ok(key.is(entry.value()))
    }

    async fn settle(&self) {
        self.cache.storage().wait().await;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
