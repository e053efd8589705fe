//! Who is judged: our target in several configurations, and every other people's target that can be started here.

use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::daemon::Daemon;
use crate::nodes;
use crate::repo::Repo;
use crate::secret::private_file;
use crate::tgt::Tgt;

/// Large enough for every check.
const DISK_BYTES: u64 = 128 << 20;
/// The name of every target here that takes one.
const IQN: &str = "iqn.2026-11.test.vmthunder:judged";
/// What the suite proves itself with, and what the target does.
const USER: [&str; 2] = ["suite", "the-suites-secret"];
const MUTUAL: [&str; 2] = ["judged", "the-targets-secret"];
/// What tgt offers only if it is told to.
const OFFERED: [(&str, &str); 4] = [
    ("ErrorRecoveryLevel", "2"),
    ("HeaderDigest", "CRC32C,None"),
    ("DataDigest", "CRC32C,None"),
    ("InitialR2T", "No"),
];
/// How long a target may take to start; LIO boots a guest, and the first time builds it.
const START: Duration = Duration::from_secs(300);

/// A target and how it is set up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Peer {
    Ours,
    OursChap,
    OursReadOnly,
    Tgt,
    /// With all that it can offer switched on: recovery, digests, unsolicited data.
    TgtFull,
    TgtChap,
    Istgt,
    Lio,
    LioChap,
}

impl Peer {
    pub(super) const ALL: [Self; 9] = [
        Self::Ours,
        Self::OursChap,
        Self::OursReadOnly,
        Self::Tgt,
        Self::TgtFull,
        Self::TgtChap,
        Self::Istgt,
        Self::Lio,
        Self::LioChap,
    ];

    /// On the command line.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ours => "vmthunder",
            Self::OursChap => "vmthunder-chap",
            Self::OursReadOnly => "vmthunder-read-only",
            Self::Tgt => "tgt",
            Self::TgtFull => "tgt-full",
            Self::TgtChap => "tgt-chap",
            Self::Istgt => "istgt",
            Self::Lio => "lio",
            Self::LioChap => "lio-chap",
        }
    }

    /// At the head of a column.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Ours => "vmthunder",
            Self::OursChap => "vmthunder, CHAP",
            Self::OursReadOnly => "vmthunder, read-only",
            Self::Tgt => "tgt",
            Self::TgtFull => "tgt, all offered",
            Self::TgtChap => "tgt, CHAP",
            Self::Istgt => "istgt",
            Self::Lio => "LIO",
            Self::LioChap => "LIO, CHAP",
        }
    }

    /// Where its deviations are explained; the file is waivers for the suite.
    pub(super) fn waivers(self) -> Option<&'static str> {
        match self {
            Self::Ours | Self::OursChap | Self::OursReadOnly => None,
            Self::Tgt | Self::TgtFull | Self::TgtChap => Some("conformance/waivers/tgt.toml"),
            Self::Istgt => Some("conformance/waivers/istgt.toml"),
            Self::Lio | Self::LioChap => Some("conformance/waivers/lio.toml"),
        }
    }

    /// More time than usual: a unit of istgt that lost a task answers nothing more until it is started anew.
    pub(super) fn bounds(self) -> &'static [&'static str] {
        match self {
            Self::Istgt => &["--limit", "40"],
            _ => &[],
        }
    }

    fn has_chap(self) -> bool {
        matches!(self, Self::OursChap | Self::TgtChap | Self::LioChap)
    }

    /// Starts it with an empty disk.
    pub(super) fn start(self, repo: &Repo, vmthunder: &Path) -> Result<Running> {
        let folder = tempfile::Builder::new()
            .prefix("vmthunder-judged.")
            .tempdir()?;
        let at = folder.path();
        let disk = at.join("disk.raw");
        File::create(&disk)?.set_len(DISK_BYTES)?;
        private_file(&at.join("secret"), USER[1])?;
        private_file(&at.join("mutual"), MUTUAL[1])?;
        let (server, url) = match self {
            Self::Ours | Self::OursChap | Self::OursReadOnly => self.ours(vmthunder, at, &disk)?,
            Self::Tgt | Self::TgtFull | Self::TgtChap => self.tgt(at, &disk)?,
            Self::Istgt => {
                let mut command = repo.command("lab/istgt");
                command.arg(port()?).arg(&disk);
                by_script(command.env("LOG", at.join("istgt.log")), at)?
            }
            Self::Lio | Self::LioChap => {
                let mut command = repo.command("lab/vm/lio-target");
                command.arg(port()?).env("LOG", at.join("console.log"));
                if self.has_chap() {
                    command.env("CHAP", [USER, MUTUAL].concat().join(","));
                }
                by_script(&mut command, at)?
            }
        };
        Ok(Running {
            url: if self.has_chap() {
                url.replace("iscsi://", &format!("iscsi://{}@", USER[0]))
            } else {
                url
            },
            chap: self.has_chap(),
            _server: server,
            folder,
        })
    }

    fn ours(self, vmthunder: &Path, folder: &Path, disk: &Path) -> Result<(Server, String)> {
        let mut command = Command::new(vmthunder);
        command.arg("target").arg(disk);
        command.args(["--listen", "127.0.0.1:0"]);
        match self {
            Self::OursChap => {
                command.args(["--chap-user", USER[0], "--chap-secret-file"]);
                command.arg(folder.join("secret"));
                command.args(["--mutual-user", MUTUAL[0], "--mutual-secret-file"]);
                command.arg(folder.join("mutual"));
            }
            Self::OursReadOnly => {
                command.arg("--read-only");
            }
            _ => {}
        }
        by_script(&mut command, folder)
    }

    fn tgt(self, folder: &Path, disk: &Path) -> Result<(Server, String)> {
        let tgt = Tgt::start(folder, 1)?;
        tgt.export(1, IQN, disk)?;
        tgt.admin("--op update --mode logicalunit --tid 1 --lun 1 --params thin_provisioning=1")?;
        if self == Self::TgtFull {
            for (key, value) in OFFERED {
                tgt.admin(&format!(
                    "--op update --mode target --tid 1 --name {key} --value {value}"
                ))?;
            }
        }
        if self.has_chap() {
            for ([user, secret], direction) in [(USER, ""), (MUTUAL, " --outgoing")] {
                tgt.admin(&format!(
                    "--op new --mode account --user {user} --password {secret}"
                ))?;
                tgt.admin(&format!(
                    "--op bind --mode account --tid 1 --user {user}{direction}"
                ))?;
            }
        }
        let url = tgt.url(0, IQN);
        Ok((Server::Tgt { _ends: tgt }, url))
    }
}

/// A target that is being judged; it ends when this is dropped.
pub(super) struct Running {
    url: String,
    chap: bool,
    _server: Server,
    folder: TempDir,
}

enum Server {
    Daemon { _ends: Daemon },
    Tgt { _ends: Tgt },
}

impl Running {
    /// Where it is, and what to log in with.
    pub(super) fn arguments(&self) -> Vec<String> {
        let mut arguments = vec![self.url.clone()];
        if self.chap {
            let file = |name: &str| self.folder.path().join(name).display().to_string();
            arguments.extend(["--chap-secret-file".to_owned(), file("secret")]);
            arguments.extend(["--mutual-user".to_owned(), MUTUAL[0].to_owned()]);
            arguments.extend(["--mutual-secret-file".to_owned(), file("mutual")]);
        }
        arguments
    }
}

fn by_script(command: &mut Command, folder: &Path) -> Result<(Server, String)> {
    let mut daemon = Daemon::start(command, folder, "target.log")?;
    let url = daemon.ready(1, START)?.remove(0);
    Ok((Server::Daemon { _ends: daemon }, url))
}

fn port() -> Result<String> {
    let portal = nodes::free_addresses(1)?.remove(0);
    let port = portal.rsplit(':').next().context("a portal has a port")?;
    Ok(port.to_owned())
}
