//! Filling a copy: extent by extent at a bounded rate, then read again from the disk until all of it is right.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::info;
use vmthunder_swarm::manifest::ExtentHash;
use vmthunder_volume::{Class, Error, Extent, Volume};

use super::{Local, LocalCopy, Phase, lock, sync_folder};

/// Extents that are fetched at once.
const AT_ONCE: usize = 16;

/// Reading what is here costs the guests so much less than fetching it.
const CHEAPER: u64 = 8;

/// How often a copy is read again because something of it was wrong.
const MOST_PASSES: usize = 4;

/// So much is written between two looks at the room that is left.
const LOOK_BYTES: u64 = 16 << 20;

/// The first pause after a refusal, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// How often a manifest is asked for before that is given up.
const MANIFEST_ATTEMPTS: usize = 20;

/// Whether an extent is asked for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    /// It is.
    First,
    /// What came then was not what it should be.
    Again,
}

/// A fill under way.
struct Fill<'a, S> {
    local: &'a Local,
    copy: LocalCopy,
    source: S,
    /// When the next extent may be asked for.
    next: Mutex<Instant>,
    /// Written since the room was looked at.
    unlooked: Mutex<u64>,
}

impl Local {
    /// Brings what is missing, and verifies all of it. A source that refuses is asked again for as long as that takes; an
    /// error is final, and what was brought stays where it is. `source` says whom to ask for whole extents: the second
    /// time for one somebody who does not remember the first.
    pub(crate) async fn fill<V: Volume>(
        &self,
        manifest: &impl Volume,
        source: impl Fn(Ask) -> Option<V> + Sync,
    ) -> Result<()> {
        let header = self.prepare(manifest).await?;
        self.check_room()?;
        let path = self.unfinished();
        let copy = LocalCopy::open(&path, header, self.manifest()?)
            .with_context(|| format!("cannot open {}", path.display()))?;
        let fill = Fill {
            local: self,
            copy,
            source,
            next: Mutex::new(Instant::now()),
            unlooked: Mutex::default(),
        };
        let mut passes = 0..MOST_PASSES;
        loop {
            fill.copy.sync().await.context("cannot write the copy")?;
            if fill.pass().await? == 0 {
                break;
            }
            if passes.next().is_none() {
                bail!("{} does not keep what is written to it", path.display());
            }
            self.phase.send_replace(Phase::Verifying);
        }
        let place = self.place.join("image");
        std::fs::rename(&path, &place)
            .with_context(|| format!("cannot write {}", place.display()))?;
        sync_folder(&self.place)?;
        info!(image = %self.root, "all of it is on this disk");
        self.complete(Arc::new(fill.copy));
        Ok(())
    }
}

impl<V: Volume, S: Fn(Ask) -> Option<V> + Sync> Fill<'_, S> {
    /// Goes through the image once. How many extents had to be fetched.
    async fn pass(&self) -> Result<u64> {
        let local = self.local;
        local.done.store(0, Ordering::Relaxed);
        *lock(&local.began) = Some(std::time::Instant::now());
        let extents = (0..self.copy.geometry().extents()).map(Extent);
        let all = futures::stream::iter(extents).map(|extent| self.bring(extent));
        let mut all = all.buffer_unordered(AT_ONCE);
        let mut fetched = 0;
        while let Some(was_fetched) = all.try_next().await? {
            // What is a hole answers without ever waiting.
            tokio::task::consume_budget().await;
            fetched += u64::from(was_fetched);
        }
        Ok(fetched)
    }

    /// Makes sure of one extent; true if it had to be fetched.
    async fn bring(&self, extent: Extent) -> Result<bool> {
        if self.copy.hash_of(extent).await? == ExtentHash::Zero {
            return Ok(false);
        }
        let length = self.copy.geometry().extent_span(extent).length();
        self.pace(length / CHEAPER).await;
        let is_missing = match self.copy.check(extent).await {
            Ok(()) => false,
            Err(Error::Corrupt) => true,
            Err(error) => return Err(error).context("cannot read the copy"),
        };
        if is_missing {
            self.pace(length).await;
            self.look_for_room(length)?;
            let bytes = self.fetch(extent, Ask::First).await?;
            let put = match self.copy.put(extent, bytes).await {
                // The cache does not hash what it hashed once.
                Err(Error::Corrupt) => {
                    let bytes = self.fetch(extent, Ask::Again).await?;
                    self.copy.put(extent, bytes).await
                }
                put => put,
            };
            put.with_context(|| format!("cannot write extent {extent} of the copy"))?;
            self.local.fetched.fetch_add(length, Ordering::Relaxed);
        }
        self.local.done.fetch_add(length, Ordering::Relaxed);
        Ok(is_missing)
    }

    /// Waits for its turn at the rate that is asked for at the moment.
    async fn pace(&self, bytes: u64) {
        let rate = self.local.rate.load(Ordering::Relaxed).max(1);
        let turn = Duration::from_secs_f64(bytes as f64 / rate as f64);
        let at = {
            let mut next = lock(&self.next);
            let at = (*next).max(Instant::now());
            *next = at + turn;
            at
        };
        sleep_until(at).await;
    }

    /// Asks for an extent until somebody has it.
    async fn fetch(&self, extent: Extent, ask: Ask) -> Result<Bytes> {
        let span = self.copy.geometry().extent_span(extent);
        let mut pause = PAUSES.0;
        loop {
            let read = match (self.source)(ask) {
                Some(source) => source.read(span, Class::Fill).await,
                None => Err(Error::Unavailable),
            };
            let cause = match read {
                Ok(bytes) => {
                    *lock(&self.local.trouble) = None;
                    return Ok(bytes);
                }
                Err(error @ (Error::Busy | Error::Unavailable)) => error,
                Err(error) => {
                    return Err(error).with_context(|| format!("cannot fetch bytes {span}"));
                }
            };
            if pause >= PAUSES.1 {
                *lock(&self.local.trouble) = Some(format!("nothing comes: {cause}"));
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    fn look_for_room(&self, bytes: u64) -> Result<()> {
        {
            let mut unlooked = lock(&self.unlooked);
            *unlooked += bytes;
            if *unlooked < LOOK_BYTES {
                return Ok(());
            }
            *unlooked = 0;
        }
        self.local.has_room_for(0)
    }
}

/// Reads what is refused now and then, as long as a user would wait for it.
pub(super) async fn insist<T, F: Future<Output = vmthunder_volume::Result<T>>>(
    mut read: impl FnMut() -> F,
) -> vmthunder_volume::Result<T> {
    let mut pause = PAUSES.0;
    for _ in 1..MANIFEST_ATTEMPTS {
        match read().await {
            Err(Error::Busy | Error::Unavailable) => sleep(pause).await,
            done => return done,
        }
        pause = (pause * 2).min(PAUSES.1);
    }
    read().await
}
