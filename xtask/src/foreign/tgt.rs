//! Our initiator against tgt, another people's target.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use crate::bounded;
use crate::daemon::Daemon;
use crate::foreign::Check;
use crate::foreign::bench::{Bench, LIMIT, expect, write_disk};

pub(crate) const CHECKS: &[Check] = &[
    Check {
        name: "tgt-discover",
        programs: &["tgtd"],
        run: discover,
    },
    Check {
        name: "tgt-read",
        programs: &["tgtd"],
        run: read,
    },
    Check {
        name: "tgt-write",
        programs: &["tgtd"],
        run: write,
    },
    Check {
        name: "tgt-copy",
        programs: &["tgtd"],
        run: copy,
    },
];

/// The name that tgt's target gets here.
const IQN: &str = "iqn.2026-11.test.vmthunder:tgt";
/// tgt numbers its control sockets; this one lies in a folder of its own.
const CONTROL: &str = "1";
/// How long tgt may take until its control socket answers.
const START: Duration = Duration::from_secs(10);

/// A tgt daemon of our own: own port, own control socket.
pub(crate) struct Tgt {
    pub(crate) portal: String,
    pub(crate) url: String,
    daemon: Daemon,
}

impl Tgt {
    /// Starts tgt on a free port with the file as LUN 1 (tgt keeps LUN 0 to itself).
    pub(crate) fn start(folder: &Path, disk: &Path) -> Result<Self> {
        // Another program may take the port between here and tgt's start; then the target cannot be made.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let portal = format!("127.0.0.1:{port}");
        let mut command = Command::new("/usr/sbin/tgtd");
        command.args(["-f", "-C", CONTROL, "--iscsi", &format!("portal={portal}")]);
        command.env("TGT_IPC_SOCKET", folder.join("tgt"));
        let mut daemon = Daemon::start(&mut command, folder, "tgt.log")?;
        let admin = |line: &str| {
            let mut command = Command::new("/usr/sbin/tgtadm");
            command
                .env("TGT_IPC_SOCKET", folder.join("tgt"))
                .args(["-C", CONTROL, "--lld", "iscsi"]);
            bounded::succeed(command.args(line.split(' ')), LIMIT)
        };
        let deadline = Instant::now() + START;
        while admin("--op show --mode sys").is_err() {
            daemon.check()?;
            if Instant::now() > deadline {
                bail!("tgt does not answer\n{}", daemon.last_lines());
            }
            thread::sleep(Duration::from_millis(50));
        }
        admin(&format!(
            "--op new --mode target --tid 1 --targetname {IQN}"
        ))?;
        admin(&format!(
            "--op new --mode logicalunit --tid 1 --lun 1 --backing-store {}",
            disk.display()
        ))?;
        admin("--op bind --mode target --tid 1 --initiator-address ALL")?;
        let url = format!("iscsi://{portal}/{IQN}/1");
        Ok(Self {
            portal,
            url,
            daemon,
        })
    }
}

impl Drop for Tgt {
    fn drop(&mut self) {
        // tgt pays no attention to SIGTERM while it has targets.
        let _ended = self.daemon.kill();
    }
}

fn discover(bench: &Bench) -> Result<()> {
    let folder = bench.folder()?;
    let disk = folder.path().join("disk.raw");
    write_disk(&disk)?;
    let tgt = Tgt::start(folder.path(), &disk)?;
    let url = format!("iscsi://{}", tgt.portal);
    let text = bounded::succeed(bench.vmthunder().args(["iscsi", "discover", &url]), LIMIT)?.text();
    expect(&text, IQN)?;
    expect(&text, &tgt.portal)
}

fn read(bench: &Bench) -> Result<()> {
    let folder = bench.folder()?;
    let disk = folder.path().join("disk.raw");
    write_disk(&disk)?;
    let tgt = Tgt::start(folder.path(), &disk)?;
    let bytes = fs::read(&disk)?;
    // One block, a run that is longer than a burst, and the last block.
    for (lba, blocks) in [(0, 1), (777, 9000), (bytes.len() / 512 - 1, 1)] {
        let mut command = bench.vmthunder();
        command.args([
            "iscsi",
            "read",
            &tgt.url,
            "--lba",
            &lba.to_string(),
            "--blocks",
            &blocks.to_string(),
        ]);
        let got = bounded::succeed(&mut command, LIMIT)?.stdout;
        ensure!(
            got == bytes[lba * 512..(lba + blocks) * 512],
            "{} blocks from {lba} are not the disk's",
            blocks
        );
    }
    Ok(())
}

fn write(bench: &Bench) -> Result<()> {
    let folder = bench.folder()?;
    let disk = folder.path().join("disk.raw");
    write_disk(&disk)?;
    let mut expected = fs::read(&disk)?;
    let new = vec![0xc3; 3 << 20];
    let input = folder.path().join("new.raw");
    fs::write(&input, &new)?;
    {
        let tgt = Tgt::start(folder.path(), &disk)?;
        let mut command = bench.vmthunder();
        command.args(["iscsi", "write", &tgt.url, "--lba", "2049"]);
        bounded::succeed_with(&mut command, fs::File::open(&input)?.into(), LIMIT)?;
    }
    expected[2049 * 512..][..new.len()].copy_from_slice(&new);
    ensure!(
        fs::read(&disk)? == expected,
        "the disk does not hold what was written"
    );
    Ok(())
}

fn copy(bench: &Bench) -> Result<()> {
    let folder = bench.folder()?;
    let disk = folder.path().join("disk.raw");
    write_disk(&disk)?;
    let tgt = Tgt::start(folder.path(), &disk)?;
    let out = folder.path().join("copy.raw");
    bounded::succeed(
        bench
            .vmthunder()
            .args(["iscsi", "copy", &tgt.url])
            .arg(&out),
        LIMIT,
    )?;
    ensure!(fs::read(&out)? == fs::read(&disk)?, "the copy differs");
    Ok(())
}
