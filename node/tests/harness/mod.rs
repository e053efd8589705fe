//! Runs the program as users do: processes, sockets on loopback, files in a temporary folder.
#![allow(dead_code, reason = "every test binary uses another part of it")]
#![allow(clippy::unwrap_used, reason = "what a test cannot set up must end it")]
#![allow(unreachable_pub, reason = "a module of a test binary has no outside")]

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use iscsi_initiator::{Options, Remote, Session};
use iscsi_proto::url::IscsiUrl;
use iscsi_proto::wire::lun::Lun;
use tempfile::TempDir;

/// How long anything may take before the test fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Bytes in an extent.
pub const EXTENT: usize = 65_536;

/// A folder with images and configurations.
pub struct Scene {
    pub folder: TempDir,
}

impl Scene {
    pub fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// An image of so many extents, no two alike; its bytes.
    pub fn image(&self, name: &str, extents: usize) -> Vec<u8> {
        let mut bytes = vec![0; extents * EXTENT];
        blake3::Hasher::new()
            .update(name.as_bytes())
            .finalize_xof()
            .fill(&mut bytes);
        std::fs::write(self.path(name), &bytes).unwrap();
        bytes
    }

    /// The path of a file in the folder, as an argument.
    pub fn arg(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// A file that its owner alone may read; its path.
    pub fn secret(&self, name: &str, text: &str) -> String {
        use std::os::unix::fs::PermissionsExt;
        std::fs::write(self.path(name), text).unwrap();
        let mode = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(self.path(name), mode).unwrap();
        self.arg(name)
    }

    /// A swarm of these members as lines of a configuration, and the file of its key.
    pub fn swarm(&self, members: &[(String, SocketAddr)]) -> String {
        if !self.path("swarm.key").exists() {
            self.secret("swarm.key", &succeed(&["swarm", "key"]));
        }
        let head = "[swarm]\nkey-file = \"swarm.key\"\n".to_owned();
        members.iter().fold(head, |mut text, (name, at)| {
            write!(
                text,
                "[[swarm.members]]\nname = {name:?}\naddress = \"{at}\"\n"
            )
            .unwrap();
            text
        })
    }

    /// A configuration file; `rest` follows name, data folder and address.
    pub fn config(&self, name: &str, at: SocketAddr, rest: &str) -> PathBuf {
        let path = self.path(&format!("{name}.toml"));
        let head = format!("name = {name:?}\ndata = \"{name}.data\"\nlisten = [\"{at}\"]\n");
        std::fs::write(&path, format!("{head}{rest}")).unwrap();
        path
    }

    /// Starts `vmthunder serve` and waits until it is ready.
    pub fn serve(&self, config: &Path) -> Running {
        Running::spawn(&["serve", "--config", &config.display().to_string()])
    }
}

/// A loopback address with a port that is free at the moment.
pub fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

/// Runs the program to its end.
pub fn run(args: &[&str]) -> Output {
    let child = command(args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let id = child.id();
    let (done, waited) = channel();
    let waiting = std::thread::spawn(move || done.send(child.wait_with_output()));
    let output = waited
        .recv_timeout(PATIENCE)
        .unwrap_or_else(|_| panic!("process {id}, {args:?}, does not end"));
    waiting.join().unwrap().unwrap();
    output.unwrap()
}

/// Runs the program, which must find that it cannot: exit code 2. What it says on standard error.
pub fn refuse(args: &[&str]) -> String {
    let output = run(args);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{args:?}: {errors}");
    assert!(!output.stdout.starts_with(b"ready"), "{args:?} was ready");
    errors
}

/// Runs the program and takes its standard output; it must succeed.
pub fn succeed(args: &[&str]) -> String {
    let output = run(args);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{args:?} ended with {}: {errors}",
        output.status
    );
    String::from_utf8(output.stdout).unwrap()
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vmthunder"));
    command.args(args).env_remove("RUST_LOG");
    command
}

/// A program that serves; it is killed when this is dropped.
pub struct Running {
    child: Child,
    lines: Receiver<String>,
}

impl Running {
    /// Starts it; its first line must be `ready`.
    pub fn spawn(args: &[&str]) -> Self {
        Self::begin(&mut command(args))
    }

    /// The same, and a file gets what it says on standard error.
    pub fn logged(args: &[&str], log: &Path) -> Self {
        let log = std::fs::File::create(log).unwrap();
        Self::begin(command(args).stderr(log))
    }

    /// Starts what becomes the program.
    pub fn begin(command: &mut Command) -> Self {
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (send, lines) = channel();
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        Self { child, lines }
    }

    /// Starts `vmthunder target` on a port of its own and waits until it is ready; the URL of its first LUN.
    pub fn target(args: &[&str]) -> (Self, String) {
        let mut all = vec!["target", "--listen", "127.0.0.1:0"];
        all.extend(args);
        let running = Self::spawn(&all);
        let url = running.url();
        (running, url)
    }

    /// The URL of the next `ready` line.
    pub fn url(&self) -> String {
        let line = self
            .lines
            .recv_timeout(PATIENCE)
            .expect("a line `ready URL`");
        line.strip_prefix("ready ")
            .unwrap_or_else(|| panic!("`{line}` is not `ready URL`"))
            .to_owned()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let id = i32::try_from(self.child.id()).unwrap();
        let id = rustix::process::Pid::from_raw(id).unwrap();
        rustix::process::kill_process(id, signal).unwrap();
    }

    /// Ends it with SIGKILL.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Ends it with SIGTERM; it must end well.
    pub fn stop(mut self) {
        self.signal(rustix::process::Signal::TERM);
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                assert!(status.success(), "it ended with {status}");
                return;
            }
            assert!(started.elapsed() < PATIENCE, "it does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Logs in to a target.
pub async fn connect(url: &str) -> Result<Session, iscsi_initiator::Error> {
    let url: IscsiUrl = url.parse().unwrap();
    let options = Options::new("iqn.2026-11.org.vmthunder:test".parse().unwrap());
    Session::connect(&url, options).await
}

/// The number of the logical unit that a URL names.
pub fn lun(url: &str) -> Lun {
    let url: IscsiUrl = url.parse().unwrap();
    Lun::from_number(url.lun().unwrap())
}

/// Logs in to a logical unit.
pub async fn attach(url: &str) -> Remote {
    let session = connect(url).await.unwrap();
    Remote::attach(session, lun(url)).await.unwrap()
}
