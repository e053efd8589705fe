//! `vmthunder instance export`: an instance as a file.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, bail, ensure};
use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};
use vmthunder_cache::overlay::Overlay;
use vmthunder_volume::{Allocation, Class, Span, Volume};

use super::guest::Guest;
use super::qcow2::{Format, Sink, Written};
use super::{Description, Instances, UNFINISHED, remove_all};
use crate::attach::Attached;
use crate::control::Progress;
use crate::export::Base;
use crate::node::Node;

/// What to write where.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Exportation {
    pub(crate) name: String,
    /// The snapshot; without it what the instance holds now.
    pub(crate) snapshot: Option<String>,
    /// The file, from the root: the node writes it.
    pub(crate) file: PathBuf,
    pub(crate) format: Format,
}

/// What was written, as `instance export --json` prints it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Exported {
    /// The file.
    pub(crate) file: PathBuf,
    /// The size of the disk.
    pub(crate) bytes: u64,
    /// So much of it is not zeros, in whole clusters of 64 KiB.
    pub(crate) written_bytes: u64,
}

impl Node {
    /// Writes an instance, or a snapshot of it, to a file: whole or not at all. A guest may go on meanwhile.
    pub(super) async fn export_to_file(
        &self,
        wanted: &Exportation,
        guest: &Guest,
        progress: &Progress,
    ) -> Result<Exported> {
        let file = &wanted.file;
        ensure!(
            file.is_absolute(),
            "{} is no path from the root",
            file.display()
        );
        ensure!(!file.exists(), "{} is there already", file.display());
        let folder = file.parent().context("a file is in a folder")?;
        let begun = tempfile::Builder::new()
            .prefix(".export-")
            .suffix(UNFINISHED)
            .tempfile_in(folder)
            .with_context(|| format!("cannot write to {}", folder.display()))?;
        let source = {
            let _turn = guest.turn.lock().await;
            let (description, overlay) = guest.served()?;
            let image = self.image(&description.image)?;
            self.source(wanted, &description, &overlay, &image).await?
        };
        let bytes = source.overlay.geometry().bytes();
        let sink = Sink::new(begun.as_file().try_clone()?, wanted.format, bytes)?;
        let written = copy(Arc::clone(&source.overlay), sink, progress)
            .await
            .with_context(|| format!("cannot export `{}`", wanted.name))?;
        begun
            .persist_noclobber(file)
            .with_context(|| format!("cannot write {}", file.display()))?;
        let named = File::open(folder).and_then(|folder| folder.sync_all());
        named.with_context(|| format!("cannot write {}", file.display()))?;
        info!(instance = wanted.name, file = %file.display(), "exported");
        Ok(Exported {
            file: file.clone(),
            bytes,
            written_bytes: written.bytes,
        })
    }

    /// What is exported stands still: a snapshot, or a copy that is thrown away afterwards.
    async fn source(
        &self,
        wanted: &Exportation,
        description: &Description,
        overlay: &Overlay<Base>,
        image: &Attached,
    ) -> Result<Source> {
        let (name, folder) = (&wanted.name, self.guests.folder()?);
        let base = image.for_instance(description.outage);
        if let Some(snapshot) = &wanted.snapshot {
            let overlay = folder
                .open_snapshot(name, snapshot, image.key, base)
                .await?;
            return Ok(Source {
                overlay: Arc::new(overlay),
                _copy: None,
            });
        }
        let copy = Copy {
            path: folder.passing_place(name),
        };
        overlay
            .copy_to(&copy.path)
            .await
            .with_context(|| format!("cannot make a copy of `{name}`"))?;
        let overlay = Overlay::open(&copy.path, image.key, base).await?;
        Ok(Source {
            overlay: Arc::new(overlay),
            _copy: Some(copy),
        })
    }
}

impl Instances {
    /// A place for what is thrown away, at the latest by the next start.
    fn passing_place(&self, name: &str) -> PathBuf {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        self.place(name)
            .join(format!("export-{number}{UNFINISHED}"))
    }
}

/// What is exported.
struct Source {
    overlay: Arc<Overlay<Base>>,
    _copy: Option<Copy>,
}

/// A copy that nobody needs afterwards.
struct Copy {
    path: PathBuf,
}

impl Drop for Copy {
    fn drop(&mut self) {
        if let Err(error) = remove_all(&self.path) {
            warn!("{error:#}");
        }
    }
}

async fn copy(overlay: Arc<Overlay<Base>>, sink: Sink, progress: &Progress) -> Result<Written> {
    let bytes = overlay.geometry().bytes();
    progress.begin(bytes);
    let read = |offset: u64| {
        let overlay = Arc::clone(&overlay);
        async move {
            let span = Span::new(offset, (bytes - offset).min(PIECE_BYTES));
            let (found, run) = overlay.allocation(span).await?;
            if found == Allocation::Hole && run == span {
                return Ok((span, None));
            }
            let read = overlay.read(span, Class::Demand).await;
            let read = read.with_context(|| format!("cannot read bytes {span}"))?;
            anyhow::Ok((span, Some(read)))
        }
    };
    let pieces = futures::stream::iter((0..bytes.div_ceil(PIECE_BYTES)).map(|n| n * PIECE_BYTES));
    let mut pieces = pieces.map(read).buffered(AT_ONCE);
    let mut sink = sink;
    while let Some((span, piece)) = pieces.try_next().await? {
        if progress.is_abandoned() {
            bail!("nobody waits for it any more");
        }
        if let Some(piece) = piece {
            let put = move || sink.put(span.offset(), &piece).map(|()| sink);
            sink = tokio::task::spawn_blocking(put).await??;
        }
        progress.add(span.length());
    }
    Ok(tokio::task::spawn_blocking(move || sink.finish()).await??)
}

/// What is read at a time.
const PIECE_BYTES: u64 = 1 << 20;
/// Pieces that are read at once.
const AT_ONCE: usize = 4;
