//! Nodes: an image that comes from a target of its own, its LUN, and instances.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{Room, disk};
use crate::bounded;
use crate::daemon::Daemon;
use crate::nodes::{self, Node, Sources};

/// How long the origin may take to serve, a command to answer, and a disk to be copied.
const LIMIT: Duration = Duration::from_secs(120);
const IQN: &str = "iqn.2026-11.org.vmthunder:origin";
/// How often an image is read at most until all of it is in the cache.
const READS: u32 = 50;
const NAME: &str = "disk";
const CONTROL: &str = "origin.sock";

/// An image, and the origin that it comes from.
pub(super) struct Image {
    vmthunder: PathBuf,
    folder: PathBuf,
    /// `vmthunder target`, which tells how much it sent.
    origin: Daemon,
    origin_url: String,
}

/// A node that serves a LUN for one turn.
pub(super) struct Instance<'a> {
    image: &'a Image,
    node: Node,
    pub(super) url: String,
    /// Whether the node is to know nothing at the next turn.
    is_forgotten: bool,
    sent_before: u64,
    sources_before: Sources,
}

impl Image {
    /// An image of which a node holds nothing.
    pub(super) fn far(room: &Room, folder: &Path, file: &Path) -> Result<Self> {
        let mut command = Command::new(&room.vmthunder);
        command.arg("target").arg(file).arg("--read-only");
        command.args(["--listen", "127.0.0.1:0", "--iqn", IQN]);
        command.arg("--control").arg(folder.join(CONTROL));
        let mut origin = Daemon::start(&mut command, folder, "origin.log")?;
        Ok(Self {
            vmthunder: room.vmthunder.clone(),
            folder: folder.to_owned(),
            origin_url: origin.ready(1, LIMIT)?.remove(0),
            origin,
        })
    }

    /// What the origin has sent since it began.
    fn sent(&self) -> Result<u64> {
        let mut command = Command::new(&self.vmthunder);
        command.args(["status", "--json", "--control"]);
        let said = bounded::succeed(command.arg(self.folder.join(CONTROL)), LIMIT)?;
        let status: Value = serde_json::from_slice(&said.stdout)?;
        status["sent_bytes"]
            .as_u64()
            .with_context(|| format!("sent_bytes: {status}"))
    }

    /// An image that a node holds in its cache.
    pub(super) fn cached(room: &Room, folder: &Path, file: &Path) -> Result<Self> {
        let image = Self::far(room, folder, file)?;
        let node = image.node()?;
        let copied = folder.join("copied.raw");
        // What is read faster than it can be written to the cache is not kept, and is read again.
        for _ in 0..READS {
            let before = node.sources()?;
            let mut command = Command::new(&room.vmthunder);
            command.args(["iscsi", "copy", "--force", &node.images[0]]);
            bounded::succeed(command.arg(&copied), LIMIT)?;
            if node.sources()?.since(&before).fetched() == 0 {
                break;
            }
        }
        disk::compare(file, &copied)?;
        fs::remove_file(copied)?;
        // What waits to be written to the cache is written before a good end.
        node.daemon.stop()?;
        Ok(image)
    }

    fn node(&self) -> Result<Node> {
        let listen = nodes::free_addresses(1)?.remove(0);
        let image = format!(
            "[[image]]\nname = \"{NAME}\"\norigin = \"{}\"\n",
            self.origin_url
        );
        let config = nodes::config("node", &self.folder, &listen, &image, &[])?;
        Node::start(&self.vmthunder, &self.folder, "node", &config, 1)
    }

    /// Starts the node: the LUN of the image that it holds, or of a new instance.
    pub(super) fn open(&self, is_cached: bool) -> Result<Instance<'_>> {
        let mut node = self.node()?;
        let url = match is_cached {
            true => node.images[0].clone(),
            false => node.create_instance("bench", NAME)?,
        };
        Ok(Instance {
            image: self,
            url,
            is_forgotten: !is_cached,
            sent_before: self.sent()?,
            sources_before: node.sources()?,
            node,
        })
    }

    /// Ends the origin, which must not have ended by itself.
    pub(super) fn close(self) -> Result<()> {
        self.origin.stop()
    }
}

impl Instance<'_> {
    pub(super) fn pid(&self) -> u32 {
        self.node.daemon.pid()
    }

    /// Fails if anything was fetched: a cached image is read from the cache alone, and an instance's blocks are its own.
    pub(super) fn after_load(&self) -> Result<()> {
        let fetched = self.node.sources()?.since(&self.sources_before).fetched();
        let sent = self.image.sent()?.saturating_sub(self.sent_before);
        ensure!(
            fetched == 0 && sent == 0,
            "the node fetched {fetched} bytes of the image, and the origin sent {sent}"
        );
        Ok(())
    }

    pub(super) fn close(self) -> Result<()> {
        self.node.daemon.stop()?;
        if self.is_forgotten {
            let folder = self.image.folder.join("node");
            fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
        }
        Ok(())
    }
}
