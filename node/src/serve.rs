//! `vmthunder serve` and `vmthunder target`: a node from its configuration to its end.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use iscsi_target::{AccessRules, TargetOptions};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::AsyncReadExt;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::claim::Claim;
use crate::config::Config;
use crate::control;
use crate::files::Files;
use crate::members::{self, KeyFile};
use crate::node::Node;
use crate::portals::Portals;
use crate::secrets;

/// How long connections may take to end when the node does: longer than the target gives initiators to log out and
/// writes to end.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// Runs a node until it is told to end.
pub(crate) async fn run(config: Config, until_stdin_closes: bool) -> Result<()> {
    open_many_files();
    // First of all, and until the node has ended: another may use the folder.
    let _claim = match &config.data {
        Some(data) => Some(claim(data, &config)?),
        None => None,
    };
    let commands = match &config.control {
        Some(path) => Some(control::listen(path).await?),
        None => None,
    };
    let prepared = Prepared::from(&config)?;
    let portals = Portals::listen(&config.listen).await?;
    let stop = CancellationToken::new();
    // From now on, and not from when a thread has time for it: whoever reads `ready` may end the node well.
    let mut ended = tokio::spawn(signals(until_stdin_closes).context("cannot wait for signals")?);
    let assembled = async {
        let listening = portals.addresses()?;
        let belonging = members::begin(&config, prepared.keys.as_ref(), &listening).await;
        let belonging = belonging.context("`swarm`")?;
        Node::assemble(&config, prepared, belonging, portals.hosts().to_vec()).await
    };
    let node = tokio::select! {
        node = assembled => Arc::new(node?),
        never = control::put_off(commands.as_ref()) => match never {},
        ended = &mut ended => {
            ended?;
            bail!("told to end before it served");
        }
    };
    let tracker = TaskTracker::new();
    let commands = commands.map(|socket| {
        let answers = control::serve(Arc::clone(&node), socket, stop.clone());
        tokio::spawn(answers)
    });
    portals.serve(node.target(), &stop, &tracker);
    node.announce_all();
    let images = Arc::clone(&node).await_images(config.images);
    let images = tokio::spawn(images);
    let copies = tokio::spawn(Arc::clone(&node).fill_copies());
    ended.await?;
    images.abort();
    copies.abort();
    node.leave().await;
    stop.cancel();
    tracker.close();
    if tokio::time::timeout(STOP_PATIENCE, tracker.wait())
        .await
        .is_err()
    {
        warn!("connections did not end in time");
    }
    if let Some(commands) = commands {
        commands.await??;
    }
    node.close().await
}

/// The folder of a node, for this one alone.
fn claim(data: &Path, config: &Config) -> Result<Claim> {
    std::fs::create_dir_all(data).with_context(|| format!("cannot create {}", data.display()))?;
    Claim::of(data, config.name.as_str())
}

/// Takes leave for as many open files as there can be: an instance has three, a session one, and the usual limit of
/// 1,024 is for programs that use select(2).
fn open_many_files() {
    let limit = getrlimit(Resource::Nofile);
    let most = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(error) = setrlimit(Resource::Nofile, most) {
        warn!(%error, "the limit of open files stays as it is");
    }
}

/// What is opened, read and checked before anybody can connect.
pub(crate) struct Prepared {
    /// How the target behaves.
    pub(crate) options: TargetOptions,
    /// Who may use images and instances.
    pub(crate) access: AccessRules,
    /// What proves that somebody is of the swarm.
    pub(crate) keys: Option<KeyFile>,
    /// The files that are served as they are.
    pub(crate) files: Files,
}

impl Prepared {
    fn from(config: &Config) -> Result<Self> {
        let mut options = TargetOptions {
            discovery: secrets::rules(&config.discovery).context("`discovery`")?,
            limits: config.limits.target,
            ..TargetOptions::default()
        };
        options.session.queue_depth = config.limits.commands;
        options.session.login_timeout = config.limits.login_timeout;
        Ok(Self {
            options,
            access: secrets::rules(&config.access).context("`access`")?,
            keys: config.swarm.as_ref().map(KeyFile::open).transpose()?,
            files: Files::open(config)?,
        })
    }
}

/// Waits for what ends a daemon: SIGINT, SIGTERM, or the end of standard input if its parent holds that.
pub(crate) async fn end(until_stdin_closes: bool) -> std::io::Result<()> {
    signals(until_stdin_closes)?.await;
    Ok(())
}

/// The same, and the signals are caught as soon as this returns.
fn signals(until_stdin_closes: bool) -> std::io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut terminated = signal(SignalKind::terminate())?;
    // The terminal is gone.
    let mut hung_up = signal(SignalKind::hangup())?;
    let closed = async move {
        if !until_stdin_closes {
            return std::future::pending().await;
        }
        let mut sink = [0; 64];
        while tokio::io::stdin()
            .read(&mut sink)
            .await
            .is_ok_and(|read| read > 0)
        {}
    };
    Ok(async move {
        tokio::select! {
            _ = interrupted.recv() => {}
            _ = terminated.recv() => {}
            _ = hung_up.recv() => {}
            () = closed => {}
        }
    })
}
