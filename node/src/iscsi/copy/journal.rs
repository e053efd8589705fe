//! What was copied, noted beside the copy: a small JSON file that is replaced as a whole.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::iscsi::copy::side::Identity;

/// The form of the journal.
const VERSION: u32 = 1;

/// No journal is longer.
const MOST_BYTES: u64 = 1 << 20;

/// The journal of one copy.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    source: Identity,
    destination: Identity,
}

/// The journal as it is stored.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    source: Identity,
    destination: Identity,
    /// Bytes from the beginning that are copied and survive the loss of power.
    done: u64,
}

impl Journal {
    /// That of a copy between these two.
    pub(super) fn new(path: PathBuf, source: Identity, destination: Identity) -> Self {
        Self {
            path,
            source,
            destination,
        }
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// How far the copy was; `None` if there is no journal. One of another copy is refused.
    pub(super) fn find(&self) -> Result<Option<u64>> {
        let shown = self.path.display();
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot open {shown}")),
        };
        let mut text = String::new();
        file.take(MOST_BYTES)
            .read_to_string(&mut text)
            .with_context(|| format!("cannot read {shown}"))?;
        let stored: Stored = serde_json::from_str(&text)
            .with_context(|| format!("{shown} is no journal of a copy"))?;
        ensure!(
            stored.version == VERSION,
            "{shown} is of another version of this program"
        );
        for (what, was, is) in [
            ("source", &stored.source, &self.source),
            ("destination", &stored.destination, &self.destination),
        ] {
            ensure!(
                was == is,
                "the {what} is not the one that the copy began with, says {shown}: it was {}, and is {}; remove the journal to begin anew",
                was.shown(),
                is.shown()
            );
        }
        ensure!(
            stored.done <= self.source.bytes() && stored.done.is_multiple_of(SMALLEST_BLOCK),
            "{shown} is damaged: it counts {} bytes",
            stored.done
        );
        Ok(Some(stored.done))
    }

    /// Notes how far the copy is. Everything before must be safe already.
    pub(super) async fn note(&self, done: u64) -> Result<()> {
        let stored = Stored {
            version: VERSION,
            source: self.source.clone(),
            destination: self.destination.clone(),
            done,
        };
        let text = serde_json::to_string_pretty(&stored)?;
        let path = self.path.clone();
        let noted = tokio::task::spawn_blocking(move || replace(&path, text.as_bytes()));
        noted
            .await?
            .with_context(|| format!("cannot write {}", self.path.display()))
    }

    /// The copy is complete.
    pub(super) fn remove(&self) -> Result<()> {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", self.path.display()))
            }
            _ => Ok(()),
        }
    }
}

impl Identity {
    fn bytes(&self) -> u64 {
        match self {
            Self::Unit { bytes, .. } | Self::File { bytes, .. } => *bytes,
        }
    }

    fn shown(&self) -> String {
        match self {
            Self::Unit { names, bytes } => format!("{} with {bytes} bytes", names.join(", ")),
            Self::File {
                path,
                bytes,
                changed,
            } => {
                let changed = changed.map(|at| format!(", changed at {at} ns"));
                format!(
                    "{} with {bytes} bytes{}",
                    path.display(),
                    changed.unwrap_or_default()
                )
            }
        }
    }
}

/// Replaces a file: whoever looks, and whatever happens, there is the old one or the new one.
fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    let mut file = File::create(&new)?;
    file.write_all(text)?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    File::open(folder)?.sync_all()
}

/// What is copied ends at a block, and no block is smaller.
const SMALLEST_BLOCK: u64 = 512;

#[cfg(test)]
mod tests {
    use super::{Identity, Journal};

    fn unit(name: &str) -> Identity {
        Identity::Unit {
            names: vec![name.to_owned()],
            bytes: 1 << 20,
        }
    }

    #[tokio::test]
    async fn a_journal_is_for_one_copy_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.copying");
        let journal = |source: &str| Journal::new(path.clone(), unit(source), unit("b"));
        assert_eq!(journal("a").find().unwrap(), None);
        journal("a").note(4096).await.unwrap();
        journal("a").note(8192).await.unwrap();
        assert_eq!(journal("a").find().unwrap(), Some(8192));
        let other = format!("{:#}", journal("c").find().unwrap_err());
        assert!(other.contains("the source is not the one"), "{other}");
        for done in [1, 2 << 20] {
            journal("a").note(done).await.unwrap();
            let damaged = format!("{:#}", journal("a").find().unwrap_err());
            assert!(damaged.contains("damaged"), "{damaged}");
        }
        std::fs::write(&path, "{").unwrap();
        assert!(journal("a").find().is_err());
        journal("a").remove().unwrap();
        journal("a").remove().unwrap();
        assert_eq!(journal("a").find().unwrap(), None);
    }
}
