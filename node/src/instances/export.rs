//! `vmthunder instance export`: an instance as a file.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, bail, ensure};
use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};
use vmthunder_cache::ImageKey;
use vmthunder_cache::overlay::Overlay;
use vmthunder_volume::{Allocation, Class, Span, Volume};

use super::guest::Guest;
use super::qcow2::{Format, Sink, Written};
use super::{Instances, OVERLAY, UNFINISHED, folders, remove_all, sync_folder};
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
        let passing = self.guests.folder()?.passing()?;
        let begun = tempfile::Builder::new()
            .prefix(EXPORT)
            .suffix(UNFINISHED)
            .make_in(folder, |path| passing.create(path))
            .with_context(|| format!("cannot write to {}", folder.display()))?;
        let source = {
            let _turn = guest.turn.lock().await;
            let (description, overlay) = guest.served()?;
            let below = self.below(&description)?;
            self.source(wanted, &overlay, below, &passing).await?
        };
        let bytes = source.geometry().bytes();
        let sink = Sink::new(begun.as_file().try_clone()?, wanted.format, bytes)?;
        let written = copy(source, sink, progress)
            .await
            .with_context(|| format!("cannot export `{}`", wanted.name))?;
        ensure!(!progress.is_abandoned(), ABANDONED);
        begun
            .persist_noclobber(file)
            .with_context(|| format!("cannot write {}", file.display()))?;
        sync_folder(folder)?;
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
        overlay: &Overlay<Base>,
        (key, base): (ImageKey, Base),
        passing: &Passing,
    ) -> Result<Arc<Overlay<Base>>> {
        let name = &wanted.name;
        if let Some(snapshot) = &wanted.snapshot {
            let folder = self.guests.folder()?;
            let overlay = folder.open_snapshot(name, snapshot, key, base);
            return Ok(Arc::new(overlay.await?));
        }
        let path = passing.0.join(OVERLAY);
        overlay
            .copy_to(&path)
            .await
            .with_context(|| format!("cannot make a copy of `{name}`"))?;
        Ok(Arc::new(Overlay::open(&path, key, base).await?))
    }
}

impl Instances {
    /// A place for what is thrown away when the export ends, at the latest by the next start.
    fn passing(&self) -> Result<Passing> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = self.place(&format!("{EXPORT}{number}{UNFINISHED}"));
        std::fs::create_dir(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Passing(path))
    }

    /// Removes the files that exports had begun when the node died. Their places go with everything unfinished.
    pub(super) fn remove_not_exported(&self) -> Result<()> {
        for (name, path) in folders(&self.folder)? {
            if !is_of_export(OsStr::new(&name)) {
                continue;
            }
            let Some(file) = Passing::file(&path) else {
                continue;
            };
            match std::fs::remove_file(&file) {
                Ok(()) => warn!("removed {}: its export was cut short", file.display()),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => warn!(
                    "cannot remove {}, the beginning of an export that was cut short: {error}; remove it by hand",
                    file.display()
                ),
            }
        }
        Ok(())
    }
}

/// A folder for as long as an export lasts, with the copy that it reads and the path of the file that it writes.
struct Passing(PathBuf);

impl Passing {
    /// Creates a file that the next start removes, wherever it is.
    fn create(&self, path: &Path) -> io::Result<File> {
        let mut note = File::create(self.0.join(NOTE))?;
        note.write_all(path.as_os_str().as_bytes())?;
        note.sync_all()?;
        File::open(&self.0)?.sync_all()?;
        let mut options = File::options();
        options.read(true).write(true).create_new(true).mode(0o600);
        options.open(path)
    }

    /// The file that an export of before had begun. What is no such file stays, whoever wrote the note.
    fn file(place: &Path) -> Option<PathBuf> {
        let mut path = Vec::new();
        let note = File::open(place.join(NOTE)).ok()?;
        note.take(MOST_PATH_BYTES).read_to_end(&mut path).ok()?;
        let path = PathBuf::from(OsString::from_vec(path));
        let is_ours = path.is_absolute() && path.file_name().is_some_and(is_of_export);
        is_ours.then_some(path)
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        if let Err(error) = remove_all(&self.0) {
            warn!("{error:#}");
        }
    }
}

fn is_of_export(name: &OsStr) -> bool {
    let name = name.as_bytes();
    name.starts_with(EXPORT.as_bytes()) && name.ends_with(UNFINISHED.as_bytes())
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
            bail!(ABANDONED);
        }
        if let Some(piece) = piece {
            let put = move || sink.put(span.offset(), &piece).map(|()| sink);
            sink = tokio::task::spawn_blocking(put).await??;
        }
        progress.add(span.length());
    }
    Ok(tokio::task::spawn_blocking(move || sink.finish()).await??)
}

const ABANDONED: &str = "nobody waits for it any more";
/// What is read at a time.
const PIECE_BYTES: u64 = 1 << 20;
/// Pieces that are read at once.
const AT_ONCE: usize = 4;
/// How the file that is begun is called, and the place of what it needs.
const EXPORT: &str = ".export-";
/// Where that place says which file.
const NOTE: &str = "file";
/// The longest path that is read.
const MOST_PATH_BYTES: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::Instances;

    /// What is in a folder of exports and in the node's own after a start.
    fn after_a_start(target: &Path, instances: &Path) -> Vec<String> {
        Instances::open(instances.to_owned()).unwrap();
        let mut left: Vec<String> = [target, instances]
            .into_iter()
            .flat_map(|folder| fs::read_dir(folder).unwrap())
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        left
    }

    #[test]
    fn a_death_after_any_step_leaves_the_whole_file_or_none() {
        let (node, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (node, target) = (node.path(), target.path());
        let others = target.join(".export-another.unfinished");
        fs::write(&others, "").unwrap();
        let begun = target.join(".export-mine.unfinished");
        for step in 0..4 {
            let instances = Instances::open(node.to_owned()).unwrap();
            let passing = instances.passing().unwrap();
            if step > 0 {
                drop(passing.create(&begun).unwrap());
            }
            match step {
                // Noted, but not made yet.
                1 => fs::remove_file(&begun).unwrap(),
                3 => fs::rename(&begun, target.join("vm.raw")).unwrap(),
                _ => {}
            }
            // A death leaves its place.
            std::mem::forget(passing);
            let left = after_a_start(target, node);
            match step {
                3 => assert_eq!(left, [".export-another.unfinished", "vm.raw"]),
                _ => assert_eq!(left, [".export-another.unfinished"], "step {step}"),
            }
        }
    }

    #[test]
    fn a_note_that_others_wrote_removes_nothing() {
        let (node, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (node, target) = (node.path(), target.path());
        fs::write(target.join("vm.raw"), "").unwrap();
        let inside = target.join(".export-folder.unfinished");
        fs::create_dir(&inside).unwrap();
        for note in [
            target.join("vm.raw").display().to_string(),
            inside.display().to_string(),
            format!("{}/.export-x.unfinished/../vm.raw", target.display()),
            ".export-near.unfinished".to_owned(),
            String::new(),
            "\0".to_owned(),
        ] {
            let place = node.join(".export-0.unfinished");
            fs::create_dir_all(&place).unwrap();
            fs::write(place.join("file"), &note).unwrap();
            let left = after_a_start(target, node);
            assert_eq!(left, [".export-folder.unfinished", "vm.raw"], "{note:?}");
        }
    }
}
