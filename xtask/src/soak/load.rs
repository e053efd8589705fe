//! The initiator of a soak, as a process of its own: `initiator/examples/soak`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::bounded;
use crate::repo::Repo;
use crate::script::Script;

/// What the initiator says: its figures up to now.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Figures {
    pub(super) writes: u64,
    pub(super) reads: u64,
    pub(super) doubts: u64,
    pub(super) errors: u64,
    pub(super) lost: u64,
    pub(super) wrong: u64,
    /// The longest time of a command since the last time that it was asked.
    pub(super) longest: Duration,
    pub(super) logins: u64,
}

impl Figures {
    fn read(line: &Value) -> Result<Self> {
        let figure = |name: &str| {
            let figure = line[name].as_u64();
            figure.with_context(|| format!("the initiator said {line}"))
        };
        Ok(Self {
            writes: figure("writes")?,
            reads: figure("reads")?,
            doubts: figure("doubts")?,
            errors: figure("errors")?,
            lost: figure("lost")?,
            wrong: figure("wrong")?,
            longest: Duration::from_millis(figure("longest_ms")?),
            logins: figure("logins")?,
        })
    }

    /// True if everything is as it should be.
    pub(super) fn are_good(&self) -> bool {
        self.lost + self.wrong + self.errors == 0
    }
}

/// The initiator as a process.
pub(super) struct Load(Script);

impl Load {
    pub(super) fn start(program: &Path, seed: u64, urls: &[String]) -> Result<Self> {
        let mut command = Command::new(program);
        command.arg(seed.to_string()).args(urls);
        let script = Script::spawn(&mut command)?;
        let ready = script.line(CHECK_LIMIT)?;
        ensure!(ready == "ready", "the initiator said {ready}");
        Ok(Self(script))
    }

    /// Waits for every command, and lets it compare every block.
    pub(super) fn check(&mut self) -> Result<Figures> {
        Figures::read(&self.0.ask("check", CHECK_LIMIT)?)
    }
}

/// Builds the initiator.
pub(super) fn build(repo: &Repo) -> Result<PathBuf> {
    let build = [
        "build",
        "--quiet",
        "--package",
        "iscsi-initiator",
        "--example",
        "soak",
    ];
    bounded::show(&mut repo.cargo(build), BUILD_LIMIT)?;
    let metadata = repo.metadata()?;
    let target = metadata["target_directory"].as_str().unwrap_or_default();
    Ok(Path::new(target).join("debug/examples/soak"))
}

const BUILD_LIMIT: Duration = Duration::from_secs(1800);

/// How long commands may take to end after the target is well again, and every block to be compared.
const CHECK_LIMIT: Duration = Duration::from_secs(120);
