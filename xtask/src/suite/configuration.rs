//! What the suite is run against: our target in several configurations, and tgt in two.

use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::daemon::Daemon;
use crate::secret::private_file;
use crate::suite::Subject;
use crate::tgt::Tgt;

/// A LUN that is too small for some tests would be worse than one that is overwritten a little longer. Below 2 GiB,
/// else the suite skips what reads behind the end with six-byte commands.
const DISK_BYTES: u64 = 64 << 20;
/// The name of every target here.
const IQN: &str = "iqn.2026-11.test.vmthunder:suite";
/// Who logs in where CHAP is asked for.
const USER: &str = "suite";
const SECRET: &str = "the-suites-secret";
/// How long a target may take to start.
const START: Duration = Duration::from_secs(30);

/// A kind of LUN. The suite skips what does not apply to the one that it is given.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Configuration {
    Plain,
    LongBlocks,
    TwoPortals,
    Removable,
    ReadOnly,
    /// Behind CHAP: newer versions of the suite have a family for it.
    Chap,
    Tgt,
    TgtThin,
}

impl Configuration {
    /// Our target's.
    pub(crate) const OURS: [Self; 6] = [
        Self::Plain,
        Self::LongBlocks,
        Self::TwoPortals,
        Self::Removable,
        Self::ReadOnly,
        Self::Chap,
    ];
    /// tgt's: a target that is not asked to be thin skips more, and passes less.
    pub(crate) const TGT: [Self; 2] = [Self::Tgt, Self::TgtThin];

    /// As part of the name of a check.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::LongBlocks => "4096",
            Self::TwoPortals => "two-portals",
            Self::Removable => "removable",
            Self::ReadOnly => "read-only",
            Self::Chap => "chap",
            Self::Tgt => "tgt",
            Self::TgtThin => "tgt-thin",
        }
    }

    /// In a sentence.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Plain => "plain LUN",
            Self::LongBlocks => "4096-byte blocks",
            Self::TwoPortals => "two portals",
            Self::Removable => "removable",
            Self::ReadOnly => "read-only",
            Self::Chap => "CHAP",
            Self::Tgt => "tgt",
            Self::TgtThin => "tgt, thin",
        }
    }

    /// What `vmthunder target` is told besides the file.
    fn options(self) -> &'static [&'static str] {
        match self {
            Self::LongBlocks => &["--block-size", "4096"],
            Self::Removable => &["--removable"],
            Self::ReadOnly => &["--read-only"],
            Self::Plain | Self::TwoPortals | Self::Chap | Self::Tgt | Self::TgtThin => &[],
        }
    }

    /// Serves an empty disk in this configuration.
    pub(crate) fn start(self, vmthunder: &Path) -> Result<Running> {
        let folder = tempfile::Builder::new()
            .prefix("vmthunder-suite.")
            .tempdir()?;
        let disk = folder.path().join("disk.raw");
        File::create(&disk)?.set_len(DISK_BYTES)?;
        let (server, mut urls) = if Self::TGT.contains(&self) {
            serve_by_tgt(self, folder.path(), &disk)?
        } else {
            self.serve_by_us(vmthunder, folder.path(), &disk)?
        };
        let url = urls.drain(..1).next().context("no URL")?;
        Ok(Running {
            server,
            url,
            second_url: urls.pop(),
            _folder: folder,
        })
    }

    fn serve_by_us(
        self,
        vmthunder: &Path,
        folder: &Path,
        disk: &Path,
    ) -> Result<(Server, Vec<String>)> {
        let mut command = Command::new(vmthunder);
        command.arg("target").arg(disk).args(["--iqn", IQN]);
        let portals = if self == Self::TwoPortals { 2 } else { 1 };
        for _ in 0..portals {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        command.args(self.options());
        if self == Self::Chap {
            let secret = folder.join("secret");
            private_file(&secret, SECRET)?;
            command.args(["--chap-user", USER, "--chap-secret-file"]);
            command.arg(secret);
        }
        let mut daemon = Daemon::start(&mut command, folder, "target.log")?;
        let mut urls = daemon.ready(portals, START)?;
        if self == Self::Chap {
            for url in &mut urls {
                *url = url.replace("iscsi://", &format!("iscsi://{USER}%{SECRET}@"));
            }
        }
        Ok((Server::Ours(daemon), urls))
    }
}

fn serve_by_tgt(
    configuration: Configuration,
    folder: &Path,
    disk: &Path,
) -> Result<(Server, Vec<String>)> {
    let tgt = Tgt::start(folder, 1)?;
    tgt.export(1, IQN, disk)?;
    if configuration == Configuration::TgtThin {
        tgt.admin("--op update --mode logicalunit --tid 1 --lun 1 --params thin_provisioning=1")?;
    }
    let url = tgt.url(0, IQN);
    Ok((Server::Tgt(tgt), vec![url]))
}

/// A target that serves a LUN to the suite.
pub(crate) struct Running {
    server: Server,
    url: String,
    second_url: Option<String>,
    _folder: TempDir,
}

enum Server {
    Ours(Daemon),
    Tgt(Tgt),
}

impl Running {
    pub(crate) fn subject(&self) -> Subject<'_> {
        Subject {
            url: &self.url,
            second_url: self.second_url.as_deref(),
        }
    }

    /// Ends it; ours has to end well.
    pub(crate) fn stop(self) -> Result<()> {
        match self.server {
            Server::Ours(daemon) => daemon.stop(),
            Server::Tgt(tgt) => {
                drop(tgt);
                Ok(())
            }
        }
    }
}
