//! tgt, another people's target: our initiator's peer, and whom our target is compared with.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use crate::bounded;
use crate::daemon::Daemon;

/// tgt numbers its control sockets; this one lies in a folder of its own.
const CONTROL: &str = "1";
/// How long tgt may take until its control socket answers, and its administrator's program to end.
const LIMIT: Duration = Duration::from_secs(20);
/// How often a control socket that is not there yet is tried.
const POLL: Duration = Duration::from_millis(50);

/// A tgt daemon of our own: own ports, own control socket.
pub(crate) struct Tgt {
    /// `HOST:PORT` of each portal.
    pub(crate) portals: Vec<String>,
    folder: PathBuf,
    daemon: Daemon,
}

impl Tgt {
    /// Starts tgt on free ports, serving nothing.
    pub(crate) fn start(folder: &Path, portals: usize) -> Result<Self> {
        Self::start_with(folder, portals, &[])
    }

    /// The same, with more on its command line.
    pub(crate) fn start_with(folder: &Path, portals: usize, options: &[String]) -> Result<Self> {
        // Another program may take a port between here and tgt's start; then the target cannot be made.
        let listeners: Result<Vec<_>, _> = (0..portals)
            .map(|_| TcpListener::bind("127.0.0.1:0"))
            .collect();
        let addresses: Result<Vec<String>> = listeners?
            .iter()
            .map(|listener| Ok(listener.local_addr()?.to_string()))
            .collect();
        Self::launch(folder, addresses?, options)
    }

    /// Starts tgt on these `HOST:PORT`.
    pub(crate) fn start_at(folder: &Path, portals: Vec<String>) -> Result<Self> {
        Self::launch(folder, portals, &[])
    }

    fn launch(folder: &Path, portals: Vec<String>, options: &[String]) -> Result<Self> {
        let mut command = Command::new("/usr/sbin/tgtd");
        command.args(["-f", "-C", CONTROL, "--iscsi"]);
        let listen: Vec<String> = portals
            .iter()
            .map(|portal| format!("portal={portal}"))
            .collect();
        command.arg(listen.join(",")).args(options);
        command.env("TGT_IPC_SOCKET", folder.join("tgt"));
        let daemon = Daemon::start(&mut command, folder, "tgt.log")?;
        let mut tgt = Self {
            portals,
            folder: folder.to_owned(),
            daemon,
        };
        let deadline = Instant::now() + LIMIT;
        while tgt.admin("--op show --mode sys").is_err() {
            tgt.daemon.check()?;
            if Instant::now() > deadline {
                bail!("tgt does not answer\n{}", tgt.daemon.last_lines());
            }
            thread::sleep(POLL);
        }
        Ok(tgt)
    }

    /// Serves a file as LUN 1 (tgt keeps LUN 0 to itself) of a new target to everybody.
    pub(crate) fn export(&self, number: u32, iqn: &str, disk: &Path) -> Result<()> {
        self.admin(&format!(
            "--op new --mode target --tid {number} --targetname {iqn}"
        ))?;
        self.admin(&format!(
            "--op new --mode logicalunit --tid {number} --lun 1 --backing-store {}",
            disk.display()
        ))?;
        self.admin(&format!(
            "--op bind --mode target --tid {number} --initiator-address ALL"
        ))
    }

    /// Asks tgt's administrator's program for something, in words without spaces.
    pub(crate) fn admin(&self, line: &str) -> Result<()> {
        let mut command = Command::new("/usr/sbin/tgtadm");
        command
            .env("TGT_IPC_SOCKET", self.folder.join("tgt"))
            .args(["-C", CONTROL, "--lld", "iscsi"]);
        let finished = bounded::output(command.args(line.split(' ')), LIMIT)?;
        ensure!(
            finished.status.success(),
            "tgtadm {line}: {}{}",
            finished.text(),
            finished.stderr
        );
        Ok(())
    }

    /// Ends it; nobody is told.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.daemon.kill()
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.daemon.pid()
    }

    /// The URL of LUN 1 through a portal.
    pub(crate) fn url(&self, portal: usize, iqn: &str) -> String {
        format!("iscsi://{}/{iqn}/1", self.portals[portal])
    }
}

impl Drop for Tgt {
    fn drop(&mut self) {
        // tgt pays no attention to SIGTERM while it has targets.
        let _ended = self.daemon.kill();
    }
}
