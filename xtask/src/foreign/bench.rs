//! What every foreign check needs: the program under test, a folder, a disk with a known content.

use std::fs;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use tempfile::TempDir;

use crate::bounded::{self, Finished};
use crate::daemon::Daemon;

/// How long a foreign program may take; all of them take a second or two.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);
/// The size of a test disk.
pub(crate) const DISK_BYTES: usize = 32 << 20;
/// How much of it is not a hole.
pub(crate) const IMAGE_BYTES: usize = DISK_BYTES - HOLE.end + HOLE.start;
/// The name of the target under test.
pub(crate) const IQN: &str = "iqn.2026-11.test.vmthunder:foreign";

const MIB: usize = 1 << 20;
const HOLE: Range<usize> = 10 * MIB..20 * MIB;

/// The program under test, and a folder that is removed at the end.
pub(crate) struct Bench {
    pub(crate) vmthunder: PathBuf,
    folder: TempDir,
}

/// A file and the target of ours that serves it.
pub(crate) struct Served {
    pub(crate) disk: PathBuf,
    pub(crate) url: String,
    pub(crate) daemon: Daemon,
    pub(crate) folder: TempDir,
}

impl Bench {
    pub(crate) fn new(vmthunder: PathBuf) -> Result<Self> {
        Ok(Self {
            vmthunder,
            folder: tempfile::Builder::new()
                .prefix("vmthunder-foreign.")
                .tempdir()?,
        })
    }

    /// A folder of a check's own.
    pub(crate) fn folder(&self) -> Result<TempDir> {
        Ok(tempfile::tempdir_in(self.folder.path())?)
    }

    /// The program under test.
    pub(crate) fn vmthunder(&self) -> Command {
        Command::new(&self.vmthunder)
    }

    /// A disk with a known content, served by `vmthunder target`.
    pub(crate) fn serve(&self) -> Result<Served> {
        let folder = self.folder()?;
        let disk = folder.path().join("disk.raw");
        write_disk(&disk)?;
        let mut command = self.vmthunder();
        command
            .arg("target")
            .arg(&disk)
            .args(["--listen", "127.0.0.1:0", "--iqn", IQN]);
        let mut daemon = Daemon::start(&mut command, folder.path(), "target.log")?;
        let url = daemon.ready(1, LIMIT)?.remove(0);
        ensure!(
            url.starts_with("iscsi://127.0.0.1:") && url.ends_with(&format!("/{IQN}/0")),
            "ready {url}"
        );
        Ok(Served {
            disk,
            url,
            daemon,
            folder,
        })
    }
}

impl Served {
    /// `iscsi://HOST:PORT`, without target and LUN.
    pub(crate) fn portal(&self) -> &str {
        let end = self.url.find(&format!("/{IQN}")).unwrap_or(self.url.len());
        &self.url[..end]
    }
}

/// Writes a disk of which no two blocks are alike, with a hole of some MiB in the middle.
pub(crate) fn write_disk(path: &Path) -> Result<()> {
    let mut file = fs::File::create(path)?;
    file.set_len(u64::try_from(DISK_BYTES)?)?;
    for at in (0..DISK_BYTES).step_by(MIB).filter(|at| !HOLE.contains(at)) {
        file.seek(SeekFrom::Start(u64::try_from(at)?))?;
        file.write_all(&content(at, MIB))?;
    }
    Ok(())
}

/// The content of a test disk outside of its hole.
pub(crate) fn content(at: usize, length: usize) -> Vec<u8> {
    let words = (at / 8..(at + length) / 8)
        .map(|word| (word as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    words.flat_map(u64::to_le_bytes).collect()
}

/// Runs a foreign program, which must succeed.
pub(crate) fn ask(program: &str, args: &[&str]) -> Result<Finished> {
    bounded::succeed(Command::new(program).args(args), LIMIT)
}

/// Fails unless `text` contains `part`.
pub(crate) fn expect(text: &str, part: &str) -> Result<()> {
    ensure!(text.contains(part), "{part:?} is not in:\n{text}");
    Ok(())
}
