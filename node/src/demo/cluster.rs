//! The origin and the nodes of the demo: processes of this program, each with a configuration, a data folder and a
//! loopback address of its own.

use std::fmt::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::ChildStdout;

use crate::config::Config;
use crate::control::{Request, ask};
use crate::demo::{Stage, node_name};
use crate::instances::{Creation, InstanceRequest};
use crate::status::{InstanceStatus, Status};
use crate::{members, names};

/// The image's name in the demo.
const IMAGE: &str = "demo";

/// How long a process may take to be ready, or to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// Room in a cache beside the working set.
const CACHE_MARGIN: u64 = 64 * 1024 * 1024;

/// Who the nodes read from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shape {
    /// From each other, and from the origin what nobody has.
    Swarm,
    /// From the origin alone.
    Star,
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Swarm => "swarm",
            Self::Star => "star",
        })
    }
}

/// An origin and its nodes, all running.
pub(crate) struct Cluster {
    origin: Daemon,
    nodes: Vec<Daemon>,
}

impl Cluster {
    /// Starts the origin, then all nodes at once, and waits until they serve.
    pub(super) async fn start(
        folder: &Path,
        shape: Shape,
        stage: &Stage,
        working_set: u64,
    ) -> Result<Self> {
        std::fs::create_dir(folder)?;
        let mut subnet = [0; 2];
        getrandom::fill(&mut subnet)
            .map_err(|error| anyhow::anyhow!("no random numbers: {error}"))?;
        let address = |host: u8| free_address(Ipv4Addr::new(127, subnet[0] | 1, subnet[1], host));

        let at = address(1)?;
        let paths = format!(
            "file = {:?}\nmanifest = {:?}\n",
            stage.image_path, stage.manifest
        );
        let text = format!("{}[[image]]\nname = {IMAGE:?}\n{paths}", head("origin", at));
        let mut origin = Daemon::spawn(folder, "origin", at, &text)?;
        origin.ready().await?;

        let url = origin.image_url();
        let mut members = Vec::new();
        for index in 0..stage.nodes {
            members.push((
                node_name(usize::try_from(index)?),
                address(u8::try_from(index + 2)?)?,
            ));
        }
        let list = match shape {
            Shape::Swarm => swarm_of(folder, &members)?,
            Shape::Star => String::new(),
        };
        let cache = format!(
            "[cache]\nsize = \"{} B\"\n",
            working_set + working_set / 4 + CACHE_MARGIN
        );
        let image = format!("[[image]]\nname = {IMAGE:?}\norigin = {url:?}\n");
        let mut nodes = Vec::new();
        for (name, at) in &members {
            let text = format!("{}{cache}{image}{list}", head(name, *at));
            nodes.push(Daemon::spawn(folder, name, *at, &text)?);
        }
        for node in &mut nodes {
            node.ready().await?;
        }
        Ok(Self { origin, nodes })
    }

    /// The origin.
    pub(crate) fn origin(&self) -> &Daemon {
        &self.origin
    }

    /// The nodes.
    pub(crate) fn nodes(&self) -> &[Daemon] {
        &self.nodes
    }

    /// Ends all processes; an error if one of them had died or ends badly.
    pub(crate) async fn stop(self) -> Result<()> {
        for node in self.nodes {
            node.stop().await?;
        }
        self.origin.stop().await
    }
}

fn head(name: &str, at: SocketAddr) -> String {
    format!("name = {name:?}\ndata = {name:?}\nlisten = [\"{at}\"]\n")
}

/// The section of a swarm, and the file of its key.
fn swarm_of(folder: &Path, members: &[(String, SocketAddr)]) -> Result<String> {
    let path = folder.join("swarm.key");
    members::write_new_key(&path)?;
    let mut list = format!("[swarm]\nkey-file = {path:?}\n");
    for (name, at) in members {
        write!(
            list,
            "[[swarm.members]]\nname = {name:?}\naddress = \"{at}\"\n"
        )?;
    }
    Ok(list)
}

/// A port that is free at a loopback address which nobody else is likely to use.
fn free_address(host: Ipv4Addr) -> Result<SocketAddr> {
    let listener =
        TcpListener::bind((host, 0)).with_context(|| format!("cannot use the address {host}"))?;
    Ok(listener.local_addr()?)
}

/// A running `vmthunder serve`. It dies with this value, and, since it watches its standard input, with this program.
pub(crate) struct Daemon {
    name: String,
    at: SocketAddr,
    control: PathBuf,
    log: PathBuf,
    child: Child,
    lines: tokio::io::Lines<BufReader<ChildStdout>>,
}

impl Daemon {
    fn spawn(folder: &Path, name: &str, at: SocketAddr, text: &str) -> Result<Self> {
        let config = folder.join(format!("{name}.toml"));
        std::fs::write(&config, text)?;
        let log = folder.join(format!("{name}.log"));
        let mut child = Command::new(std::env::current_exe()?)
            .args(["serve", "--until-stdin-closes", "--config"])
            .arg(&config)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(&log)?)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let stdout = child.stdout.take().context("a pipe was asked for")?;
        let lines = BufReader::new(ChildStdout::from_std(stdout)?).lines();
        let control = Config::load(&config)?.control;
        let control = control.context("a node has a control socket")?;
        Ok(Self {
            name: name.to_owned(),
            at,
            control,
            log,
            child,
            lines,
        })
    }

    /// The node's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The URL of the image at this node.
    pub(crate) fn image_url(&self) -> String {
        format!("iscsi://{}/{}/0", self.at, names::image(IMAGE))
    }

    /// Waits until the process says that it serves.
    async fn ready(&mut self) -> Result<()> {
        match tokio::time::timeout(PATIENCE, self.lines.next_line()).await {
            Ok(Ok(Some(line))) if line.starts_with("ready ") => Ok(()),
            Ok(_) => bail!("{} ended before it was ready:\n{}", self.name, self.log()),
            Err(_) => bail!(
                "{} is not ready after {PATIENCE:?}:\n{}",
                self.name,
                self.log()
            ),
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// What the node says about itself.
    pub(crate) async fn status(&self) -> Result<Status> {
        ask(&self.control, &Request::Status)
            .await
            .with_context(|| format!("{}:\n{}", self.name, self.log()))
    }

    /// Makes an instance of the image; answers its URL.
    pub(crate) async fn create_instance(&self, name: &str) -> Result<String> {
        let request = Request::Instance(InstanceRequest::Create(Creation {
            name: name.to_owned(),
            count: None,
            image: IMAGE.to_owned(),
            size: None,
            quota: None,
            outage: None,
        }));
        let made: Vec<InstanceStatus> = ask(&self.control, &request)
            .await
            .with_context(|| self.name.clone())?;
        made.into_iter()
            .flat_map(|made| made.urls)
            .next()
            .context("an instance has a URL")
    }

    /// Ends the process by closing its standard input.
    async fn stop(mut self) -> Result<()> {
        drop(self.child.stdin.take());
        let started = Instant::now();
        loop {
            match self.child.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => bail!("{} ended with {status}:\n{}", self.name, self.log()),
                None if started.elapsed() > PATIENCE => {
                    bail!("{} does not end:\n{}", self.name, self.log())
                }
                None => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
