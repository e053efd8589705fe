//! The guest, and the program in it that works on its disk: `xtask/examples/disk_work`.

use std::fs;
use std::ops::AddAssign;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;
use serde_json::Value;

use crate::bounded;
use crate::repo::Repo;
use crate::script::Script;

/// An emulated guest on a busy machine; its initramfs may be built first.
const BOOT_LIMIT: Duration = Duration::from_secs(400);
/// How long the guest may take to answer: it need not touch its disk for that.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// How long it may take until its disk answers again, or to read all of it.
const PATIENCE: Duration = Duration::from_secs(400);
/// How often it is asked whether it goes on.
const POLL: Duration = Duration::from_millis(200);
/// Commands after which it goes on: more than were under way.
const GOES_ON: u64 = 16;

/// Who logs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Initiator {
    /// QEMU's own, for a guest that sees a virtio disk.
    Qemu,
    /// The kernel's of a guest.
    Linux,
}

impl Initiator {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Qemu => "qemu",
            Self::Linux => "linux",
        }
    }
}

/// What the program in the guest says.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Figures {
    pub(super) commands: u64,
    pub(super) errors: u64,
    pub(super) wrong: u64,
    /// The longest command since the last look, or that is still under way.
    pub(super) longest: Duration,
    /// The shortest and the longest command that failed.
    pub(super) failed_after: Option<(Duration, Duration)>,
}

impl Figures {
    fn read(line: &Value) -> Result<Self> {
        let figure = |name: &str| {
            let figure = line[name].as_u64();
            figure.with_context(|| format!("the guest said {line}"))
        };
        let counts = ["reads", "writes", "trims", "flushes"];
        let counts: Result<Vec<u64>> = counts.into_iter().map(figure).collect();
        let after = |name: &str| line[name].as_u64().map(Duration::from_millis);
        Ok(Self {
            commands: counts?.into_iter().sum(),
            errors: figure("errors")?,
            wrong: figure("wrong_bytes")?,
            longest: Duration::from_millis(figure("longest_ms")?),
            failed_after: after("first_error_after_ms").zip(after("last_error_after_ms")),
        })
    }
}

impl AddAssign for Figures {
    /// What was said later: counts go on, the longest of each look is kept.
    fn add_assign(&mut self, later: Self) {
        *self = Self {
            longest: self.longest.max(later.longest),
            ..later
        };
    }
}

/// A running guest.
pub(super) struct Guest {
    script: Script,
    /// QEMU's monitor, where QEMU is the initiator.
    monitor: PathBuf,
}

impl Guest {
    /// Boots it with lab/vm/work-guest, and waits until it works on its disk.
    pub(super) fn boot(mut command: Command, console: &Path) -> Result<Self> {
        let script = Script::spawn(&mut command)?;
        let said = script.line(BOOT_LIMIT)?;
        ensure!(
            said == "ready",
            "the guest said {said}, see {}",
            console.display()
        );
        // QEMU has read it; the console is what somebody may want to keep.
        fs::remove_file(console.with_added_extension("initrd"))?;
        let monitor = console.with_added_extension("monitor");
        Ok(Self { script, monitor })
    }

    /// What it did up to now.
    pub(super) fn look(&mut self) -> Result<Figures> {
        Figures::read(&self.script.ask("look", ANSWER_LIMIT)?)
    }

    /// False while QEMU pauses it.
    pub(super) fn is_running(&self, repo: &Repo) -> Result<bool> {
        let said = self.monitor(repo, "info status")?;
        Ok(said.contains("VM status: running"))
    }

    /// Gives QEMU a command; what it says.
    pub(super) fn monitor(&self, repo: &Repo, order: &str) -> Result<String> {
        let mut command = repo.command("lab/vm/qmon.py");
        command.arg(&self.monitor).arg(order);
        Ok(bounded::succeed(&mut command, ANSWER_LIMIT)?.text())
    }

    /// Waits until its disk answers; what it said last, with the longest command of the time since.
    pub(super) fn goes_on(&mut self) -> Result<Figures> {
        let deadline = Instant::now() + PATIENCE;
        let mut figures = self.look()?;
        let enough = figures.commands + GOES_ON;
        while figures.commands < enough {
            ensure!(
                Instant::now() < deadline,
                "the guest's disk does not answer: {figures:?}"
            );
            thread::sleep(POLL);
            figures += self.look()?;
        }
        Ok(figures)
    }

    /// Lets it read and compare all of its disk.
    pub(super) fn check(&mut self) -> Result<Figures> {
        Figures::read(&self.script.ask("check", PATIENCE)?)
    }

    /// Ends its work; the lines in which its kernel tells of errors.
    pub(super) fn end(mut self) -> Result<u64> {
        self.script.ask("end", PATIENCE)?;
        let last = self.script.line(ANSWER_LIMIT)?;
        let errors = last["kernel_errors"].as_u64();
        errors.with_context(|| format!("the guest said {last}"))
    }
}
