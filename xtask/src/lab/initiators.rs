//! `cargo xtask lab initiators`: the suite's drills for our initiator, QEMU's, libiscsi's tools and the Linux kernel's in a
//! guest, and the page about them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Args;

use crate::bounded;
use crate::lab::Program;
use crate::lab::conformance::page::{self, Column};
use crate::lab::conformance::{complain, faults, tally, verdicts};
use crate::packages;
use crate::repo::Repo;
use crate::tally::Tally;

/// The page that the whole run writes.
const PAGE: &str = "docs/conformance-initiators.md";
/// How long the guest may take until it is up; the first time it is built.
const START: Duration = Duration::from_secs(300);

/// Who is drilled.
#[derive(Args)]
pub(crate) struct InitiatorsArgs {
    /// Only these: vmthunder, qemu, libiscsi, linux. The page is not written then.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,
    /// Keep the reports of each initiator in this folder: JSON and HTML.
    #[arg(long, value_name = "FOLDER")]
    reports: Option<PathBuf>,
    #[command(flatten)]
    program: Program,
}

/// An initiator.
struct Peer {
    name: &'static str,
    title: &'static str,
    /// What it is drilled with, behind `lab/`; and for discovery.
    normal: &'static str,
    discovery: Option<&'static str>,
    /// Where its deviations are explained.
    waivers: Option<&'static str>,
}

const PEERS: [Peer; 4] = [
    Peer {
        name: "vmthunder",
        title: "vmthunder",
        normal: "visitor vmthunder {url}",
        discovery: Some("visitor vmthunder {url}"),
        waivers: None,
    },
    Peer {
        name: "qemu",
        title: "QEMU",
        normal: "visitor qemu {url}",
        discovery: None,
        waivers: Some("libiscsi.toml"),
    },
    Peer {
        name: "libiscsi",
        title: "libiscsi's tools",
        normal: "visitor libiscsi {url}",
        discovery: Some("visitor libiscsi {url}"),
        waivers: Some("libiscsi.toml"),
    },
    Peer {
        name: "linux",
        title: "Linux",
        normal: "vm/visitor-guest visit FOLDER {portal} {target}",
        discovery: Some("vm/visitor-guest visit FOLDER {portal}"),
        waivers: Some("linux.toml"),
    },
];

pub(crate) fn run(repo: &Repo, args: &InitiatorsArgs) -> Result<Tally> {
    let unknown = args
        .only
        .iter()
        .find(|name| PEERS.iter().all(|peer| peer.name != *name));
    ensure!(unknown.is_none(), "no initiator is called {unknown:?}");
    let vmthunder = args.program.build_release(repo)?;
    let wanted = |peer: &&Peer| args.only.is_empty() || args.only.iter().any(|n| n == peer.name);
    let mut columns = Vec::new();
    for peer in PEERS.iter().filter(wanted) {
        let column = drill(repo, &vmthunder, peer, args.reports.as_deref());
        let column = column.with_context(|| format!("drilling {}", peer.title))?;
        complain(&column);
        columns.push(column);
    }
    println!("{}", page::counts(&columns));
    if args.only.is_empty() {
        let text = page::page(INTRODUCTION, &columns, &faults(repo, "initiators")?);
        // What a program says of itself holds the place of this tree.
        let text = text.replace(&format!("{}/", repo.root.display()), "");
        fs::write(repo.root.join(PAGE), text)?;
        println!("wrote {PAGE}");
    }
    Ok(tally(&columns))
}

fn drill(repo: &Repo, vmthunder: &Path, peer: &Peer, reports: Option<&Path>) -> Result<Column> {
    let folder = tempfile::Builder::new()
        .prefix("vmthunder-drill.")
        .tempdir()?;
    let guest = Guest::start(repo, peer, folder.path())?;
    let at = folder.path().display().to_string();
    let program = |words: &str| {
        let words = words.replace("FOLDER", &at);
        format!("{}/{words}", repo.root.join("lab").display())
    };
    let mut command = repo.command(vmthunder);
    command.env("VMTHUNDER", vmthunder);
    command.args(["conformance", "--initiator", "--listen", "127.0.0.1:0"]);
    command.arg("--command").arg(program(peer.normal));
    if let Some(discovery) = peer.discovery {
        command.arg("--discovery-command").arg(program(discovery));
    }
    if guest.is_some() {
        // A guest sees the loopback of its host under another address.
        command.args(["--advertise", "10.0.2.2"]);
    }
    if let Some(file) = peer.waivers {
        let file = repo.root.join("conformance/waivers").join(file);
        command.arg("--waivers").arg(file);
    }
    let mut column = verdicts(&mut command, (peer.name, peer.title), reports)?;
    column.product = version(peer.name);
    Ok(column)
}

fn version(name: &str) -> String {
    let of = |package| packages::installed(package).unwrap_or_default();
    match name {
        "qemu" => format!("qemu-io {}", of("qemu-utils")),
        "libiscsi" => format!("libiscsi {}", of("libiscsi-bin")),
        "linux" => "open-iscsi in a Debian guest".to_owned(),
        _ => format!("vmthunder {}", env!("CARGO_PKG_VERSION")),
    }
}

/// The guest in which the Linux kernel's initiator lives; it ends when this is dropped.
struct Guest<'a> {
    repo: &'a Repo,
    folder: PathBuf,
}

impl<'a> Guest<'a> {
    fn start(repo: &'a Repo, peer: &Peer, folder: &Path) -> Result<Option<Self>> {
        if peer.name != "linux" {
            return Ok(None);
        }
        let guest = Self {
            repo,
            folder: folder.to_owned(),
        };
        bounded::show(&mut guest.script("start"), START)?;
        Ok(Some(guest))
    }

    fn script(&self, verb: &str) -> Command {
        let mut command = self.repo.command("lab/vm/visitor-guest");
        command.arg(verb).arg(&self.folder);
        command
    }
}

impl Drop for Guest<'_> {
    fn drop(&mut self) {
        // A drop cannot fail, and the guest has nothing that could be lost.
        let _ended = bounded::output(&mut self.script("stop"), START);
    }
}

const INTRODUCTION: &str = "\
# Conformance of initiators

What `vmthunder conformance --initiator` says about this initiator and about others: a scripted target that answers
soundly but for one twist in each drill. Made by `cargo xtask lab initiators`, never by hand; what a peer does differently
is explained in `conformance/waivers`. QEMU is drilled by qemu-io, which reads, writes and compares; libiscsi by iscsi-inq,
iscsi-readcapacity16, iscsi-perf and iscsi-ls, which do not write; Linux by open-iscsi and dd in a guest. What targets do:
[conformance.md](conformance.md).
";
