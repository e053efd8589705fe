//! Two nodes whose origin is tgt, and QEMU as the guest of their instances.

use std::fs;

use anyhow::{Result, ensure};

use crate::bounded;
use crate::foreign::bench::{Bench, DISK_BYTES, LIMIT, write_disk};
use crate::foreign::tgt::Tgt;
use crate::foreign::{Check, qemu};
use crate::nodes::{self, Node};

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
];

/// A node that cannot verify takes everything from the origin, once.
fn without_manifest(bench: &Bench) -> Result<()> {
    let folder = bench.folder()?;
    let disk = folder.path().join("disk.raw");
    write_disk(&disk)?;
    let tgt = Tgt::start(folder.path(), &disk)?;
    let image = format!("[[image]]\nname = \"disk\"\norigin = \"{}\"\n", tgt.url);
    let config = nodes::config("node-1", folder.path(), "127.0.0.1:0", &image, &[]);
    let mut node = Node::start(&bench.vmthunder, folder.path(), "node-1", &config, 1)?;
    qemu::compare_with(&disk, &node.images[0])?;
    let first = node.sources()?;
    let url = node.create_instance("vm-1", "disk")?;
    qemu::compare_with(&disk, &url)?;
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
    let folder = bench.folder()?;
    let disk = folder.path().join("disk.raw");
    write_disk(&disk)?;
    let content = fs::read(&disk)?;
    let tgt = Tgt::start(folder.path(), &disk)?;
    let manifest = folder.path().join("disk.manifest");
    let mut import = bench.vmthunder();
    bounded::succeed(
        import
            .args(["image", "import", &tgt.url, "--manifest"])
            .arg(&manifest),
        LIMIT,
    )?;
    let image = format!(
        "[[image]]\nname = \"disk\"\norigin = \"{}\"\nmanifest = \"{}\"\n",
        tgt.url,
        manifest.display()
    );
    let addresses = nodes::free_addresses(2)?;
    let members = [
        ("node-1", addresses[0].as_str()),
        ("node-2", addresses[1].as_str()),
    ];
    let start = |(name, listen): (&str, &str)| {
        let config = nodes::config(name, folder.path(), listen, &image, &members);
        Node::start(&bench.vmthunder, folder.path(), name, &config, 1)
    };
    let (mut one, mut two) = (start(members[0])?, start(members[1])?);
    let (vm_1, vm_2) = (
        one.create_instance("vm-1", "disk")?,
        two.create_instance("vm-2", "disk")?,
    );
    qemu::compare_with(&disk, &vm_1)?;
    qemu::compare_with(&disk, &vm_2)?;
    let (first, second) = (one.sources()?, two.sources()?);
    println!("node-1: {first}\nnode-2: {second}");
    let once = u64::try_from(DISK_BYTES)?;
    ensure!(
        first.origin + second.origin <= once,
        "the origin sent more than the image"
    );
    ensure!(first.peers + second.peers > 0, "nothing came from a peer");
    qemu::write_and_read(&vm_1)?;
    qemu::compare_with(&disk, &vm_2)?;
    qemu::compare_with(&disk, &one.images[0])?;
    ensure!(
        fs::read(&disk)? == content,
        "a guest's write reached the origin"
    );
    one.daemon.stop()?;
    two.daemon.stop()
}
