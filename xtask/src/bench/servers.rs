//! Those who serve: opened anew for every turn, so that no turn finds what another one left.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use tempfile::{NamedTempFile, TempDir};

use super::Room;
use super::case::{Disk, Server, Work};
use super::disk;
use super::images::{Image, Instance};
use crate::daemon::Daemon;
use crate::tgt::Tgt;

/// How long a server may take until it serves.
const LIMIT: Duration = Duration::from_secs(60);
const IQN: &str = "iqn.2026-11.org.vmthunder:bench";

/// Writes the disk of a case.
pub(super) fn write_disk(room: &Room, work: Work) -> Result<NamedTempFile> {
    let file = NamedTempFile::new_in(room.folder.path())?;
    let (content, bytes) = match work {
        Work::Load(_) => (Disk::Full, room.span),
        Work::Copy(Disk::Full) => (Disk::Full, room.copied),
        Work::Copy(Disk::Sparse) => (Disk::Sparse, 4 * room.copied),
    };
    disk::write(file.path(), content, bytes)?;
    Ok(file)
}

/// What a side has for the whole case.
pub(super) struct Stand<'a> {
    room: &'a Room,
    server: Server,
    is_written: bool,
    folder: TempDir,
    /// Where images come from.
    image: Option<Image>,
}

/// A server that serves.
pub(super) struct Open<'a> {
    pub(super) url: String,
    /// Whose CPU time counts as the server's.
    pub(super) pids: Vec<u32>,
    /// What it serves, where that is a file.
    pub(super) file: PathBuf,
    /// What was never written is zeros.
    pub(super) is_sparse: bool,
    /// The driver is to write all of it before it measures.
    pub(super) is_written_first: bool,
    running: Running<'a>,
}

/// What ends with the turn.
enum Running<'a> {
    Target(Daemon),
    Tgt(Tgt),
    Instance(Instance<'a>),
}

impl<'a> Stand<'a> {
    /// Makes what is served, of a disk that the sides of a case share: one at a time serves it.
    pub(super) fn new(room: &'a Room, server: Server, work: Work, disk: &Path) -> Result<Self> {
        let folder = tempfile::tempdir_in(room.folder.path())?;
        let file = folder.path().join("disk.raw");
        fs::hard_link(disk, &file)?;
        let image = match server {
            Server::CachedImage => Some(Image::cached(room, folder.path(), &file)?),
            Server::FreshInstance | Server::WrittenInstance => {
                Some(Image::far(room, folder.path(), &file)?)
            }
            Server::Target | Server::FreshTarget | Server::Tgt { .. } => None,
        };
        Ok(Self {
            room,
            server,
            is_written: matches!(work, Work::Load(load) if load.reads < 100),
            folder,
            image,
        })
    }

    /// Begins to serve.
    pub(super) fn open(&self) -> Result<Open<'_>> {
        let folder = self.folder.path();
        let file = folder.join("disk.raw");
        let (url, pids, running) = match (self.server, &self.image) {
            (Server::Tgt { threads }, _) => {
                let threads = threads.map(|threads| ["-t".to_owned(), threads.to_string()]);
                let options: Vec<String> = threads.into_iter().flatten().collect();
                let tgt = Tgt::start_with(folder, 1, &options)?;
                tgt.export(1, IQN, &file)?;
                (tgt.url(0, IQN), vec![tgt.pid()], Running::Tgt(tgt))
            }
            (_, Some(image)) => {
                let instance = image.open(self.server == Server::CachedImage)?;
                let (url, pid) = (instance.url.clone(), instance.pid());
                (url, vec![pid], Running::Instance(instance))
            }
            (Server::FreshTarget, None) => {
                fs::remove_file(&file)?;
                File::create(&file)?.set_len(self.room.span)?;
                self.target(&file)?
            }
            (_, None) => self.target(&file)?,
        };
        Ok(Open {
            url,
            pids,
            file,
            is_sparse: self.server == Server::FreshTarget,
            is_written_first: self.server == Server::WrittenInstance,
            running,
        })
    }

    /// `vmthunder target` on a file.
    fn target(&self, file: &Path) -> Result<(String, Vec<u32>, Running<'static>)> {
        let mut command = Command::new(&self.room.vmthunder);
        command.arg("target").arg(file);
        command.args(["--listen", "127.0.0.1:0", "--iqn", IQN]);
        if !self.is_written {
            // So that it can be served beside an image of which it is the origin.
            command.arg("--read-only");
        }
        let mut daemon = Daemon::start(&mut command, self.folder.path(), "target.log")?;
        let url = daemon.ready(1, LIMIT)?.remove(0);
        Ok((url, vec![daemon.pid()], Running::Target(daemon)))
    }

    /// Ends what was there for the whole case.
    pub(super) fn close(self) -> Result<()> {
        self.image.map_or(Ok(()), Image::close)
    }
}

impl Open<'_> {
    /// Fails if the load was served in another way than the case is about.
    pub(super) fn after_load(&self) -> Result<()> {
        match &self.running {
            Running::Instance(instance) => instance.after_load(),
            Running::Target(_) | Running::Tgt(_) => Ok(()),
        }
    }

    /// Ends the server, which must not have ended by itself.
    pub(super) fn close(self) -> Result<()> {
        match self.running {
            Running::Target(daemon) => daemon.stop(),
            Running::Instance(instance) => instance.close(),
            Running::Tgt(tgt) => {
                ensure!(
                    Path::new(&format!("/proc/{}", tgt.pid())).exists(),
                    "tgt ended by itself"
                );
                Ok(())
            }
        }
    }
}
