//! The control socket: how commands talk to a running node. One JSON value per line, a request and its reply.

use std::convert::Infallible;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Interest};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::instances::InstanceRequest;
use crate::mode::ImageRequest;
use crate::node::Node;
use crate::observe::causes;

/// The longest line that is read.
const MOST_LINE_BYTES: u64 = 1024 * 1024;

/// How long a command waits for a sign of the node, and the node for a command to take it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// How often the node gives a sign while it works.
const SIGN_INTERVAL: Duration = Duration::from_secs(1);

/// How long a command may take to say what it wants: those that wait in line must not wait for a silent one.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);

/// Between two lines about a socket that accepts nobody: what hinders it, such as too many open files, may last.
const SAY_INTERVAL: Duration = Duration::from_secs(60);

/// Commands that are answered at once.
const MOST_CONNECTIONS: usize = 64;

/// What can be asked of a node or gateway.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Request {
    /// What it does: answered with a [`crate::status::Status`].
    Status,
    /// Read the file of the swarm's keys again: answered with the epochs in it, that in use first.
    ReloadKeys,
    /// Who else is in the swarm: answered with a [`crate::members::SwarmStatus`].
    Members,
    /// Another way to use an image: answered with a [`crate::status::ImageStatus`].
    Image(ImageRequest),
    /// Something about instances.
    Instance(InstanceRequest),
    /// Give a file that is served another size: answered with a [`crate::status::LunStatus`].
    ResizeLun {
        /// The target and the number of the LUN.
        lun: String,
        /// The new size; without it the one that others gave it.
        bytes: Option<u64>,
        /// Whether it may become smaller.
        shrink: bool,
    },
}

/// A control socket that is listened on; removed when this is dropped.
pub(crate) struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// How far a command has come, and whether anybody still waits for it.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    done: AtomicU64,
    total: AtomicU64,
    abandoned: AtomicBool,
}

impl Progress {
    /// There is so much to do.
    pub(crate) fn begin(&self, total: u64) {
        self.total.store(total, Ordering::Relaxed);
    }

    /// So much more is done.
    pub(crate) fn add(&self, done: u64) {
        self.done.fetch_add(done, Ordering::Relaxed);
    }

    /// So much is done.
    pub(crate) fn at(&self, done: u64) {
        self.done.store(done, Ordering::Relaxed);
    }

    /// True once whoever asked has gone.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Relaxed)
    }

    fn reply(&self) -> Reply {
        Reply::Working {
            done: self.done.load(Ordering::Relaxed),
            total: self.total.load(Ordering::Relaxed),
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Reply {
    /// It is not done yet; another line follows. So much of so much is, if that can be told.
    Working {
        done: u64,
        total: u64,
    },
    Done(serde_json::Value),
    Failed(String),
}

/// Listens on the control socket, so that commands find it from now on.
pub(crate) async fn listen(path: &Path) -> Result<Socket> {
    remove_stale(path).await?;
    let listener =
        UnixListener::bind(path).with_context(|| format!("cannot listen on {}", path.display()))?;
    let socket = Socket {
        listener,
        path: path.to_owned(),
    };
    // Whoever may command the node may read every image.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(socket)
}

/// Answers commands until `stop`.
pub(crate) async fn serve(node: Arc<Node>, socket: Socket, stop: CancellationToken) -> Result<()> {
    let room = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let mut said: Option<Instant> = None;
    loop {
        let permit = Arc::clone(&room).acquire_owned().await?;
        let stream = tokio::select! {
            () = stop.cancelled() => break,
            accepted = socket.listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    if said.is_none_or(|said| said.elapsed() >= SAY_INTERVAL) {
                        said = Some(Instant::now());
                        warn!("control socket: cannot accept: {}", causes(&error.into()));
                    }
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        let node = Arc::clone(&node);
        tokio::spawn(async move {
            let _permit = permit;
            if let Err(error) = answer(Some(&node), stream).await {
                debug!(%error, "control socket");
            }
        });
    }
    Ok(())
}

/// Tells whoever asks that the node does not serve yet, for as long as this is polled.
pub(crate) async fn put_off(socket: Option<&Socket>) -> Infallible {
    let Some(socket) = socket else {
        return std::future::pending().await;
    };
    loop {
        match socket.listener.accept().await {
            Ok((stream, _)) => {
                let answered = tokio::time::timeout(REQUEST_TIMEOUT, answer(None, stream)).await;
                debug!(?answered, "control socket: put off");
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Removes the socket of a node that died, but not one that a living node listens on.
async fn remove_stale(path: &Path) -> Result<()> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| path.display().to_string()),
        Ok(found) if !found.file_type().is_socket() => {
            bail!("{} is in the way: it is no socket", path.display())
        }
        Ok(_) => {}
    }
    if UnixStream::connect(path).await.is_ok() {
        bail!(
            "a node or gateway is running already: it answers on {}",
            path.display()
        );
    }
    std::fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))
}

async fn answer(node: Option<&Arc<Node>>, mut stream: UnixStream) -> Result<()> {
    let (from, mut to) = stream.split();
    let mut line = String::new();
    let mut from = BufReader::new(from.take(MOST_LINE_BYTES));
    tokio::time::timeout(REQUEST_TIMEOUT, from.read_line(&mut line)).await??;
    let reply = match (node, serde_json::from_str(&line)) {
        (_, Err(error)) => Reply::Failed(format!("not a request: {error}")),
        (None, Ok::<Request, _>(_)) => {
            Reply::Failed("the node does not serve yet: it is starting".to_owned())
        }
        (Some(node), Ok(request)) => {
            let (node, progress) = (Arc::clone(node), Arc::new(Progress::default()));
            let seen = Arc::clone(&progress);
            // What was begun ends, whether or not somebody waits for it, if it does not ask.
            let mut work = tokio::spawn(async move { node.answer(request, &progress).await });
            let (mut more, mut watched) = ([0], true);
            let done = loop {
                tokio::select! {
                    done = &mut work => break done?,
                    read = from.read(&mut more), if watched => {
                        watched = false;
                        // Whoever only says that this was all still waits.
                        let ended = !matches!(read, Ok(1..));
                        if ended && to.ready(Interest::WRITABLE).await?.is_write_closed() {
                            seen.abandoned.store(true, Ordering::Relaxed);
                        }
                    }
                    () = tokio::time::sleep(SIGN_INTERVAL) => {
                        if let Err(error) = send(&mut to, &seen.reply()).await {
                            seen.abandoned.store(true, Ordering::Relaxed);
                            return Err(error);
                        }
                    }
                }
            };
            match done {
                Ok(value) => Reply::Done(value),
                Err(error) => Reply::Failed(causes(&error)),
            }
        }
    };
    send(&mut to, &reply).await?;
    Ok(to.shutdown().await?)
}

async fn send(to: &mut (impl AsyncWriteExt + Unpin), reply: &Reply) -> Result<()> {
    let mut text = serde_json::to_vec(reply)?;
    text.push(b'\n');
    Ok(tokio::time::timeout(ANSWER_TIMEOUT, to.write_all(&text)).await??)
}

/// Asks a running node.
pub(crate) async fn ask<T: DeserializeOwned>(path: &Path, request: &Request) -> Result<T> {
    ask_and_watch(path, request, |_, _| ()).await
}

/// Asks a running node, and is shown how much of how much is done while that lasts.
pub(crate) async fn ask_and_watch<T: DeserializeOwned>(
    path: &Path,
    request: &Request,
    mut watch: impl FnMut(u64, u64),
) -> Result<T> {
    let slow = || format!("the node at {} does not answer", path.display());
    let connected = tokio::time::timeout(ANSWER_TIMEOUT, begin(path, request)).await;
    let mut lines = connected.with_context(slow)??;
    loop {
        let line = tokio::time::timeout(ANSWER_TIMEOUT, next_line(&mut lines)).await;
        match serde_json::from_str(&line.with_context(slow)??) {
            Ok(Reply::Working { done, total }) => watch(done, total),
            Ok(Reply::Done(value)) => {
                return serde_json::from_value(value).context("the node is of another version");
            }
            Ok(Reply::Failed(cause)) => bail!("{cause}"),
            Err(_) => bail!("the node's answer is cut off; its log may say why"),
        }
    }
}

async fn begin(path: &Path, request: &Request) -> Result<BufReader<UnixStream>> {
    let mut stream = UnixStream::connect(path).await.with_context(|| {
        format!(
            "nobody answers on {} (is `vmthunder serve`, or `vmthunder target --control`, running?)",
            path.display()
        )
    })?;
    let mut text = serde_json::to_vec(request)?;
    text.push(b'\n');
    stream.write_all(&text).await?;
    Ok(BufReader::new(stream))
}

async fn next_line(lines: &mut BufReader<UnixStream>) -> Result<String> {
    let mut line = String::new();
    lines.take(MOST_LINE_BYTES).read_line(&mut line).await?;
    Ok(line)
}
