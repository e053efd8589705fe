//! On what it was measured.

use std::fmt;
use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::Room;
use crate::bounded;
use crate::packages;
use crate::repo::Repo;

const LIMIT: Duration = Duration::from_secs(30);

/// Machine, programs and circumstances.
pub(super) struct Conditions {
    cpu: String,
    cores: usize,
    kernel: String,
    memory_gib: u64,
    /// Name and version of each.
    programs: Vec<(&'static str, String)>,
    commit: String,
    day: String,
    rounds: u8,
    seconds: f64,
    /// Programs that were running or waiting to, over the last minute, when it began.
    load: String,
}

impl Conditions {
    pub(super) fn read(repo: &Repo, room: &Room) -> Result<Self> {
        let say = |program: &str, args: &[&str]| -> Result<String> {
            let said = bounded::succeed(repo.command(program).args(args), LIMIT)?;
            Ok(said.text().trim().to_owned())
        };
        let read = |path: &str| fs::read_to_string(path).with_context(|| path.to_owned());
        let cpuinfo = read("/proc/cpuinfo")?;
        let ours = bounded::succeed(
            std::process::Command::new(&room.vmthunder).arg("--version"),
            LIMIT,
        )?;
        let mut programs = vec![("vmthunder", version(&ours.text()))];
        for name in ["tgt", "libiscsi-bin", "qemu-utils"] {
            programs.push((name, packages::installed(name).unwrap_or_default()));
        }
        let is_changed = !say(
            "git",
            &["status", "--porcelain", "--", "*.rs", "*.toml", "*.c"],
        )?
        .is_empty();
        let commit = say("git", &["rev-parse", "--short=12", "HEAD"])?;
        Ok(Self {
            cpu: field(&cpuinfo, "model name")
                .unwrap_or("unknown")
                .to_owned(),
            cores: std::thread::available_parallelism()?.get(),
            kernel: read("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            memory_gib: memory(&read("/proc/meminfo")?).unwrap_or(0),
            programs,
            commit: if is_changed {
                commit + ", changed"
            } else {
                commit
            },
            day: say("date", &["-u", "+%F"])?,
            rounds: room.rounds,
            seconds: room.seconds,
            load: read("/proc/loadavg")?
                .split(' ')
                .next()
                .unwrap_or_default()
                .to_owned(),
        })
    }

    pub(super) fn json(&self) -> Value {
        let programs: serde_json::Map<String, Value> = self
            .programs
            .iter()
            .map(|(name, version)| ((*name).to_owned(), json!(version)))
            .collect();
        json!({
            "cpu": self.cpu,
            "cores": self.cores,
            "kernel": self.kernel,
            "memory_gib": self.memory_gib,
            "programs": programs,
            "commit": self.commit,
            "day": self.day,
            "rounds": self.rounds,
            "seconds": self.seconds,
            "load": self.load,
        })
    }
}

impl fmt::Display for Conditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let programs: Vec<String> = self
            .programs
            .iter()
            .map(|(name, version)| format!("{name} {version}"))
            .collect();
        write!(
            f,
            "{}, {} cores, {} GiB, Linux {} · {} · commit {} · {} · {} rounds, {} s a turn · load {} at the start",
            self.cpu,
            self.cores,
            self.memory_gib,
            self.kernel,
            programs.join(", "),
            self.commit,
            self.day,
            self.rounds,
            self.seconds,
            self.load
        )
    }
}

/// What stands behind `NAME :`.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_once(':').map(|(_, value)| value.trim())
}

fn memory(meminfo: &str) -> Option<u64> {
    let kib: u64 = field(meminfo, "MemTotal")?
        .strip_suffix(" kB")?
        .parse()
        .ok()?;
    Some((kib + (1 << 19)) >> 20)
}

/// The last word of `vmthunder 0.1.0`.
fn version(said: &str) -> String {
    said.split_whitespace()
        .last()
        .unwrap_or_default()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::{field, memory};

    #[test]
    fn the_machine_is_read() {
        assert_eq!(
            field("processor\t: 0\nmodel name\t: AMD EPYC\n", "model name"),
            Some("AMD EPYC")
        );
        assert_eq!(
            memory("MemTotal:       24600000 kB\nMemFree: 1 kB\n"),
            Some(23)
        );
        assert_eq!(memory("MemFree: 1 kB\n"), None);
    }
}
