//! Images on this node's own disk, for the instances that were turned off.
//!
//! ```text
//! DATA/local/ROOT/manifest            the hashes of an image
//! DATA/local/ROOT/image.unfinished    what was brought of it so far
//! DATA/local/ROOT/image               all of it, verified and on media
//! ```
//!
//! Nothing is written down about how far a copy is: an extent is there if its bytes have the hash that the manifest says.
//! Nobody counts users either: a copy is kept as long as an instance's description, or the mode of an image, names it.

mod copy;
mod fill;
mod keep;
mod room;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use tokio::sync::{Notify, watch};
use tracing::{info, warn};
use vmthunder_swarm::manifest::{ExtentHash, ExtentHashes, HASHES_PER_PAGE, Hashes, Header, Root};
use vmthunder_volume::{Access, BlockSize, Class, Extent, RawFile, Space, Volume};

pub(crate) use self::copy::LocalCopy;
pub(crate) use self::fill::Ask;
pub(crate) use self::keep::watch;
use crate::status::{LocalState, LocalStatus};

/// How fast a copy is filled, in bytes per second, if nobody says otherwise: a quarter of a link of 1 Gb/s, and little of a
/// core. It has no hurry when the storm is over.
pub(crate) const FILL_RATE: u64 = 32 << 20;

/// The slowest that it can be filled: an extent in a second.
pub(crate) const LEAST_RATE: u64 = 64 << 10;

/// A folder that is being removed ends with this.
const GOING: &str = ".going";

/// The copies of a node.
pub(crate) struct Locals {
    folder: PathBuf,
    free: FreeBytes,
    all: Mutex<BTreeMap<Root, Arc<Local>>>,
    /// Held by whoever begins or ends to use a copy.
    pub(crate) users: tokio::sync::Mutex<()>,
    /// Told when there is something to fill.
    pub(crate) wanted: Notify,
}

/// One copy, filled or being filled.
pub(crate) struct Local {
    root: Root,
    place: PathBuf,
    free: FreeBytes,
    rate: AtomicU64,
    phase: watch::Sender<Phase>,
    done: AtomicU64,
    total: AtomicU64,
    fetched: AtomicU64,
    began: Mutex<Option<Instant>>,
    /// Why nothing comes at the moment.
    trouble: Mutex<Option<String>>,
    copy: OnceLock<Arc<LocalCopy>>,
}

/// What is free on the disk of a folder.
type FreeBytes = fn(&Path) -> Result<u64>;

/// How far a copy is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Extents are fetched.
    Filling,
    /// What was written is read again from the disk.
    Verifying,
    /// It is read by instances.
    Complete,
    /// It is given up, and why.
    Failed(String),
    /// Nobody uses it any more.
    Dropped,
}

impl Locals {
    /// Opens the folder of copies.
    pub(crate) fn open(folder: PathBuf) -> Self {
        Self {
            folder,
            free: room::free_bytes,
            all: Mutex::default(),
            users: tokio::sync::Mutex::default(),
            wanted: Notify::new(),
        }
    }

    /// The copy of an image that is used already.
    pub(crate) fn get(&self, root: Root) -> Option<Arc<Local>> {
        self.lock().get(&root).cloned()
    }

    /// The copy of an image: it is filled from now on, until nobody uses it.
    pub(crate) fn take(&self, root: Root, rate: u64) -> Arc<Local> {
        let mut all = self.lock();
        all.retain(|other, local| *other != root || !local.has_failed());
        let local = all.entry(root).or_insert_with(|| self.local(root)).clone();
        local.rate.store(rate.max(LEAST_RATE), Ordering::Relaxed);
        self.wanted.notify_one();
        local
    }

    /// A copy that nobody uses yet.
    pub(crate) fn local(&self, root: Root) -> Arc<Local> {
        Arc::new(Local {
            root,
            place: self.folder.join(root.to_string()),
            free: self.free,
            rate: AtomicU64::new(FILL_RATE),
            phase: watch::Sender::new(Phase::Filling),
            done: AtomicU64::new(0),
            total: AtomicU64::new(0),
            fetched: AtomicU64::new(0),
            began: Mutex::default(),
            trouble: Mutex::default(),
            copy: OnceLock::new(),
        })
    }

    /// True as long as somebody uses this very copy.
    pub(crate) fn is(&self, local: &Arc<Local>) -> bool {
        let used = self.get(local.root);
        used.is_some_and(|used| Arc::ptr_eq(&used, local))
    }

    /// Those that are to be filled.
    pub(crate) fn unfinished(&self) -> Vec<Arc<Local>> {
        let all = self.lock();
        let unfinished = all
            .values()
            .filter(|local| local.copy().is_none() && !local.has_failed());
        unfinished.cloned().collect()
    }

    /// Takes up what the last run left: complete copies of these images can be read when this returns. Copies of
    /// others are removed.
    pub(crate) async fn take_up(&self, users: &BTreeMap<Root, u64>) {
        for (root, rate) in users {
            let local = self.take(*root, *rate);
            if let Err(error) = local.open_complete().await {
                warn!(image = %root, "its local copy cannot be used as it is, and is put right: {error:#}");
            }
        }
    }

    /// Removes the copies that are none of these.
    pub(crate) fn keep_only(&self, used: &BTreeSet<Root>) {
        self.lock().retain(|root, local| {
            let is_used = used.contains(root);
            if !is_used {
                local.phase.send_if_modified(|phase| {
                    let is_open = matches!(phase, Phase::Filling | Phase::Verifying);
                    if is_open {
                        *phase = Phase::Dropped;
                    }
                    is_open
                });
            }
            is_used
        });
        if let Err(error) = self.remove_unused(used) {
            warn!("{error:#}; the next start tries it again");
        }
    }

    fn remove_unused(&self, used: &BTreeSet<Root>) -> Result<()> {
        let folder = self.folder.display();
        let entries = match std::fs::read_dir(&self.folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            entries => entries.with_context(|| folder.to_string())?,
        };
        let used: BTreeSet<String> = used.iter().map(Root::to_string).collect();
        for entry in entries {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if used.contains(&name) {
                continue;
            }
            let (place, mut going) = (self.folder.join(&name), self.folder.join(&name));
            if !name.ends_with(GOING) {
                going = self.folder.join(format!("{name}{GOING}"));
                std::fs::rename(&place, &going)
                    .with_context(|| format!("cannot remove {}", place.display()))?;
            }
            std::fs::remove_dir_all(&going)
                .with_context(|| format!("cannot remove {}", going.display()))?;
            info!("removed {}: nobody uses it", place.display());
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Root, Arc<Local>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Local {
    /// The image.
    pub(crate) fn root(&self) -> Root {
        self.root
    }

    /// The copy, once it is complete.
    pub(crate) fn copy(&self) -> Option<Arc<LocalCopy>> {
        self.copy.get().cloned()
    }

    /// Tells when it becomes complete, or fails.
    pub(crate) fn phase(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Bytes that are there, of so many.
    pub(crate) fn progress(&self) -> (u64, u64) {
        let total = self.total.load(Ordering::Relaxed);
        (self.done.load(Ordering::Relaxed).min(total), total)
    }

    /// Gives it up.
    pub(crate) fn fail(&self, cause: String) {
        self.phase.send_replace(Phase::Failed(cause));
    }

    fn has_failed(&self) -> bool {
        matches!(&*self.phase.borrow(), Phase::Failed(_))
    }

    /// What can be told about it.
    pub(crate) fn status(&self) -> LocalStatus {
        let (done, total) = self.progress();
        let state = match (&*self.phase.borrow(), self.copy.get()) {
            (_, Some(_)) => LocalState::Complete,
            (Phase::Verifying, None) => LocalState::Verifying,
            _ => LocalState::Filling,
        };
        let began = *lock(&self.began);
        let seconds = began.map(|began| began.elapsed().as_secs_f64());
        let rate = seconds.map_or(0.0, |seconds| done as f64 / seconds.max(0.001));
        let is_under_way = state != LocalState::Complete && rate >= 1.0;
        LocalStatus {
            state,
            done_bytes: done,
            total_bytes: total,
            fetched_bytes: self.fetched.load(Ordering::Relaxed),
            eta_seconds: is_under_way.then(|| seconds_of(total - done, rate)),
            trouble: lock(&self.trouble).clone(),
            rotten_extents: self.copy.get().map_or(0, |copy| copy.rotten()),
        }
    }

    /// Makes sure that the hashes are here, whole, and finds out how much room the copy needs. Nothing is fetched but
    /// the manifest.
    pub(crate) async fn prepare(&self, manifest: &impl Volume) -> Result<Arc<Header>> {
        let path = self.place.join("manifest");
        if let Ok(header) = self.header().await {
            self.count(&header).await?;
            return Ok(header);
        }
        std::fs::create_dir_all(&self.place)
            .with_context(|| format!("cannot create {}", self.place.display()))?;
        let begun = self.place.join("manifest.unfinished");
        remove_file(&begun)?;
        let geometry = manifest.geometry();
        let bytes = geometry.bytes();
        self.has_room_for(bytes)?;
        let out = RawFile::create(&begun, bytes, BlockSize::B4096, Space::Sparse)
            .with_context(|| format!("cannot create {}", begun.display()))?;
        for extent in (0..geometry.extents()).map(Extent) {
            let span = geometry.extent_span(extent);
            let page = fill::insist(|| manifest.read(span, Class::Fill)).await;
            let page = page.context("the manifest cannot be had")?;
            out.write(span.offset(), page).await?;
        }
        out.flush().await?;
        drop(out);
        std::fs::rename(&begun, &path)
            .with_context(|| format!("cannot write {}", path.display()))?;
        sync_folder(&self.place)?;
        let header = self.header().await?;
        self.count(&header).await?;
        Ok(header)
    }

    /// Refuses what does not fit.
    pub(crate) fn check_room(&self) -> Result<()> {
        let (_, total) = self.progress();
        self.has_room_for(total.saturating_sub(room::taken(&self.unfinished())))
    }

    /// Refuses to take so many bytes of the disk if too little would be left.
    fn has_room_for(&self, bytes: u64) -> Result<()> {
        let free = (self.free)(&self.place)?;
        room::fits(bytes, free).with_context(|| self.place.display().to_string())
    }

    /// The hashes that are here, if all of them are right.
    async fn header(&self) -> Result<Arc<Header>> {
        let pages = self.manifest()?;
        let header = Arc::new(Header::read(&pages, Some(&self.root)).await?);
        let hashes = Hashes::new(Arc::clone(&header), pages, 1);
        for page in 0..header.image_geometry().extents().div_ceil(HASHES_PER_PAGE) {
            let first = Extent(page * HASHES_PER_PAGE);
            hashes.hash_of(first, Class::Fill).await?;
        }
        Ok(header)
    }

    /// Counts what is not zeros.
    async fn count(&self, header: &Arc<Header>) -> Result<()> {
        let hashes = Hashes::new(Arc::clone(header), self.manifest()?, 1);
        let geometry = header.image_geometry();
        let mut total = 0;
        for extent in (0..geometry.extents()).map(Extent) {
            // Hashes in memory answer without ever waiting.
            tokio::task::consume_budget().await;
            if hashes.hash_of(extent, Class::Fill).await? != ExtentHash::Zero {
                total += geometry.extent_span(extent).length();
            }
        }
        self.total.store(total, Ordering::Relaxed);
        Ok(())
    }

    async fn open_complete(&self) -> Result<()> {
        let path = self.place.join("image");
        if !path.exists() {
            return Ok(());
        }
        let opened = async {
            let header = self.header().await.context("its manifest is damaged")?;
            self.count(&header).await?;
            let copy = LocalCopy::open(&path, header, self.manifest()?);
            copy.with_context(|| path.display().to_string())
        };
        match opened.await {
            Ok(copy) => {
                self.complete(Arc::new(copy));
                Ok(())
            }
            // What of it is right is kept; it does not count as complete before it was verified.
            Err(error) => {
                let renamed = std::fs::rename(&path, self.unfinished());
                renamed.with_context(|| format!("cannot rename {}", path.display()))?;
                Err(error)
            }
        }
    }

    fn manifest(&self) -> Result<RawFile> {
        let path = self.place.join("manifest");
        RawFile::open(&path, Access::ReadOnly, BlockSize::B4096)
            .with_context(|| format!("cannot open {}", path.display()))
    }

    fn unfinished(&self) -> PathBuf {
        self.place.join("image.unfinished")
    }

    /// From now on it is read.
    fn complete(&self, copy: Arc<LocalCopy>) {
        self.done
            .store(self.total.load(Ordering::Relaxed), Ordering::Relaxed);
        // Only one is ever made.
        let _ = self.copy.set(copy);
        self.phase.send_replace(Phase::Complete);
    }
}

fn seconds_of(bytes: u64, rate: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a time that is too long to be told is cut"
    )]
    let seconds = (bytes as f64 / rate).ceil() as u64;
    seconds
}

/// A rate that can be kept.
pub(crate) fn check_rate(rate: u64) -> Result<()> {
    ensure!(
        rate >= LEAST_RATE,
        "{rate} bytes per second are too few: at least {LEAST_RATE}"
    );
    Ok(())
}

fn remove_file(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Makes names in a folder survive the loss of power.
pub(crate) fn sync_folder(path: &Path) -> Result<()> {
    let synced = File::open(path).and_then(|folder| folder.sync_all());
    synced.with_context(|| format!("cannot write {}", path.display()))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
