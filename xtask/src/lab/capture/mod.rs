//! `cargo xtask lab capture`: sessions of every feature on the loopback, captured and decoded by Wireshark.

mod decoded;
mod recorder;

pub(crate) use decoded::Decoded;
pub(crate) use recorder::Recorder;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Args;

use crate::bounded;
use crate::daemon::Daemon;
use crate::lab::Program;
use crate::packages;
use crate::repo::Repo;
use crate::script::Script;
use crate::secret::private_file;
use crate::suite::{Subject, Tool};
use crate::tally::Tally;

/// What a feature may take.
const LIMIT: Duration = Duration::from_secs(60);
const DISK_BYTES: &str = "64MiB";
const IQN: &str = "iqn.2026-11.test.vmthunder:capture";
const USER: [&str; 2] = ["guest", "guests-own-secret"];
/// Parts of libiscsi's suite that say much in few bytes. What cuts an answer short by its allocation length is left out:
/// Wireshark calls such an answer malformed.
const PARTS: &[&str] = &[
    "CompareAndWrite",
    "ExtendedCopy",
    "GetLBAStatus",
    "Inquiry.Standard",
    "Inquiry.BlockLimits",
    "ModeSense6",
    "OrWrite.Simple",
    "Prefetch16",
    "PrinReadKeys.Simple",
    "PrinReportCapabilities",
    "PrinServiceactionRange",
    "ProutClear",
    "ProutPreempt",
    "ProutRegister",
    "ProutReserve",
    "ReadCapacity10",
    "ReadCapacity16.Simple",
    "ReadDefectData10",
    "ReceiveCopyResults",
    "ReportSupportedOpcodes",
    "Reserve6",
    "StartStopUnit",
    "TestUnitReady",
    "Unmap.Simple",
    "Verify16.Simple",
    "WriteAtomic16.Simple",
    "WriteSame16.Simple",
    "WriteVerify16.Simple",
    "iSCSIResiduals",
    "iSCSIcmdsn",
    "iSCSIdatasn",
    "iSCSITMF",
];

/// Where the capture goes, or comes from.
#[derive(Args)]
pub(crate) struct CaptureArgs {
    /// Keep the capture in this file.
    #[arg(long, value_name = "FILE")]
    keep: Option<PathBuf>,
    /// Decode this capture instead of making one, with the port of a target; see `lab kernel --capture`.
    #[arg(long, value_name = "FILE", requires = "port")]
    read: Option<PathBuf>,
    /// A port on which a target listened.
    #[arg(long, value_name = "PORT")]
    port: Vec<u16>,
    /// Print one JSON object instead of the table.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    program: Program,
}

pub(crate) fn run(repo: &Repo, args: &CaptureArgs) -> Result<Tally> {
    for program in ["dumpcap", "tshark"] {
        packages::program(program).context("see lab/README.md, Packages")?;
    }
    if let Some(file) = &args.read {
        let decoded = Decoded::read(file, &args.port)?;
        return decoded.report(args.json, false);
    }
    let vmthunder = args.program.build(repo)?;
    let folder = tempfile::Builder::new()
        .prefix("vmthunder-capture.")
        .tempdir()?;
    let stage = Stage::start(repo, vmthunder, folder.path())?;
    let file = args
        .keep
        .clone()
        .unwrap_or_else(|| folder.path().join("capture.pcapng"));
    let recorder = Recorder::start(folder.path(), &file, &stage.ports)?;
    let ports = stage.ports.clone();
    stage.play()?;
    recorder.stop()?;
    Decoded::read(&file, &ports)?.report(args.json, true)
}

/// The targets, and those who talk to them.
struct Stage<'a> {
    repo: &'a Repo,
    vmthunder: PathBuf,
    open: (Daemon, String),
    guarded: (Daemon, String),
    ports: Vec<u16>,
}

impl<'a> Stage<'a> {
    fn start(repo: &'a Repo, vmthunder: PathBuf, folder: &Path) -> Result<Self> {
        let secret = folder.join("secret");
        private_file(&secret, USER[1])?;
        let serve = |name: &str, more: &[&str]| -> Result<(Daemon, String)> {
            let mut command = Command::new(&vmthunder);
            command.arg("target").arg(folder.join(name)).args(more);
            command.args([
                "--size",
                DISK_BYTES,
                "--iqn",
                IQN,
                "--listen",
                "127.0.0.1:0",
            ]);
            let mut daemon = Daemon::start(&mut command, folder, &format!("{name}.log"))?;
            let url = daemon.ready(1, LIMIT)?.remove(0);
            Ok((daemon, url))
        };
        let open = serve("open.raw", &[])?;
        let secret = secret.to_string_lossy().into_owned();
        let chap = [
            "--chap-user",
            USER[0],
            "--chap-secret-file",
            &secret,
            "--discovery-chap",
        ];
        let guarded = serve("guarded.raw", &chap)?;
        let ports = [&open.1, &guarded.1].map(|url| port_of(url));
        Ok(Self {
            repo,
            vmthunder,
            open,
            guarded,
            ports: ports.into_iter().collect::<Result<_>>()?,
        })
    }

    /// Every feature in turn.
    fn play(self) -> Result<()> {
        let url = &self.open.1;
        let portal = &url[..url.find(&format!("/{IQN}")).unwrap_or(url.len())];
        ask("iscsi-ls", &["-s", portal])?;
        ask("iscsi-inq", &[&format!("{url}?header_digest=crc32c")])?;
        self.authenticate()?;
        let write = "write -P 0x5a 1M 8M";
        let read = "read -P 0x5a 1M 8M";
        let rest = [
            "write -z 2M 64k",
            "discard 3M 64k",
            "write -f -P 0x77 6M 512",
            "flush",
        ];
        let commands = [write, read].into_iter().chain(rest);
        let commands: Vec<&str> = commands.flat_map(|command| ["-c", command]).collect();
        ask(
            "qemu-io",
            &[&["-t", "none", "-f", "raw"], &commands[..], &[url]].concat(),
        )?;
        let subject = Subject {
            url,
            second_url: None,
        };
        let tool = Tool::new(None);
        for part in PARTS {
            // What the suite thinks of it is another judge's business.
            let _tests = tool.run(part, subject)?;
        }
        let mut oddities = self.repo.command("lab/initiator.py");
        bounded::succeed(oddities.args(["oddities", url]), LIMIT)?;
        // A target that ends asks its initiators to log out.
        let mut idle = Script::start(
            self.repo,
            &["crowd", url, "--half-open", "0", "--idle", "2"],
        )?;
        idle.line(LIMIT)?;
        self.open.0.stop()?;
        idle.finish(LIMIT)?;
        self.guarded.0.stop()
    }

    fn authenticate(&self) -> Result<()> {
        let rest = self.guarded.1.trim_start_matches("iscsi://");
        let [user, secret] = USER;
        let good = format!("iscsi://{user}%{secret}@{rest}");
        ask("iscsi-inq", &[&good])?;
        bounded::succeed(
            Command::new(&self.vmthunder).args(["iscsi", "capacity", &good]),
            LIMIT,
        )?;
        let bad = format!("iscsi://{user}%not-the-secret@{rest}");
        let refused = bounded::output(Command::new("iscsi-inq").arg(bad), LIMIT)?;
        ensure!(!refused.status.success(), "a wrong secret was let in");
        Ok(())
    }
}

fn port_of(url: &str) -> Result<u16> {
    let portal = url.split('/').nth(2).context("a URL has a portal")?;
    let port = portal.rsplit(':').next().unwrap_or_default();
    Ok(port.parse()?)
}

fn ask(program: &str, args: &[&str]) -> Result<()> {
    bounded::succeed(Command::new(program).args(args), LIMIT)?;
    Ok(())
}
