//! A program that serves until it is told to end: started, waited for, and ended whatever happens.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::bounded;

/// How many of its last log lines a failed daemon shows.
const LAST_LINES: usize = 15;

/// A running program; dropping it ends it by its process id.
pub(crate) struct Daemon {
    child: Child,
    name: String,
    lines: Receiver<String>,
    log: PathBuf,
}

impl Daemon {
    /// Starts the program; its log goes to a file named `log` in `folder`.
    pub(crate) fn start(command: &mut Command, folder: &Path, log: &str) -> Result<Self> {
        let name = bounded::spell(command);
        let log = folder.join(log);
        let stderr = File::create(&log)?;
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr);
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let (sender, lines) = mpsc::channel();
        let stdout = child.stdout.take();
        // Ends with the child's output; what nobody waits for is dropped with the receiver.
        thread::spawn(move || {
            for line in stdout
                .into_iter()
                .flat_map(|stdout| BufReader::new(stdout).lines().map_while(Result::ok))
            {
                let _nobody_waits = sender.send(line);
            }
        });
        Ok(Self {
            child,
            name,
            lines,
            log,
        })
    }

    /// The URLs of the next `count` lines `ready URL` that the program prints.
    pub(crate) fn ready(&mut self, count: usize, limit: Duration) -> Result<Vec<String>> {
        let deadline = Instant::now() + limit;
        let mut urls = Vec::new();
        while urls.len() < count {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left).map_err(|_gone_or_late| {
                anyhow::anyhow!(
                    "{}: no line `ready URL` within {} s\n{}",
                    self.name,
                    limit.as_secs(),
                    self.last_lines()
                )
            })?;
            let url = line
                .strip_prefix("ready iscsi://")
                .with_context(|| format!("{}: {line:?}", self.name))?;
            urls.push(format!("iscsi://{url}"));
        }
        Ok(urls)
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Fails if the program ended by itself, or printed a line that nobody asked for.
    pub(crate) fn check(&mut self) -> Result<()> {
        let ended = self.child.try_wait()?;
        ensure!(
            ended.is_none(),
            "{} ended by itself: {ended:?}\n{}",
            self.name,
            self.last_lines()
        );
        let surplus = self.lines.try_recv().ok();
        ensure!(surplus.is_none(), "{} printed {surplus:?}", self.name);
        Ok(())
    }

    /// Ends it as an operator would, and fails if it does not end well.
    pub(crate) fn stop(self) -> Result<()> {
        self.stop_with_log().map(drop)
    }

    /// Like [`Self::stop`]; the end of its log.
    pub(crate) fn stop_with_log(mut self) -> Result<String> {
        self.check()?;
        bounded::end(&mut self.child)?;
        let status = self.child.wait()?;
        ensure!(
            status.success(),
            "{}: {status} after SIGTERM\n{}",
            self.name,
            self.last_lines()
        );
        Ok(self.last_lines())
    }

    /// Ends it as a power failure would: SIGKILL.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// The end of its log.
    pub(crate) fn last_lines(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // A drop cannot fail; the child is killed in the end.
        let _ended = bounded::end(&mut self.child);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    fn shell(script: &str, folder: &Path) -> Daemon {
        Daemon::start(Command::new("sh").args(["-c", script]), folder, "log").unwrap()
    }

    #[test]
    fn ready_lines_are_read_and_the_program_ended() {
        let folder = tempfile::tempdir().unwrap();
        let script = "trap 'exit 0' TERM; echo ready iscsi://h:1/t/0; while :; do sleep 0.05; done";
        let mut daemon = shell(script, folder.path());
        assert_eq!(daemon.ready(1, LIMIT).unwrap(), ["iscsi://h:1/t/0"]);
        daemon.stop().unwrap();
    }

    #[test]
    fn a_program_that_dies_is_not_ready() {
        let folder = tempfile::tempdir().unwrap();
        let error = shell("echo broken >&2; exit 3", folder.path())
            .ready(1, LIMIT)
            .unwrap_err();
        assert!(error.to_string().contains("broken"));
    }

    #[test]
    fn other_lines_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert!(shell("echo hello", folder.path()).ready(1, LIMIT).is_err());
    }
}
