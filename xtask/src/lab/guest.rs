//! Guests that boot the golden image from our target: through iPXE, and to give space back.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use serde_json::Value;
use tempfile::TempDir;

use crate::bounded;
use crate::daemon::Daemon;
use crate::lab::Program;
use crate::packages;
use crate::repo::Repo;
use crate::tally::Tally;

/// Building the golden image downloads a Debian.
const GOLDEN_LIMIT: Duration = Duration::from_secs(1800);
/// Copying an image of some hundred MiB.
const COPY_LIMIT: Duration = Duration::from_secs(300);
/// How long a target may take to start.
const START: Duration = Duration::from_secs(30);
/// An emulated guest on a busy machine.
const GUEST_LIMIT: Duration = Duration::from_secs(900);
const IQN: &str = "iqn.2026-11.test.vmthunder:golden";

/// Where the golden image is, and what serves it.
#[derive(Args)]
pub(crate) struct GuestArgs {
    /// The folder with golden.raw, vmlinuz and initrd.img; it is built there if it is missing (as root, with
    /// mmdebstrap).
    #[arg(long, value_name = "FOLDER")]
    golden: Option<PathBuf>,
    /// How QEMU shows the disk to the guest: virtio or scsi. iPXE's guest reaches it over the network.
    #[arg(long, default_value = "virtio", value_parser = ["virtio", "scsi"])]
    bus: String,
    #[command(flatten)]
    program: Program,
}

/// The golden image's file; it is built if it is missing.
pub(crate) fn golden_image(repo: &Repo, golden: Option<&Path>) -> Result<PathBuf> {
    let folder = golden.map_or_else(|| repo.root.join(".build/lab/golden"), Path::to_owned);
    let image = folder.join("golden.raw");
    if !image.is_file() {
        println!("building {}: some minutes", image.display());
        bounded::show(
            repo.command("lab/vm/make-golden-image").arg(&folder),
            GOLDEN_LIMIT,
        )?;
    }
    Ok(fs::canonicalize(image)?)
}

/// iPXE logs in, boots GRUB, and Linux logs in again from what iPXE left in memory.
pub(crate) fn ipxe(repo: &Repo, args: &GuestArgs) -> Result<Tally> {
    let served = Served::start(repo, args)?;
    let mut script = repo.command("lab/vm/ipxe-test");
    script.arg(&served.portal).arg(IQN);
    bounded::show(&mut script, GUEST_LIMIT)?;
    served.daemon.stop()?;
    Ok(Tally {
        passed: 1,
        failed: 0,
    })
}

/// A guest writes, deletes and trims, and the sparse file behind the target shrinks.
pub(crate) fn fstrim(repo: &Repo, args: &GuestArgs) -> Result<Tally> {
    let served = Served::start(repo, args)?;
    let drive = format!(
        "file=iscsi://{}/{IQN}/0,format=raw,discard=unmap",
        served.portal
    );
    let mut script = repo.command("lab/vm/fstrim-test");
    script.arg(drive).arg(&served.disk);
    script.env("BUS", &args.bus);
    script.env("GOLDEN", served.golden.as_path());
    let mut figures = None;
    let status = bounded::lines(
        &mut script,
        GUEST_LIMIT,
        |line| match serde_json::from_str(line) {
            Ok(line) => figures = Some(line),
            Err(_) => println!("{line}"),
        },
    )?;
    let figures: Value = figures.context("the script printed no figures")?;
    for key in [
        "begun",
        "written",
        "deleted",
        "trimmed",
        "wrote",
        "given_back",
    ] {
        let mib = figures[key].as_f64().unwrap_or(f64::NAN) / f64::from(1 << 20);
        println!("{key:<12} {mib:>8.1} MiB");
    }
    served.daemon.stop()?;
    ensure!(status.success(), "too little was given back: {figures}");
    Ok(Tally {
        passed: 1,
        failed: 0,
    })
}

/// A copy of the golden image behind a target of ours.
struct Served {
    daemon: Daemon,
    portal: String,
    disk: PathBuf,
    /// The folder with the kernel.
    golden: PathBuf,
    _folder: TempDir,
}

impl Served {
    fn start(repo: &Repo, args: &GuestArgs) -> Result<Self> {
        packages::program("qemu-system-x86_64").context("see lab/README.md, Packages")?;
        let image = golden_image(repo, args.golden.as_deref())?;
        let vmthunder = args.program.build(repo)?;
        let folder = tempfile::Builder::new()
            .prefix("vmthunder-golden.")
            .tempdir()?;
        let disk = folder.path().join("disk.raw");
        let mut copy = Command::new("cp");
        copy.arg("--sparse=always").arg(&image).arg(&disk);
        bounded::succeed(&mut copy, COPY_LIMIT)?;
        let mut command = Command::new(vmthunder);
        command.arg("target").arg(&disk);
        command.args(["--iqn", IQN, "--listen", "127.0.0.1:0"]);
        let mut daemon = Daemon::start(&mut command, folder.path(), "target.log")?;
        let url = daemon.ready(1, START)?.remove(0);
        let portal = url.split('/').nth(2).context("a URL has a portal")?;
        Ok(Self {
            portal: portal.to_owned(),
            daemon,
            disk,
            golden: image.parent().context("a file has a folder")?.to_owned(),
            _folder: folder,
        })
    }
}
