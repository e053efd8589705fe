//! The origin, the nodes and their guests: daemons and programs of their own on hosts of their own.

use std::fs::{self, File};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::boot::Boot;
use super::net::Net;
use crate::bounded;
use crate::daemon::Daemon;
use crate::script::Script;
use crate::secret::private_file;

/// How long a daemon may take to start, or a command to answer, while some hundred others do the same.
const LIMIT: Duration = Duration::from_secs(120);
/// How long nodes may take to know each other.
const ACQUAINTED: Duration = Duration::from_secs(180);
/// How often they are asked whether they do.
const LOOK: Duration = Duration::from_secs(1);
/// Nodes that the others begin with, and the last one, which may be there before them.
const SEEDS: u32 = 3;
const PORT: u16 = 3260;
const IMAGE: &str = "storm";
const INSTANCE: &str = "guest";

/// Whom nodes read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// From each other.
    Swarm,
    /// From the origin alone.
    Star,
}

/// What all clusters have in common.
pub(super) struct Stage<'a> {
    pub(super) vmthunder: &'a Path,
    pub(super) boot: &'a Boot,
    pub(super) image: PathBuf,
    pub(super) manifest: PathBuf,
    pub(super) nodes: u32,
    /// Scales the guests' own time.
    pub(super) pace: f64,
}

/// An origin and its nodes.
pub(super) struct Cluster<'a> {
    stage: &'a Stage<'a>,
    folder: PathBuf,
    origin: Option<Daemon>,
    /// What the configurations of all nodes end with.
    common: String,
    nodes: Vec<Node>,
}

struct Node {
    host: u32,
    config: PathBuf,
    /// Nothing once it was killed.
    daemon: Option<Daemon>,
    instance: String,
}

impl<'a> Cluster<'a> {
    /// An origin that serves the image, and no node yet.
    pub(super) fn new(stage: &'a Stage<'a>, folder: PathBuf, shape: Shape) -> Result<Self> {
        fs::create_dir(&folder)?;
        let mut cluster = Self {
            stage,
            folder,
            origin: None,
            common: String::new(),
            nodes: Vec::new(),
        };
        let text = format!(
            "[[image]]\nname = \"{IMAGE}\"\nfile = {:?}\nmanifest = {:?}\n",
            stage.image, stage.manifest
        );
        cluster.configure("origin", 0, &text)?;
        let url = cluster.start_origin()?;
        let working_set = stage.boot.working_set();
        cluster.common = format!(
            "[cache]\nsize = \"{} B\"\n[[image]]\nname = \"{IMAGE}\"\norigin = \"{url}\"\n",
            working_set + working_set / 2 + (16 << 20)
        );
        if shape == Shape::Swarm {
            cluster.common += &cluster.swarm()?;
        }
        Ok(cluster)
    }

    /// Starts nodes, all at once; answers when each serves its image and an instance of it, with a cold cache.
    pub(super) fn start(&mut self, hosts: Range<u32>) -> Result<()> {
        let from = self.nodes.len();
        for host in hosts {
            let config = self.configure(&name(host), host, &self.common)?;
            let daemon = self.launch(&name(host), host, &config)?;
            self.nodes.push(Node {
                host,
                config,
                daemon: Some(daemon),
                instance: String::new(),
            });
        }
        let started = self.nodes.iter_mut().skip(from);
        for daemon in started.filter_map(|node| node.daemon.as_mut()) {
            daemon.ready(1, LIMIT)?;
        }
        for node in self.nodes.iter_mut().skip(from) {
            let create = ["instance", "create", INSTANCE, "--image", IMAGE];
            ask(self.stage.vmthunder, &node.config, &create)?;
            let daemon = node.daemon.as_mut().context("it was started")?;
            node.instance = daemon.ready(1, LIMIT)?.remove(0);
        }
        Ok(())
    }

    /// The part of a configuration that says who else is there.
    fn swarm(&self) -> Result<String> {
        let key = self.folder.join("swarm.key");
        let mut make = Command::new(self.stage.vmthunder);
        let made = bounded::succeed(make.args(["swarm", "key"]), LIMIT)?.text();
        private_file(&key, &made)?;
        let last = self.stage.nodes;
        let seeds = (1..=SEEDS.min(last - 1)).chain([last]).map(portal);
        let seeds: Vec<String> = seeds.collect();
        Ok(format!("[swarm]\nkey-file = {key:?}\nseeds = {seeds:?}\n"))
    }

    fn configure(&self, name: &str, host: u32, rest: &str) -> Result<PathBuf> {
        let path = self.folder.join(format!("{name}.toml"));
        let data = self.folder.join(name);
        let listen = portal(host);
        let text = format!("name = \"{name}\"\ndata = {data:?}\nlisten = [\"{listen}\"]\n{rest}");
        fs::write(&path, text)?;
        Ok(path)
    }

    fn launch(&self, name: &str, host: u32, config: &Path) -> Result<Daemon> {
        let mut serve = Net::command(host, self.stage.vmthunder);
        serve.args(["serve", "--config"]).arg(config);
        Daemon::start(&mut serve, &self.folder, &format!("{name}.log"))
    }

    /// Starts the origin; the URL of its image.
    pub(super) fn start_origin(&mut self) -> Result<String> {
        let config = self.folder.join("origin.toml");
        let mut origin = self.launch("origin", 0, &config)?;
        let url = origin.ready(1, LIMIT)?.remove(0);
        self.origin = Some(origin);
        Ok(url)
    }

    pub(super) fn kill_origin(&mut self) -> Result<()> {
        self.origin
            .take()
            .map_or(Ok(()), |mut origin| origin.kill())
    }

    pub(super) fn kill(&mut self, host: u32) -> Result<()> {
        let node = self.node_mut(host)?;
        node.daemon
            .take()
            .map_or(Ok(()), |mut daemon| daemon.kill())
    }

    /// Where a node keeps what it has fetched.
    pub(super) fn cache(&self, host: u32) -> PathBuf {
        self.folder.join(name(host)).join("cache")
    }

    /// Waits until every node knows all others and opens no more sessions. How long that took, and how many there are.
    pub(super) fn settle(&self) -> Result<(f64, u64)> {
        let began = Instant::now();
        let mut before = None;
        loop {
            let seen: Result<Vec<(usize, u64)>> =
                self.nodes.iter().map(|node| self.seen_by(node)).collect();
            let seen = seen?;
            let all = self.nodes.len() - 1;
            let strangers = seen.iter().map(|(known, _)| all - (*known).min(all)).sum();
            let sessions: u64 = seen.iter().map(|(_, sessions)| sessions).sum();
            if before == Some((0, sessions)) && strangers == 0 {
                return Ok((began.elapsed().as_secs_f64(), sessions));
            }
            ensure!(
                began.elapsed() < ACQUAINTED,
                "after {} s the nodes do not know each other: {strangers} strangers, {sessions} sessions",
                ACQUAINTED.as_secs()
            );
            before = Some((strangers, sessions));
            thread::sleep(LOOK);
        }
    }

    /// How many others a node knows to be alive, and how many of them are logged in to it.
    fn seen_by(&self, node: &Node) -> Result<(usize, u64)> {
        let status = self.status(node)?;
        let members = status["swarm"]["members"].as_array();
        let alive = members
            .into_iter()
            .flatten()
            .filter(|member| member["state"] == "alive");
        Ok((alive.count(), status["sessions"].as_u64().unwrap_or(0)))
    }

    fn status(&self, node: &Node) -> Result<Value> {
        let said = ask(self.stage.vmthunder, &node.config, &["status", "--json"])?;
        Ok(serde_json::from_str(&said)?)
    }

    /// What a node says about itself; nothing if it was killed.
    pub(super) fn said_by(&self, host: u32) -> Result<Value> {
        let node = self.node(host)?;
        match node.daemon {
            Some(_) => self.status(node),
            None => Ok(Value::Null),
        }
    }

    /// A guest on the host of a node, which is about to log in to the node's instance there: no link lies between them.
    pub(super) fn guest(&self, host: u32, pace: f64) -> Result<Guest> {
        let stage = self.stage;
        let url = &self.node(host)?.instance;
        let mut replay = Net::command(host, stage.vmthunder);
        replay.args(["iscsi", "replay", url, "--json", "--wait"]);
        replay.args(["--destructive", "--yes", "--trace"]);
        replay.arg(&stage.boot.file).arg("--image");
        replay.arg(&stage.image).args(["--pace", &pace.to_string()]);
        let log = self.folder.join(format!("guest-{host}.log"));
        replay.stderr(File::create(&log)?);
        let script = Script::spawn(&mut replay)?;
        let said = script.line(LIMIT)?;
        ensure!(said == "ready", "{}: it said {said}", log.display());
        Ok(Guest { script, log })
    }

    /// Ends all that live as an operator would, all at once.
    pub(super) fn stop(self) -> Result<()> {
        let daemons = self.nodes.into_iter().filter_map(|node| node.daemon);
        let daemons: Vec<Daemon> = daemons.chain(self.origin).collect();
        let ended: Vec<Result<()>> = thread::scope(|scope| {
            let ending: Vec<_> = daemons
                .into_iter()
                .map(|daemon| scope.spawn(|| daemon.stop()))
                .collect();
            let ended = ending.into_iter().map(|ending| {
                let ended = ending.join();
                ended.unwrap_or_else(|_| Err(anyhow!("ending a daemon panicked")))
            });
            ended.collect()
        });
        // The next cluster's caches need the room.
        fs::remove_dir_all(&self.folder)?;
        ended.into_iter().collect()
    }

    fn node(&self, host: u32) -> Result<&Node> {
        let node = self.nodes.iter().find(|node| node.host == host);
        node.with_context(|| format!("there is no host {host}"))
    }

    fn node_mut(&mut self, host: u32) -> Result<&mut Node> {
        let node = self.nodes.iter_mut().find(|node| node.host == host);
        node.with_context(|| format!("there is no host {host}"))
    }
}

/// A guest that is ready to boot.
pub(super) struct Guest {
    script: Script,
    log: PathBuf,
}

impl Guest {
    /// Boots; what it has to say at the end.
    pub(super) fn boot(&mut self, limit: Duration) -> Result<Value> {
        let told = self.script.ask("boot", limit);
        let told = told.with_context(|| fs::read_to_string(&self.log).unwrap_or_default())?;
        ensure!(told["error"].is_null(), "{}", told["error"]);
        Ok(told)
    }

    /// Its process, which nobody waits for before this value goes: the number stays its own.
    pub(super) fn pid(&self) -> u32 {
        self.script.pid()
    }
}

/// Ends a guest as its host does when it loses power.
pub(super) fn kill_guest(pid: u32) -> Result<()> {
    let pid = Pid::from_raw(i32::try_from(pid)?).context("a process id")?;
    // It may have ended since.
    let _gone = kill_process(pid, Signal::KILL);
    Ok(())
}

fn ask(vmthunder: &Path, config: &Path, args: &[&str]) -> Result<String> {
    let mut command = Command::new(vmthunder);
    command.args(args).arg("--config").arg(config);
    Ok(bounded::succeed(&mut command, LIMIT)?.text())
}

fn name(host: u32) -> String {
    format!("node-{host}")
}

fn portal(host: u32) -> String {
    format!("{}:{PORT}", Net::address(host))
}
