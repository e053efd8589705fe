//! The targets that the guest talks to, and what is done to them meanwhile.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

use crate::bounded;
use crate::daemon::Daemon;
use crate::nodes;
use crate::secret::private_file;
use crate::tgt::Tgt;

/// How long a target may take to start, or a command that asks it.
const START: Duration = Duration::from_secs(30);
/// The guest's scratch space ends at 192 MiB.
const DISK_BYTES: u64 = 192 << 20;
/// What the disk is when it has grown.
const GROWN_BYTES: u64 = 256 << 20;
const IQN: &str = "iqn.2026-11.test.vmthunder:kernel";
const CHAP_IQN: &str = "iqn.2026-11.test.vmthunder:chap";
const STRICT_IQN: &str = "iqn.2026-11.test.vmthunder:strict";
const OTHERS_IQN: &str = "iqn.2026-11.test.vmthunder:others";
/// The credentials of lab/vm/kernel-initiator-test.
const GUEST: [&str; 2] = ["guest", "guests-own-secret"];
const TARGET: [&str; 2] = ["target", "targets-own-secret"];

/// How a target ends before it starts again.
#[derive(Clone, Copy)]
pub(crate) enum Ending {
    /// As an operator ends it.
    Asked,
    /// As a power failure does.
    Killed,
}

/// The targets that the guest talks to.
pub(crate) trait Bench {
    /// Tells the guest's script where they are.
    fn tell(&self, guest: &mut Command);
    /// The ports of all of them.
    fn ports(&self) -> Result<Vec<u16>>;
    /// The bytes that the first LUN's file holds.
    fn allocated(&self) -> Result<u64>;
    fn resize(&mut self) -> Result<()>;
    fn restart(&mut self, ending: Ending) -> Result<()>;
    fn stop(self: Box<Self>) -> Result<()>;
}

fn numbers<'a>(portals: impl IntoIterator<Item = &'a String>) -> Result<Vec<u16>> {
    let ports = portals.into_iter().map(|portal| Ok(port(portal).parse()?));
    ports.collect()
}

fn port(portal: &str) -> &str {
    portal.rsplit(':').next().unwrap_or_default()
}

fn disk(folder: &Path, name: &str) -> Result<PathBuf> {
    let path = folder.join(name);
    File::create(&path)?.set_len(DISK_BYTES)?;
    Ok(path)
}

fn allocated(disk: &Path) -> Result<u64> {
    // Linux writes back what it buffered before it knows what is a hole.
    File::open(disk)?.sync_all()?;
    Ok(fs::metadata(disk)?.blocks() * 512)
}

/// Our targets: one with two portals, two behind CHAP, one with LUNs of all kinds.
pub(crate) struct Ours {
    vmthunder: PathBuf,
    folder: TempDir,
    portals: Vec<String>,
    /// Nothing while it restarts.
    main: Option<Daemon>,
    chap: (Daemon, String),
    strict: (Daemon, String),
    others: (Daemon, String),
}

impl Ours {
    pub(crate) fn start(vmthunder: PathBuf, folder: TempDir) -> Result<Self> {
        let at = folder.path();
        disk(at, "main.raw")?;
        let portals = nodes::free_addresses(2)?;
        let main = Self::serve_main(&vmthunder, at, &portals)?;
        private_file(&at.join("guest.secret"), GUEST[1])?;
        private_file(&at.join("target.secret"), TARGET[1])?;
        let guarded = |name: &str, iqn: &str, more: &[&str]| {
            Self::serve(&vmthunder, at, name, |command| {
                command.arg(disk(at, &format!("{name}.raw"))?);
                command.args(["--iqn", iqn, "--chap-user", GUEST[0]]);
                command
                    .arg("--chap-secret-file")
                    .arg(at.join("guest.secret"));
                command.args(["--mutual-user", TARGET[0], "--mutual-secret-file"]);
                command.arg(at.join("target.secret")).args(more);
                Ok(1)
            })
        };
        let chap = guarded("chap", CHAP_IQN, &[])?;
        let strict = guarded("strict", STRICT_IQN, &["--chap-algorithms", "sha3-256"])?;
        let others = Self::serve(&vmthunder, at, "others", |command| {
            for (name, options) in [
                ("plain", ""),
                ("long", ",block-size=4096"),
                ("removable", ",removable"),
                ("readonly", ",read-only"),
            ] {
                let path = disk(at, &format!("{name}.raw"))?;
                command.arg(format!("{}{options}", path.display()));
            }
            command.args(["--iqn", OTHERS_IQN]);
            Ok(4)
        })?;
        Ok(Self {
            vmthunder,
            portals,
            main: Some(main),
            chap,
            strict,
            others,
            folder,
        })
    }

    fn serve_main(vmthunder: &Path, folder: &Path, portals: &[String]) -> Result<Daemon> {
        let mut command = Command::new(vmthunder);
        command
            .arg("target")
            .arg(folder.join("main.raw"))
            .args(["--iqn", IQN]);
        for portal in portals {
            command.args(["--listen", portal]);
        }
        command.arg("--control").arg(folder.join("control"));
        let mut daemon = Daemon::start(&mut command, folder, "main.log")?;
        daemon.ready(portals.len(), START)?;
        Ok(daemon)
    }

    /// Starts a target on a port of the system's choice; `arrange` says how many lines `ready` it prints.
    fn serve(
        vmthunder: &Path,
        folder: &Path,
        name: &str,
        arrange: impl FnOnce(&mut Command) -> Result<usize>,
    ) -> Result<(Daemon, String)> {
        let mut command = Command::new(vmthunder);
        command.arg("target");
        let ready = arrange(&mut command)?;
        command.args(["--listen", "127.0.0.1:0"]);
        let mut daemon = Daemon::start(&mut command, folder, &format!("{name}.log"))?;
        let url = daemon.ready(ready, START)?.remove(0);
        let portal = url.split('/').nth(2).context("a URL has a portal")?;
        Ok((daemon, portal.to_owned()))
    }

    fn main_disk(&self) -> PathBuf {
        self.folder.path().join("main.raw")
    }
}

impl Bench for Ours {
    fn ports(&self) -> Result<Vec<u16>> {
        numbers(
            self.portals
                .iter()
                .chain([&self.chap.1, &self.strict.1, &self.others.1]),
        )
    }

    fn tell(&self, guest: &mut Command) {
        guest.arg(port(&self.portals[0])).arg(IQN);
        guest.env("PORTAL2", port(&self.portals[1]));
        guest.env("CHAP", format!("{},{CHAP_IQN}", port(&self.chap.1)));
        guest.env("STRICT", format!("{},{STRICT_IQN}", port(&self.strict.1)));
        guest.env("OTHERS", format!("{},{OTHERS_IQN}", port(&self.others.1)));
        guest.envs([("LONG", "1"), ("REMOVABLE", "2"), ("READONLY", "3")]);
    }

    fn allocated(&self) -> Result<u64> {
        allocated(&self.main_disk())
    }

    fn resize(&mut self) -> Result<()> {
        let mut command = Command::new(&self.vmthunder);
        command.args([
            "lun",
            "resize",
            &format!("{IQN}/0"),
            &GROWN_BYTES.to_string(),
            "--control",
        ]);
        command.arg(self.folder.path().join("control"));
        bounded::succeed(&mut command, START)?;
        Ok(())
    }

    fn restart(&mut self, ending: Ending) -> Result<()> {
        if let Some(mut daemon) = self.main.take() {
            match ending {
                Ending::Asked => daemon.stop()?,
                Ending::Killed => daemon.kill()?,
            }
        }
        self.main = Some(Self::serve_main(
            &self.vmthunder,
            self.folder.path(),
            &self.portals,
        )?);
        Ok(())
    }

    fn stop(self: Box<Self>) -> Result<()> {
        let others = [self.chap.0, self.strict.0, self.others.0].map(Some);
        let daemons = [self.main].into_iter().chain(others);
        daemons.flatten().try_for_each(Daemon::stop)
    }
}

/// tgt with a LUN, thin, and one behind CHAP.
pub(crate) struct Theirs {
    folder: TempDir,
    portals: Vec<String>,
    tgt: Option<Tgt>,
}

impl Theirs {
    pub(crate) fn start(folder: TempDir) -> Result<Self> {
        disk(folder.path(), "main.raw")?;
        disk(folder.path(), "chap.raw")?;
        let portals = nodes::free_addresses(2)?;
        let tgt = Self::serve(folder.path(), &portals)?;
        Ok(Self {
            folder,
            portals,
            tgt: Some(tgt),
        })
    }

    fn serve(folder: &Path, portals: &[String]) -> Result<Tgt> {
        let tgt = Tgt::start_at(folder, portals.to_vec())?;
        tgt.export(1, IQN, &folder.join("main.raw"))?;
        tgt.admin("--op update --mode logicalunit --tid 1 --lun 1 --params thin_provisioning=1")?;
        for digest in ["HeaderDigest", "DataDigest"] {
            tgt.admin(&format!(
                "--op update --mode target --tid 1 --name {digest} --value CRC32C,None"
            ))?;
        }
        tgt.export(2, CHAP_IQN, &folder.join("chap.raw"))?;
        for ([name, secret], direction) in [(GUEST, ""), (TARGET, " --outgoing")] {
            tgt.admin(&format!(
                "--op new --mode account --user {name} --password {secret}"
            ))?;
            tgt.admin(&format!(
                "--op bind --mode account --tid 2 --user {name}{direction}"
            ))?;
        }
        Ok(tgt)
    }
}

impl Bench for Theirs {
    fn ports(&self) -> Result<Vec<u16>> {
        numbers(&self.portals)
    }

    fn tell(&self, guest: &mut Command) {
        guest.arg(port(&self.portals[0])).arg(IQN).env("LUN", "1");
        guest.env("PORTAL2", port(&self.portals[1]));
        guest.env("CHAP", format!("{},{CHAP_IQN}", port(&self.portals[0])));
    }

    fn allocated(&self) -> Result<u64> {
        allocated(&self.folder.path().join("main.raw"))
    }

    fn resize(&mut self) -> Result<()> {
        bail!("tgt has no command for it")
    }

    fn restart(&mut self, _ending: Ending) -> Result<()> {
        // Dropped, and with it killed, before its ports are taken again.
        self.tgt = None;
        self.tgt = Some(Self::serve(self.folder.path(), &self.portals)?);
        Ok(())
    }

    fn stop(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}
