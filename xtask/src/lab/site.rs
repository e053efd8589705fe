//! An origin, a node and, if wanted, its peer, which can be ended and started again where they were.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::bounded;
use crate::daemon::Daemon;
use crate::nodes::{self, Node, Sources};
use crate::repo::Repo;

/// How long a daemon may take to start.
const LIMIT: Duration = Duration::from_secs(60);
/// Compiling.
const BUILD_LIMIT: Duration = Duration::from_secs(1800);
/// Writing an image of some GiB, or hashing it.
const IMAGE_LIMIT: Duration = Duration::from_secs(300);
const IQN: &str = "iqn.2026-11.test.vmthunder:far";
/// What the image is called, as instances know it.
pub(crate) const IMAGE: &str = "far";

/// How a node ends.
#[derive(Clone, Copy)]
pub(crate) enum Ending {
    /// SIGKILL.
    Killed,
    /// SIGTERM.
    Asked,
}

/// `disk_work` of xtask's examples: it makes images, and guests use it.
pub(crate) struct DiskWork {
    pub(crate) program: PathBuf,
}

impl DiskWork {
    /// Builds it, with its libraries in it: a guest has others.
    pub(crate) fn build(repo: &Repo) -> Result<Self> {
        let mut build = repo.cargo(["rustc", "--quiet", "--package", "xtask"]);
        build.args(["--example", "disk_work", "--"]);
        build.args(["-C", "target-feature=+crt-static", "-C", "opt-level=2"]);
        bounded::show(&mut build, BUILD_LIMIT)?;
        let metadata = repo.metadata()?;
        let target = metadata["target_directory"].as_str().unwrap_or_default();
        let program = Path::new(target).join("debug/examples/disk_work");
        Ok(Self { program })
    }

    /// Makes an image of so many bytes; no two of its blocks are alike.
    fn image(&self, file: &Path, bytes: u64, seed: u64) -> Result<()> {
        let mut make = Command::new(&self.program);
        make.arg("image").arg(file);
        make.args([bytes.to_string(), seed.to_string()]);
        bounded::succeed(&mut make, IMAGE_LIMIT).map(drop)
    }
}

/// Where a guest's disk comes from.
pub(crate) struct Site {
    vmthunder: PathBuf,
    origin: Option<Daemon>,
    origin_at: String,
    /// The configurations of the node and its peer.
    configs: [String; 2],
    node: Option<Node>,
    /// Its instances: they are announced when it starts.
    instances: usize,
    pub(crate) peer: Option<Node>,
    pub(crate) folder: TempDir,
}

impl Site {
    /// Serves an image of so many bytes, which is made of the seed; the cache is cold.
    pub(crate) fn start(
        vmthunder: &Path,
        work: &DiskWork,
        bytes: u64,
        seed: u64,
        with_peer: bool,
    ) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("vmthunder-site.")
            .tempdir()?;
        let image = folder.path().join("image.raw");
        work.image(&image, bytes, seed)?;
        let manifest = folder.path().join("image.manifest");
        let mut import = Command::new(vmthunder);
        import.args(["image", "import"]).arg(&image);
        bounded::succeed(import.arg("--manifest").arg(&manifest), IMAGE_LIMIT)?;
        let at = nodes::free_addresses(3)?;
        let described = format!(
            "[[image]]\nname = \"{IMAGE}\"\norigin = \"iscsi://{}/{IQN}/0\"\nmanifest = \"{}\"\n",
            at[0],
            manifest.display()
        );
        let both = [("node", at[1].as_str()), ("peer", at[2].as_str())];
        let members: &[(&str, &str)] = if with_peer { &both } else { &[] };
        let config =
            |(name, at): (&str, &str)| nodes::config(name, folder.path(), at, &described, members);
        let mut site = Self {
            vmthunder: vmthunder.to_owned(),
            origin: None,
            origin_at: at[0].clone(),
            configs: [config(both[0])?, config(both[1])?],
            node: None,
            instances: 0,
            peer: None,
            folder,
        };
        site.start_origin()?;
        site.start_node()?;
        if with_peer {
            site.peer = Some(site.launch("peer", &site.configs[1], 1)?);
        }
        Ok(site)
    }

    /// What the image holds.
    pub(crate) fn image(&self) -> PathBuf {
        self.folder.path().join("image.raw")
    }

    pub(crate) fn start_origin(&mut self) -> Result<()> {
        let mut command = Command::new(&self.vmthunder);
        command.arg("target");
        command.arg(self.image());
        command.args(["--iqn", IQN, "--listen", &self.origin_at, "--control"]);
        command.arg(self.origin_control());
        let mut origin = Daemon::start(&mut command, self.folder.path(), "origin.log")?;
        origin.ready(1, LIMIT)?;
        self.origin = Some(origin);
        Ok(())
    }

    /// The bytes that the origin has sent since it started.
    pub(crate) fn origin_sent(&self) -> Result<u64> {
        let mut command = Command::new(&self.vmthunder);
        command.args(["status", "--json", "--control"]);
        command.arg(self.origin_control());
        let said = bounded::succeed(&mut command, LIMIT)?.text();
        let status: Value = serde_json::from_str(&said)?;
        let sent = status["sent_bytes"].as_u64();
        sent.with_context(|| format!("the origin says {said}"))
    }

    fn origin_control(&self) -> PathBuf {
        self.folder.path().join("origin.control")
    }

    pub(crate) fn kill_origin(&mut self) -> Result<()> {
        self.origin
            .take()
            .map_or(Ok(()), |mut origin| origin.kill())
    }

    /// The node, while it runs.
    pub(crate) fn node(&mut self) -> Result<&mut Node> {
        self.node.as_mut().context("the node does not run")
    }

    /// Creates an instance; its URL.
    pub(crate) fn create_instance(&mut self, name: &str) -> Result<String> {
        self.instances += 1;
        self.node()?.create_instance(name, IMAGE)
    }

    /// Creates so many, named NAME-1 and so on; their URLs, and how long the command took.
    pub(crate) fn create_instances(
        &mut self,
        name: &str,
        count: usize,
    ) -> Result<(Vec<String>, Duration)> {
        self.instances += count;
        let began = Instant::now();
        let all = count.to_string();
        let create = [
            "instance", "create", name, "--image", IMAGE, "--count", &all,
        ];
        let said = self.node()?.ask(&create)?;
        let took = began.elapsed();
        let announced = self.node()?.daemon.ready(count, LIMIT)?;
        let said: Vec<String> = said.lines().map(str::to_owned).collect();
        ensure!(
            said == announced,
            "the command and the node say different things"
        );
        Ok((said, took))
    }

    /// Where the bytes of the image came from since the node started.
    pub(crate) fn sources(&mut self) -> Result<Sources> {
        self.node()?.sources()
    }

    pub(crate) fn end_node(&mut self, ending: Ending) -> Result<()> {
        let Some(mut node) = self.node.take() else {
            return Ok(());
        };
        match ending {
            Ending::Killed => node.daemon.kill(),
            Ending::Asked => node.daemon.stop(),
        }
    }

    /// Starts it again, and waits until it serves its image and its instances.
    pub(crate) fn start_node(&mut self) -> Result<()> {
        let ready = 1 + self.instances;
        self.node = Some(self.launch("node", &self.configs[0], ready)?);
        Ok(())
    }

    /// Starts it, and kills it so long later, wherever it is by then.
    pub(crate) fn start_and_kill(&self, later: Duration) -> Result<()> {
        let mut command = Command::new(&self.vmthunder);
        command.arg("serve").arg("--config");
        command.arg(self.folder.path().join("node.toml"));
        let mut daemon = Daemon::start(&mut command, self.folder.path(), "node.log")?;
        std::thread::sleep(later);
        daemon.kill()
    }

    /// SIGSTOP, and after so long SIGCONT.
    pub(crate) fn pause(&self, length: Duration) -> Result<()> {
        let node = self.node.as_ref().context("a node")?;
        let pid = Pid::from_raw(i32::try_from(node.daemon.pid())?).context("a process id")?;
        kill_process(pid, Signal::STOP)?;
        std::thread::sleep(length);
        Ok(kill_process(pid, Signal::CONT)?)
    }

    /// Ends all as an operator would.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.end_node(Ending::Asked)?;
        self.peer.take().map_or(Ok(()), |peer| peer.daemon.stop())?;
        self.origin.take().map_or(Ok(()), Daemon::stop)
    }

    /// The end of the node's log.
    pub(crate) fn last_lines(&self) -> String {
        let node = self.node.as_ref();
        node.map(|node| node.daemon.last_lines())
            .unwrap_or_default()
    }

    fn launch(&self, name: &str, config: &str, ready: usize) -> Result<Node> {
        Node::start(&self.vmthunder, self.folder.path(), name, config, ready)
    }
}
