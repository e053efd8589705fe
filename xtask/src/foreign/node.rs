//! Nodes as separate processes, and QEMU as the guest of their instances.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Instant;

use anyhow::{Result, anyhow, ensure};
use tempfile::TempDir;

use crate::bounded;
use crate::daemon::Daemon;
use crate::foreign::bench::{Bench, DISK_BYTES, IMAGE_BYTES, LIMIT, write_disk};
use crate::foreign::tgt;
use crate::foreign::{Check, qemu};
use crate::nodes::{self, Node};
use crate::tgt::Tgt;

pub(crate) const CHECKS: &[Check] = &[
    Check {
        name: "node-without-manifest",
        programs: &["tgtd", "qemu-img"],
        run: without_manifest,
    },
    Check {
        name: "node-swarm",
        programs: &["tgtd", "qemu-img", "qemu-io"],
        run: swarm,
    },
    Check {
        name: "node-restart",
        programs: &["tgtd", "qemu-img", "qemu-io"],
        run: restart,
    },
    Check {
        name: "node-turned-off",
        programs: &["tgtd", "qemu-img", "qemu-io"],
        run: turned_off,
    },
    Check {
        name: "node-killed",
        programs: &["tgtd", "qemu-img"],
        run: killed,
    },
];

/// A foreign target with a disk, and the nodes that attach it as an image.
struct Cluster<'a> {
    bench: &'a Bench,
    folder: TempDir,
    disk: PathBuf,
    tgt: Tgt,
    /// The `[[image]]` of every node.
    image: String,
    /// Names and addresses.
    members: Vec<(String, String)>,
}

impl<'a> Cluster<'a> {
    fn new(bench: &'a Bench, nodes: usize) -> Result<Self> {
        let folder = bench.folder()?;
        let disk = folder.path().join("disk.raw");
        write_disk(&disk)?;
        let served = tgt::serve(folder.path(), &disk)?;
        let image = format!(
            "[[image]]\nname = \"disk\"\norigin = \"{}\"\n",
            served.url(0, tgt::IQN)
        );
        let addresses = nodes::free_addresses(nodes)?;
        let members = addresses
            .into_iter()
            .enumerate()
            .map(|(at, address)| (format!("node-{}", at + 1), address));
        Ok(Self {
            bench,
            folder,
            disk,
            tgt: served,
            image,
            members: members.collect(),
        })
    }

    /// Hashes the disk, so that nodes may take it from each other.
    fn import(&mut self) -> Result<()> {
        let manifest = self.folder.path().join("disk.manifest");
        let mut import = self.bench.vmthunder();
        bounded::succeed(
            import
                .args(["image", "import", &self.tgt.url(0, tgt::IQN), "--manifest"])
                .arg(&manifest),
            LIMIT,
        )?;
        self.image += &format!("manifest = \"{}\"\n", manifest.display());
        Ok(())
    }

    fn start(&self, at: usize) -> Result<Node> {
        let (name, listen) = &self.members[at];
        let members: Vec<(&str, &str)> = self
            .members
            .iter()
            .map(|(name, at)| (name.as_str(), at.as_str()))
            .collect();
        let config = nodes::config(name, self.folder.path(), listen, &self.image, &members)?;
        Node::start(&self.bench.vmthunder, self.folder.path(), name, &config, 1)
    }
}

/// A node that cannot verify takes everything from the origin, once.
fn without_manifest(bench: &Bench) -> Result<()> {
    let cluster = Cluster::new(bench, 1)?;
    let mut node = cluster.start(0)?;
    qemu::compare_with(&cluster.disk, &node.images[0])?;
    let first = node.sources()?;
    let url = node.create_instance("vm-1", "disk")?;
    qemu::compare_with(&cluster.disk, &url)?;
    let second = node.sources()?;
    ensure!(
        second.origin == first.origin,
        "read twice from the origin: {first}, then {second}"
    );
    ensure!(
        second.cache > first.cache,
        "the second reading left the cache alone: {second}"
    );
    node.daemon.stop()
}

/// Two nodes share what they read, and their guests' writes stay apart.
fn swarm(bench: &Bench) -> Result<()> {
    let mut cluster = Cluster::new(bench, 2)?;
    cluster.import()?;
    let content = fs::read(&cluster.disk)?;
    let (mut one, mut two) = (cluster.start(0)?, cluster.start(1)?);
    let (vm_1, vm_2) = (
        one.create_instance("vm-1", "disk")?,
        two.create_instance("vm-2", "disk")?,
    );
    qemu::compare_with(&cluster.disk, &vm_1)?;
    qemu::compare_with(&cluster.disk, &vm_2)?;
    let (first, second) = (one.sources()?, two.sources()?);
    println!("node-1: {first}\nnode-2: {second}");
    let once = u64::try_from(DISK_BYTES)?;
    ensure!(
        first.origin + second.origin <= once,
        "the origin sent more than the image"
    );
    ensure!(first.peers + second.peers > 0, "nothing came from a peer");
    qemu::write_and_read(&vm_1)?;
    qemu::compare_with(&cluster.disk, &vm_2)?;
    qemu::compare_with(&cluster.disk, &one.images[0])?;
    ensure!(
        fs::read(&cluster.disk)? == content,
        "a guest's write reached the origin"
    );
    one.daemon.stop()?;
    two.daemon.stop()
}

/// What a guest wrote and what the cache holds outlive the daemon.
fn restart(bench: &Bench) -> Result<()> {
    let mut cluster = Cluster::new(bench, 1)?;
    cluster.import()?;
    let mut node = cluster.start(0)?;
    let url = node.create_instance("vm-1", "disk")?;
    qemu::compare_with(&cluster.disk, &url)?;
    let copy = cluster.folder.path().join("copy.raw");
    fs::copy(&cluster.disk, &copy)?;
    qemu::write_and_read(&url)?;
    qemu::write_and_read(&copy.to_string_lossy())?;
    node.daemon.stop()?;
    let mut node = cluster.start(0)?;
    let url = node.daemon.ready(1, LIMIT)?.remove(0);
    qemu::compare_with(&copy, &url)?;
    let sources = node.sources()?;
    ensure!(
        sources.origin < u64::try_from(IMAGE_BYTES / 10)?,
        "the cache is cold after a restart: {sources}"
    );
    node.daemon.stop()
}

/// A guest has its disk when the origin is gone, the cache is lost and the node was killed.
fn turned_off(bench: &Bench) -> Result<()> {
    let mut cluster = Cluster::new(bench, 1)?;
    cluster.import()?;
    let mut node = cluster.start(0)?;
    let url = node.create_instance("vm-1", "disk")?;
    let copy = cluster.folder.path().join("copy.raw");
    fs::copy(&cluster.disk, &copy)?;
    qemu::write_and_read(&url)?;
    qemu::write_and_read(&copy.to_string_lossy())?;
    println!("{}", node.ask(&["instance", "turn-off", "vm-1"])?.trim());
    qemu::compare_with(&copy, &url)?;
    node.ask(&["image", "release", "disk"])?;
    qemu::compare_with(&cluster.disk, &node.images[0])?;
    node.daemon.kill()?;
    cluster.tgt.kill()?;
    fs::remove_file(cluster.folder.path().join("node-1/cache"))?;
    let mut node = cluster.start(0)?;
    let url = node.daemon.ready(1, LIMIT)?.remove(0);
    qemu::compare_with(&copy, &url)?;
    qemu::compare_with(&cluster.disk, &node.images[0])?;
    node.daemon.stop()
}

/// A node that is killed in the middle of a storm costs the others no error and no wrong byte.
fn killed(bench: &Bench) -> Result<()> {
    let mut cluster = Cluster::new(bench, 3)?;
    cluster.import()?;
    let mut nodes = (0..3)
        .map(|at| cluster.start(at))
        .collect::<Result<Vec<_>>>()?;
    let urls = nodes.iter_mut().enumerate();
    let urls = urls
        .map(|(at, node)| node.create_instance(&format!("vm-{at}"), "disk"))
        .collect::<Result<Vec<_>>>()?;
    let disk: &Path = &cluster.disk;
    let file = disk.to_string_lossy();
    let mut doomed = Command::new("qemu-img");
    doomed.args(["compare", "-f", "raw", "-F", "raw", &file, &urls[0]]);
    let mut doomed = Daemon::start(&mut doomed, cluster.folder.path(), "doomed.log")?;
    let started = Instant::now();
    thread::scope(|scope| {
        let guests = urls[1..]
            .iter()
            .map(|url| scope.spawn(move || qemu::compare_with(disk, url)));
        let guests: Vec<_> = guests.collect();
        nodes[0].fetches(u64::try_from(IMAGE_BYTES / 8)?)?;
        nodes[0].daemon.kill()?;
        let storming = !guests.iter().all(thread::ScopedJoinHandle::is_finished);
        ensure!(storming, "the storm was over before the node was killed");
        guests
            .into_iter()
            .try_for_each(|guest| guest.join().map_err(|_| anyhow!("a guest's thread died"))?)
    })?;
    println!(
        "the survivors' guests were done after {:.1} s",
        started.elapsed().as_secs_f64()
    );
    // Its LUN is gone for good, and it would ask for it as long.
    doomed.kill()?;
    for node in nodes.drain(..).skip(1) {
        println!("survivor: {}", node.sources()?);
        node.daemon.stop()?;
    }
    Ok(())
}
