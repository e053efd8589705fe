//! Nodes of a swarm as separate processes: `vmthunder serve`, and the commands that talk to it.

use std::fs;
use std::io::Read as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::bounded;
use crate::daemon::Daemon;
use crate::secret::private_file;

/// How long a command may take that asks a node.
const LIMIT: Duration = Duration::from_secs(60);

/// A running node.
pub(crate) struct Node {
    pub(crate) daemon: Daemon,
    /// Its images' URLs, in the order of the configuration.
    pub(crate) images: Vec<String>,
    vmthunder: PathBuf,
    config: PathBuf,
}

impl Node {
    /// Starts `vmthunder serve` with this configuration, which has `images` images, and waits until it serves them.
    pub(crate) fn start(
        vmthunder: &Path,
        folder: &Path,
        name: &str,
        config: &str,
        images: usize,
    ) -> Result<Self> {
        let path = folder.join(format!("{name}.toml"));
        fs::write(&path, config)?;
        let mut command = Command::new(vmthunder);
        command.arg("serve").arg("--config").arg(&path);
        let mut daemon = Daemon::start(&mut command, folder, &format!("{name}.log"))?;
        let images = daemon.ready(images, LIMIT)?;
        Ok(Self {
            daemon,
            images,
            vmthunder: vmthunder.to_owned(),
            config: path,
        })
    }

    /// Creates an instance and gives its URL, which the node also announces.
    pub(crate) fn create_instance(&mut self, name: &str, image: &str) -> Result<String> {
        self.ask(&["instance", "create", name, "--image", image])?;
        let announced = self.daemon.ready(1, LIMIT)?.remove(0);
        let status = self.status()?;
        let instances = status["instances"]
            .as_array()
            .context("status lists instances")?;
        let found = instances.iter().find(|instance| instance["name"] == name);
        let urls = found
            .map(|instance| &instance["urls"])
            .with_context(|| format!("{name} is not in {status}"))?;
        ensure!(
            *urls == json!([announced]),
            "announced {announced}, but status says {urls}"
        );
        Ok(announced)
    }

    /// What `vmthunder status --json` prints.
    pub(crate) fn status(&self) -> Result<Value> {
        Ok(serde_json::from_str(&self.ask(&["status", "--json"])?)?)
    }

    /// Bytes of its first image that came from the cache, from peers and from the origin.
    pub(crate) fn sources(&self) -> Result<Sources> {
        let status = self.status()?;
        let figure = |name: &str| {
            status["images"][0][name]
                .as_u64()
                .with_context(|| format!("{name}: {status}"))
        };
        Ok(Sources {
            cache: figure("from_cache")?,
            peers: figure("from_peers")?,
            origin: figure("from_origin")?,
        })
    }

    /// Waits until it has fetched so many bytes of its first image.
    pub(crate) fn fetches(&self, bytes: u64) -> Result<()> {
        let deadline = Instant::now() + LIMIT;
        while self.sources()?.fetched() < bytes {
            ensure!(Instant::now() < deadline, "the storm does not begin");
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// What a command prints that asks the node.
    pub(crate) fn ask(&self, args: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.vmthunder);
        Ok(bounded::succeed(command.args(args).arg("--config").arg(&self.config), LIMIT)?.text())
    }
}

/// Where the bytes of an image came from.
#[derive(Clone, Copy)]
pub(crate) struct Sources {
    pub(crate) cache: u64,
    pub(crate) peers: u64,
    pub(crate) origin: u64,
}

impl Sources {
    /// What came over the network.
    pub(crate) fn fetched(&self) -> u64 {
        self.peers + self.origin
    }

    /// What came since an earlier look.
    pub(crate) fn since(self, before: &Self) -> Self {
        Self {
            cache: self.cache.saturating_sub(before.cache),
            peers: self.peers.saturating_sub(before.peers),
            origin: self.origin.saturating_sub(before.origin),
        }
    }
}

impl std::fmt::Display for Sources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            cache,
            peers,
            origin,
        } = self;
        write!(
            f,
            "{cache} bytes from the cache, {peers} from peers, {origin} from the origin"
        )
    }
}

/// Addresses on the loopback that are free now: nodes need to know each other's before they start.
pub(crate) fn free_addresses(count: usize) -> Result<Vec<String>> {
    let listeners: Result<Vec<_>, _> = (0..count)
        .map(|_| TcpListener::bind("127.0.0.1:0"))
        .collect();
    listeners?
        .iter()
        .map(|listener| Ok(listener.local_addr()?.to_string()))
        .collect()
}

/// The configuration of a node with one image that has its origin elsewhere; makes the swarm's key when it is missing.
pub(crate) fn config(
    name: &str,
    folder: &Path,
    listen: &str,
    image: &str,
    members: &[(&str, &str)],
) -> Result<String> {
    let mut text = format!(
        "name = \"{name}\"\ndata = \"{}\"\nlisten = [\"{listen}\"]\n\n[cache]\nsize = \"1 GiB\"\n\n{image}",
        folder.join(name).display()
    );
    if !members.is_empty() {
        let path = swarm_key_file(folder)?;
        text += &format!("\n[swarm]\nkey-file = \"{}\"\n", path.display());
    }
    for (member, address) in members {
        text += &format!("\n[[swarm.members]]\nname = \"{member}\"\naddress = \"{address}\"\n");
    }
    Ok(text)
}

/// The file of the swarm's key; made when it is missing.
pub(crate) fn swarm_key_file(folder: &Path) -> Result<PathBuf> {
    let path = folder.join("swarm.key");
    if !path.exists() {
        private_file(&path, &swarm_key()?)?;
    }
    Ok(path)
}

/// A key as `vmthunder swarm key` makes it.
fn swarm_key() -> Result<String> {
    let mut random = [0; 32];
    fs::File::open("/dev/urandom")?.read_exact(&mut random)?;
    let digits: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("1 {digits}\n"))
}
