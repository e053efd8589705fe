//! A target that is killed and paused: ours or tgt, over a file that holds zeros at first.

use std::fs::File;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::rounds::Against;
use crate::daemon::Daemon;
use crate::foreign;
use crate::repo::Repo;
use crate::tgt::Tgt;

/// A target that runs, or is dead for now.
pub(super) struct Victim {
    program: Option<PathBuf>,
    folder: TempDir,
    ways: usize,
    running: Option<Running>,
}

/// A daemon.
enum Running {
    Ours(Daemon),
    Tgt(Tgt),
}

impl Victim {
    /// A target that will have so many portals.
    pub(super) fn new(repo: &Repo, against: Against, ways: usize) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("vmthunder-soak.")
            .tempdir()?;
        // Both daemons write to the file through the page cache, which outlives them.
        File::create(folder.path().join("disk.raw"))?.set_len(DISK_BYTES)?;
        let program = match against {
            Against::Vmthunder => Some(foreign::build(repo)?),
            Against::Tgt => None,
        };
        Ok(Self {
            program,
            folder,
            ways,
            running: None,
        })
    }

    /// Starts it, anew on other ports; its portals.
    pub(super) fn start(&mut self) -> Result<Vec<String>> {
        let disk = self.folder.path().join("disk.raw");
        let Some(program) = &self.program else {
            let tgt = Tgt::start(self.folder.path(), self.ways)?;
            tgt.export(1, IQN, &disk)?;
            let portals = tgt.portals.clone();
            self.running = Some(Running::Tgt(tgt));
            return Ok(portals);
        };
        let mut command = Command::new(program);
        command.arg("target").arg(&disk).args(["--iqn", IQN]);
        for _ in 0..self.ways {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        let mut daemon = Daemon::start(&mut command, self.folder.path(), "target.log")?;
        let urls = daemon.ready(self.ways, START_LIMIT)?;
        self.running = Some(Running::Ours(daemon));
        let portal = |url: String| {
            let place = url.trim_start_matches("iscsi://");
            place.split('/').next().unwrap_or_default().to_owned()
        };
        Ok(urls.into_iter().map(portal).collect())
    }

    /// The URL of its unit through another portal.
    pub(super) fn url_at(&self, portal: &str) -> String {
        let lun = if self.program.is_some() { 0 } else { 1 };
        format!("iscsi://{portal}/{IQN}/{lun}")
    }

    /// Ends it as a power failure would, but for the page cache.
    pub(super) fn kill(&mut self) -> Result<()> {
        match self.running.take() {
            Some(Running::Ours(mut daemon)) => daemon.kill(),
            // Its end is always like this.
            Some(Running::Tgt(tgt)) => {
                drop(tgt);
                Ok(())
            }
            None => Ok(()),
        }
    }

    pub(super) fn pause(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    pub(super) fn resume(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = match &self.running {
            Some(Running::Ours(daemon)) => daemon.pid(),
            Some(Running::Tgt(tgt)) => tgt.pid(),
            None => return Ok(()),
        };
        let pid = Pid::from_raw(i32::try_from(pid)?).context("a process id")?;
        Ok(kill_process(pid, signal)?)
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        // A drop cannot fail; what is stopped can still be killed.
        let _ended = self.kill();
    }
}

const IQN: &str = "iqn.2026-11.test.vmthunder:soak";
const DISK_BYTES: u64 = 16 << 20;
const START_LIMIT: Duration = Duration::from_secs(60);
