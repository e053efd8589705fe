//! A copy of an overlay as it is at one moment, while writes go on.
//!
//! Own blocks are copied while others write. Who writes notes what he touched; that is copied again, until little is
//! left or it does not become less. For that little rest writes are held, and the masks as they are then say what of
//! the copy counts. Nothing in the overlay itself changes, so a copy that is given up leaves only its own directory
//! behind. A file system that can share blocks does so: it is asked to copy ranges from file to file.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use blocking::unblock;
use rustix::fs::copy_file_range;
use rustix::io::Errno;
use tokio::sync::{OwnedRwLockReadGuard, RwLock, RwLockReadGuard};
use vmthunder_volume::{EXTENT_BYTES, Span};
use zerocopy::IntoBytes;

use super::OverlayError;
use super::files::Files;
use super::format::MAP_START;
use super::masks::{PAGE_BYTES, RAW_PAGE_BYTES, Source};
use super::state::State;
use crate::disk::Disk;

/// What every write and trim passes, so that a copy can hold them.
#[derive(Debug, Default)]
pub(super) struct Gate {
    /// Shared by who writes; a copy takes it alone for a moment.
    door: Arc<RwLock<()>>,
    /// Extents that were written since the copy under way began; `None` without one.
    touched: Mutex<Option<BTreeSet<u64>>>,
    /// Copies are made one after the other.
    turn: tokio::sync::Mutex<()>,
}

/// Leave to change the overlay; no copy is cut while it lives.
#[derive(Debug)]
pub(super) struct Pass<'a, G> {
    gate: &'a Gate,
    _door: G,
}

impl<G> Pass<'_, G> {
    /// Notes what was written, before the pass is given back.
    pub(super) fn touched(self, span: Span) {
        if let Some(touched) = self.gate.lock().as_mut() {
            touched.extend(span.by_extent().map(|(extent, _)| extent.0));
        }
    }
}

/// The same, for a write that goes on when its caller has left.
#[derive(Debug)]
pub(super) struct OwnPass {
    gate: Arc<Gate>,
    door: OwnedRwLockReadGuard<()>,
}

impl OwnPass {
    /// Notes what was written, before the pass is given back.
    pub(super) fn touched(self, span: Span) {
        let Self { gate, door } = self;
        Pass {
            gate: &gate,
            _door: door,
        }
        .touched(span);
    }
}

impl Gate {
    /// A pass if nobody holds the writes.
    pub(super) fn try_pass(&self) -> Option<Pass<'_, RwLockReadGuard<'_, ()>>> {
        let door = self.door.try_read().ok()?;
        Some(Pass {
            gate: self,
            _door: door,
        })
    }

    /// A pass, after whoever holds the writes.
    pub(super) async fn pass(gate: &Arc<Self>) -> OwnPass {
        OwnPass {
            door: Arc::clone(&gate.door).read_owned().await,
            gate: Arc::clone(gate),
        }
    }

    fn take_touched(&self) -> BTreeSet<u64> {
        self.lock().as_mut().map(std::mem::take).unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, Option<BTreeSet<u64>>> {
        self.touched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Notes what is touched as long as it lives.
struct Watch<'a>(&'a Gate);

impl<'a> Watch<'a> {
    async fn begin(gate: &'a Gate) -> Self {
        // Alone: a write that began before and notes nothing has ended.
        let _door = gate.door.write().await;
        *gate.lock() = Some(BTreeSet::new());
        Self(gate)
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        *self.0.lock() = None;
    }
}

/// Copies an overlay into a directory.
pub(super) async fn copy(
    state: &Arc<State>,
    gate: &Arc<Gate>,
    path: &Path,
) -> Result<(), OverlayError> {
    let _turn = gate.turn.lock().await;
    let watch = Watch::begin(gate).await;
    let (from, path) = (Arc::clone(state), path.to_owned());
    let files = unblock(move || {
        let header = from.files().header()?;
        let files = Files::create(&path, &header)?;
        for page in from.page_numbers() {
            copy_own(&from, &files, Span::new(page * PAGE_BYTES, PAGE_BYTES))?;
        }
        Ok::<_, OverlayError>(files)
    })
    .await?;
    for _ in 0..MOST_ROUNDS {
        let touched = watch.0.take_touched();
        let few = touched.len() <= FEW_EXTENTS;
        let (from, to) = (Arc::clone(state), files.clone());
        unblock(move || copy_extents(&from, &to, &touched)).await?;
        if few {
            break;
        }
    }
    let door = Arc::clone(&gate.door).write_owned().await;
    let touched = watch.0.take_touched();
    let (from, to) = (Arc::clone(state), files.clone());
    // The door goes along: it opens again when the cut is made, whether or not anybody waits for that.
    unblock(move || {
        let _door = door;
        copy_extents(&from, &to, &touched)?;
        for page in from.page_numbers() {
            if let Some(masks) = from.raw_page(page) {
                to.map
                    .write_at(MAP_START + page * RAW_PAGE_BYTES, masks.as_bytes())?;
            }
        }
        from.check_fence().map_err(|_| OverlayError::Fenced)
    })
    .await?;
    drop(watch);
    Ok(unblock(move || files.sync()).await?)
}

fn copy_extents(from: &State, to: &Files, extents: &BTreeSet<u64>) -> Result<(), OverlayError> {
    extents
        .iter()
        .try_for_each(|extent| copy_own(from, to, Span::new(extent * EXTENT_BYTES, EXTENT_BYTES)))
}

/// Copies the own blocks of a span that may pass the end.
fn copy_own(from: &State, to: &Files, span: Span) -> Result<(), OverlayError> {
    let end = span.end().min(from.geometry().bytes());
    let inside = Span::new(span.offset(), end.saturating_sub(span.offset()));
    let runs = from.runs(inside).into_iter();
    for (_, run) in runs.filter(|(source, _)| *source == Source::Own) {
        copy_range(from.files().data.as_ref(), to.data.as_ref(), run)?;
    }
    Ok(())
}

fn copy_range(from: &dyn Disk, to: &dyn Disk, span: Span) -> io::Result<()> {
    let mut at = span.offset();
    if let (Some(from), Some(to)) = (from.file(), to.file()) {
        while at < span.end() {
            let (mut off_in, mut off_out) = (at, at);
            let length = usize::try_from(span.end() - at).unwrap_or(usize::MAX);
            match copy_file_range(from, Some(&mut off_in), to, Some(&mut off_out), length) {
                Ok(0) => break,
                Ok(_) => at = off_in,
                Err(Errno::INTR) => {}
                // Not here, or not between these two: by hand.
                Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::XDEV | Errno::INVAL) => break,
                Err(error) => return Err(error.into()),
            }
        }
    }
    let mut piece = Vec::new();
    while at < span.end() {
        let length = (span.end() - at).min(PIECE_BYTES);
        piece.resize(usize::try_from(length).unwrap_or_default(), 0);
        from.read_at(at, &mut piece)?;
        to.write_at(at, &piece)?;
        at += length;
    }
    Ok(())
}

/// Rounds after which the rest is copied with writes held, however much it is.
const MOST_ROUNDS: usize = 10;
/// What is copied with writes held without another round: 4 MiB.
const FEW_EXTENTS: usize = 64;
/// What is copied by hand at a time.
const PIECE_BYTES: u64 = 1 << 20;
