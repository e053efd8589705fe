//! lab/initiator.py, an initiator for what good ones do not do.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::bounded;
use crate::repo::Repo;

/// lab/initiator.py, which goes on until its standard input closes.
pub(crate) struct Script {
    child: Child,
    lines: Receiver<String>,
}

impl Script {
    pub(crate) fn start(repo: &Repo, args: &[&str]) -> Result<Self> {
        let mut command: Command = repo.command("lab/initiator.py");
        command
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn().context("lab/initiator.py needs python3")?;
        let output = child.stdout.take().context("stdout was asked for")?;
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            let lines = BufReader::new(output).lines().map_while(Result::ok);
            // Nobody waits for more once the script was ended.
            lines
                .take_while(|line| sender.send(line.clone()).is_ok())
                .count()
        });
        Ok(Self { child, lines })
    }

    /// The next line that it prints.
    pub(crate) fn line(&self, limit: Duration) -> Result<Value> {
        let line = self.lines.recv_timeout(limit).context("lab/initiator.py")?;
        Ok(serde_json::from_str(&line)?)
    }

    /// Tells it to let go; its last line.
    pub(crate) fn finish(&mut self, limit: Duration) -> Result<Value> {
        drop(self.child.stdin.take());
        let last = self.line(limit)?;
        bounded::wait(&mut self.child, limit)?;
        Ok(last)
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        // A drop cannot fail; the child is killed in the end.
        let _ended = bounded::end(&mut self.child);
    }
}
