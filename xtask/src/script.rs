//! A program that is told things on its standard input, answers with lines of JSON, and ends when its input does.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::bounded;
use crate::repo::Repo;

/// A running program that goes on until its standard input closes.
pub(crate) struct Script {
    child: Child,
    name: String,
    lines: Receiver<String>,
}

impl Script {
    /// lab/initiator.py, an initiator for what good ones do not do.
    pub(crate) fn start(repo: &Repo, args: &[&str]) -> Result<Self> {
        let mut command = repo.command("lab/initiator.py");
        Self::spawn(command.args(args)).context("lab/initiator.py needs python3")
    }

    /// Starts any such program.
    pub(crate) fn spawn(command: &mut Command) -> Result<Self> {
        let name = bounded::spell(command);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| name.clone())?;
        let output = child.stdout.take().context("stdout was asked for")?;
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            let lines = BufReader::new(output).lines().map_while(Result::ok);
            // Nobody waits for more once the script was ended.
            lines
                .take_while(|line| sender.send(line.clone()).is_ok())
                .count()
        });
        Ok(Self { child, name, lines })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line that it prints.
    pub(crate) fn line(&self, limit: Duration) -> Result<Value> {
        let line = self.lines.recv_timeout(limit);
        let line = line.with_context(|| format!("{} says nothing", self.name))?;
        Ok(serde_json::from_str(&line)?)
    }

    /// Tells it something; its next line.
    pub(crate) fn ask(&mut self, order: &str, limit: Duration) -> Result<Value> {
        let input = self.child.stdin.as_mut().context("stdin was asked for")?;
        writeln!(input, "{order}").with_context(|| format!("{} has ended", self.name))?;
        self.line(limit)
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
