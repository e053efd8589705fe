//! `cargo xtask lab boot`: Debian boots from two nodes in turn.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use crate::bounded;
use crate::foreign;
use crate::lab::guest::golden_image;
use crate::nodes::{self, Node, Sources};
use crate::packages;
use crate::repo::Repo;
use crate::tally::Tally;

/// An emulated guest on a busy machine.
const BOOT_LIMIT: Duration = Duration::from_secs(400);
/// Hashing an image of some GiB.
const IMPORT_LIMIT: Duration = Duration::from_secs(300);

pub(crate) fn run(repo: &Repo, golden: Option<&Path>) -> Result<Tally> {
    packages::program("qemu-system-x86_64").context("see lab/README.md, Packages")?;
    let image = golden_image(repo, golden)?;
    let mut swarm = Swarm::start(repo, &image)?;
    let mut read_from_origin = Vec::new();
    for at in 0..swarm.nodes.len() {
        let name = format!("vm-{}", at + 1);
        let url = swarm.nodes[at].create_instance(&name, "golden")?;
        let before = swarm.sources()?;
        println!("{name} boots from {url}");
        let drive = format!("file={url},format=raw");
        bounded::show(
            repo.command("lab/vm/boot-vm").args(["-B", &drive]),
            BOOT_LIMIT,
        )?;
        let sources = swarm.sources()?.into_iter().zip(before);
        let came: Vec<Sources> = sources
            .map(|(after, before)| after.since(&before))
            .collect();
        for (number, sources) in came.iter().enumerate() {
            println!("  node-{}: {sources}", number + 1);
        }
        read_from_origin.push(came.iter().map(|sources| sources.origin).sum::<u64>());
    }
    swarm.stop()?;
    let (first, second) = (read_from_origin[0], read_from_origin[1]);
    println!("read from the origin: {first} bytes by the first boot, {second} by the second");
    ensure!(
        second * 20 < first,
        "the second boot read more than a twentieth of it again"
    );
    Ok(Tally {
        passed: 2,
        failed: 0,
    })
}

/// An origin and two nodes.
struct Swarm {
    nodes: Vec<Node>,
    origin: Node,
    _folder: TempDir,
}

impl Swarm {
    fn start(repo: &Repo, image: &Path) -> Result<Self> {
        let vmthunder = foreign::build(repo)?;
        let folder = tempfile::Builder::new()
            .prefix("vmthunder-boot.")
            .tempdir()?;
        let manifest = folder.path().join("golden.manifest");
        let mut import = repo.command(&vmthunder);
        import
            .args(["image", "import"])
            .arg(image)
            .arg("--manifest")
            .arg(&manifest);
        bounded::succeed(&mut import, IMPORT_LIMIT)?;

        let start = |name: &str, listen: &str, image: &str, members: &[(&str, &str)]| {
            let config = nodes::config(name, folder.path(), listen, image, members)?;
            Node::start(&vmthunder, folder.path(), name, &config, 1)
        };
        let (image, manifest) = (image.display(), manifest.display());
        let here = format!(
            "[[image]]\nname = \"golden\"\nfile = \"{image}\"\nmanifest = \"{manifest}\"\n"
        );
        let origin = start("origin", "127.0.0.1:0", &here, &[])?;
        let there = format!(
            "[[image]]\nname = \"golden\"\norigin = \"{}\"\n",
            origin.images[0]
        );
        let addresses = nodes::free_addresses(2)?;
        let members = [
            ("node-1", addresses[0].as_str()),
            ("node-2", addresses[1].as_str()),
        ];
        let nodes: Result<Vec<Node>> = members
            .iter()
            .map(|(name, listen)| start(name, listen, &there, &members))
            .collect();
        Ok(Self {
            nodes: nodes?,
            origin,
            _folder: folder,
        })
    }

    fn sources(&self) -> Result<Vec<Sources>> {
        self.nodes.iter().map(Node::sources).collect()
    }

    fn stop(self) -> Result<()> {
        for node in self.nodes {
            node.daemon.stop()?;
        }
        self.origin.daemon.stop()
    }
}
