//! Hosts with a link each: network namespaces that lab/vm/swarm-net makes, and that are taken away whatever happens.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::fs::{FlockOperation, flock};
use serde_json::Value;

use crate::bounded;
use crate::packages;
use crate::repo::Repo;

/// What the lab is called among network namespaces.
const NAME: &str = "vmstorm";
/// Held by whoever has the lab.
const LOCK: &str = "/run/vmthunder-storm.lock";
/// How long one who was interrupted may take to tidy up.
const TIDY: Duration = Duration::from_secs(60);
/// Making some hundred namespaces on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(200);
const SCRIPT: &str = "lab/vm/swarm-net";
const TOOLS: [&str; 4] = ["ip", "tc", "nft", "nsenter"];
/// Ends with this program, however that ends, and takes everything away then. It must outlive an interrupt of its group.
const KEEPER: &str = "trap '' INT TERM HUP; cat > /dev/null; \"$0\" down -k; rm -rf -- \"$1\"";

/// Hosts 1 to N, and host 0, the origin.
pub(super) struct Net<'a> {
    repo: &'a Repo,
    keeper: Child,
    /// Where the lab's files lie; it goes with the lab.
    pub(super) folder: PathBuf,
    origin_rate: u32,
    rate: u32,
}

/// Bytes of frames that a host has sent and received, as its limiter counts them: with the headers of every segment.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Traffic {
    pub(super) sent: u64,
    pub(super) received: u64,
}

impl<'a> Net<'a> {
    /// What makes a lab impossible here, if anything does.
    pub(super) fn possible() -> Result<()> {
        for tool in TOOLS {
            packages::program(tool).context("see lab/README.md, Packages")?;
        }
        ensure!(
            rustix::process::geteuid().is_root(),
            "network namespaces need root: run this as root"
        );
        Ok(())
    }

    /// Takes away what another run left, and makes so many hosts with links of so many Mbit/s.
    pub(super) fn up(
        repo: &'a Repo,
        folder: PathBuf,
        hosts: u32,
        rate: u32,
        origin_rate: u32,
    ) -> Result<Self> {
        Self::possible()?;
        let lock = lock()?;
        if Path::new("/run/swarm-net").join(NAME).exists() {
            bounded::succeed(script(repo).args(["down", "-k"]), LIMIT)?;
        }
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
        }
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let mut keeper = repo.command("sh");
        keeper.env("SWARM", NAME);
        keeper.arg("-c").arg(KEEPER).arg(SCRIPT).arg(&folder);
        // The lock is the keeper's, too: nobody begins before it is done.
        keeper.stdin(Stdio::piped()).stdout(lock);
        let net = Self {
            repo,
            keeper: keeper.spawn().context("cannot start sh")?,
            folder,
            origin_rate,
            rate,
        };
        let mut up = script(repo);
        up.arg("up");
        up.args([hosts, rate, origin_rate].map(|number| number.to_string()));
        bounded::succeed(&mut up, LIMIT)?;
        Ok(net)
    }

    /// The address of a host.
    pub(super) fn address(host: u32) -> String {
        match host {
            0 => "10.77.0.1".to_owned(),
            host => format!("10.77.{}.{}", 1 + (host - 1) / 250, (host - 1) % 250 + 1),
        }
    }

    /// A program on a host.
    pub(super) fn command(host: u32, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{NAME}{host}"));
        command.arg("--").arg(program);
        command
    }

    /// Limits a host to a part of its link.
    pub(super) fn slow_down(&self, host: u32, divisor: u32) -> Result<()> {
        self.limit(host, (self.full(host) / divisor).max(1))
    }

    /// Gives a host its whole link again.
    pub(super) fn restore(&self, host: u32) -> Result<()> {
        self.limit(host, self.full(host))
    }

    fn full(&self, host: u32) -> u32 {
        match host {
            0 => self.origin_rate,
            _ => self.rate,
        }
    }

    fn limit(&self, host: u32, rate: u32) -> Result<()> {
        let mut limit = script(self.repo);
        limit.args(["rate", &host.to_string(), &rate.to_string()]);
        bounded::succeed(&mut limit, LIMIT).map(drop)
    }

    /// Loses every frame between two sets of hosts, such as `0,5-8`.
    pub(super) fn cut(&self, these: &str, those: &str) -> Result<()> {
        let mut cut = script(self.repo);
        cut.args(["partition", these, those]);
        bounded::succeed(&mut cut, LIMIT).map(drop)
    }

    /// Loses nothing any more.
    pub(super) fn heal(&self) -> Result<()> {
        bounded::succeed(script(self.repo).arg("heal"), LIMIT).map(drop)
    }

    /// What has passed a host's link.
    pub(super) fn traffic(&self, host: u32) -> Result<Traffic> {
        Ok(Traffic {
            sent: passed(&format!("{NAME}{host}"), "eth0")?,
            received: passed(&format!("{NAME}-hub"), &format!("p{host}"))?,
        })
    }

    /// Takes everything away.
    pub(super) fn down(mut self) -> Result<()> {
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        drop(self.keeper.stdin.take());
        let ended = bounded::wait(&mut self.keeper, TIDY).context("taking the lab away")?;
        ensure!(ended.success(), "taking the lab away: {ended}");
        Ok(())
    }
}

impl Drop for Net<'_> {
    fn drop(&mut self) {
        // A drop cannot fail; what stays is taken away by the next run.
        let _ended = self.end();
    }
}

fn script(repo: &Repo) -> Command {
    let mut command = repo.command(SCRIPT);
    command.env("SWARM", NAME);
    command
}

/// Waits until whoever had the lab has tidied up; an error while somebody uses it.
fn lock() -> Result<File> {
    let lock = File::create(LOCK).context(LOCK)?;
    let deadline = Instant::now() + TIDY;
    while flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        if Instant::now() > deadline {
            bail!("another storm is going on on this machine: {LOCK} is held");
        }
        thread::sleep(POLL);
    }
    Ok(lock)
}

/// The bytes that a limiter let pass.
fn passed(namespace: &str, device: &str) -> Result<u64> {
    let mut show = Command::new("tc");
    show.args(["-n", namespace, "-s", "-j", "qdisc", "show", "dev", device]);
    let said = bounded::succeed(&mut show, LIMIT)?.text();
    counted(&said).with_context(|| format!("{namespace}, {device}: no limiter in {said}"))
}

fn counted(said: &str) -> Option<u64> {
    let all: Value = serde_json::from_str(said).ok()?;
    let mut limiters = all.as_array()?.iter();
    limiters.find(|one| one["kind"] == "tbf")?["bytes"].as_u64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_host_has_an_address_of_its_own() {
        let of = [0, 1, 250, 251, 500].map(Net::address);
        assert_eq!(
            of,
            [
                "10.77.0.1",
                "10.77.1.1",
                "10.77.1.250",
                "10.77.2.1",
                "10.77.2.250"
            ]
        );
    }

    #[test]
    fn the_limiter_counts() {
        let said = r#"[{"kind":"noqueue","bytes":1},{"kind":"tbf","root":true,"bytes":4711}]"#;
        assert_eq!(counted(said), Some(4711));
        assert_eq!(counted("[]"), None);
    }
}
