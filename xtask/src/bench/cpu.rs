//! Who used the processors, from `/proc`.

use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use crate::bounded;

/// The kernel counts in ticks of a hundredth of a second, whatever its own clock does (`man 5 proc`, USER_HZ).
const TICK: f64 = 0.01;
/// How often a program that runs to its end is looked at.
const POLL: Duration = Duration::from_millis(2);

/// CPU seconds that a program and its children that have ended have used.
pub(crate) fn used(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).with_context(|| path.clone())?;
    ticks_of(&stat)
        .map(|ticks| ticks as f64 * TICK)
        .with_context(|| format!("{path}: {stat}"))
}

/// Fields 14 to 17; the name before them may hold anything.
fn ticks_of(stat: &str) -> Option<u64> {
    let (_, behind) = stat.rsplit_once(')')?;
    let mut fields = behind.split_whitespace().skip(11);
    (0..4).map(|_| fields.next()?.parse::<u64>().ok()).sum()
}

/// CPU seconds that all programs together have used, and what was taken away from this machine by another.
fn used_by_all() -> Result<f64> {
    let stat = fs::read_to_string("/proc/stat")?;
    let busy = busy_of(&stat).context("/proc/stat has no line `cpu`")?;
    Ok(busy as f64 * TICK)
}

/// user, nice, system, not idle nor iowait, irq, softirq, steal.
fn busy_of(stat: &str) -> Option<u64> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let fields: Option<Vec<u64>> = line
        .split_whitespace()
        .take(8)
        .map(|field| field.parse().ok())
        .collect();
    match fields?.as_slice() {
        [user, nice, system, _, _, irq, softirq, steal] => {
            Some(user + nice + system + irq + softirq + steal)
        }
        _ => None,
    }
}

/// Looks at all processors from a moment on.
pub(crate) struct Processors {
    before: f64,
    begun: Instant,
}

impl Processors {
    pub(crate) fn begin() -> Result<Self> {
        Ok(Self {
            before: used_by_all()?,
            begun: Instant::now(),
        })
    }

    /// The part of them that was busy since then.
    pub(crate) fn busy(&self) -> Result<f64> {
        let cores = thread::available_parallelism()?.get() as f64;
        let could = self.begun.elapsed().as_secs_f64().max(TICK) * cores;
        Ok((used_by_all()? - self.before) / could)
    }
}

/// Looks at servers and at all others from a moment on.
pub(super) struct Watch {
    servers: Vec<u32>,
    servers_before: f64,
    all_before: f64,
    begun: Instant,
}

/// What was used since then.
pub(super) struct Usage {
    pub(super) server_cpu: f64,
    /// Cores that neither the servers nor the driver used.
    pub(super) others: f64,
}

impl Watch {
    pub(super) fn begin(servers: &[u32]) -> Result<Self> {
        Ok(Self {
            servers: servers.to_owned(),
            servers_before: sum(servers)?,
            all_before: used_by_all()?,
            begun: Instant::now(),
        })
    }

    /// Looks again; `driver_cpu` is what the driver has used meanwhile.
    pub(super) fn end(&self, driver_cpu: f64) -> Result<Usage> {
        let seconds = self.begun.elapsed().as_secs_f64();
        let server_cpu = sum(&self.servers)? - self.servers_before;
        let others = used_by_all()? - self.all_before - server_cpu - driver_cpu;
        Ok(Usage {
            server_cpu,
            others: (others / seconds.max(TICK)).max(0.0),
        })
    }
}

fn sum(pids: &[u32]) -> Result<f64> {
    pids.iter().map(|pid| used(*pid)).sum()
}

/// A program that ran to its end.
pub(super) struct Ran {
    pub(super) stdout: String,
    pub(super) seconds: f64,
    pub(super) cpu: f64,
}

/// Runs a program to its end, which must be a good one, and reads what it used before it is forgotten.
pub(super) fn run(command: &mut Command, limit: Duration) -> Result<Ran> {
    let name = bounded::spell(command);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let begun = Instant::now();
    let mut child = command
        .spawn()
        .with_context(|| format!("cannot start {name}"))?;
    let stdout = bounded::drain(child.stdout.take());
    let stderr = bounded::drain(child.stderr.take());
    let pid = Pid::from_child(&child);
    // What has ended and was not waited for is still in /proc, with all that it used.
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    while waitid(WaitId::Pid(pid), look)?.is_none() {
        if begun.elapsed() > limit {
            bounded::end(&mut child)?;
            anyhow::bail!("{name}: not done after {} s", limit.as_secs());
        }
        thread::sleep(POLL);
    }
    let seconds = begun.elapsed().as_secs_f64();
    let cpu = used(child.id())?;
    let status = child.wait()?;
    let text = |bytes: thread::JoinHandle<Vec<u8>>| {
        String::from_utf8_lossy(&bytes.join().unwrap_or_default()).into_owned()
    };
    let (stdout, stderr) = (text(stdout), text(stderr));
    ensure!(status.success(), "{name}: {status}\n{stdout}{stderr}");
    Ok(Ran {
        stdout,
        seconds,
        cpu,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_stand_behind_a_name_that_may_hold_anything() {
        let stat = "12 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 100 20 3 4 20 0 1";
        assert_eq!(ticks_of(stat), Some(127));
        assert_eq!(ticks_of("12 (short) S 1 2"), None);
    }

    #[test]
    fn idle_time_is_not_busy() {
        let stat = "cpu  1 20 300 4000 50000 600000 7000000 80000000 9 9\ncpu0 1 1 1\n";
        assert_eq!(
            busy_of(stat),
            Some(1 + 20 + 300 + 600_000 + 7_000_000 + 80_000_000)
        );
        assert_eq!(busy_of("cpu  1 2\n"), None);
    }

    #[test]
    fn what_a_program_and_its_children_used_is_read_after_their_end() {
        let script = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done";
        let twice = format!("sh -c '{script}'; sh -c '{script}'; echo done");
        let ran = run(
            Command::new("sh").args(["-c", &twice]),
            Duration::from_secs(60),
        )
        .unwrap();
        assert_eq!(ran.stdout, "done\n");
        assert!(ran.cpu > 0.0 && ran.seconds > 0.0);
    }

    #[test]
    fn a_bad_end_is_an_error_that_shows_what_was_said() {
        let error = run(
            Command::new("sh").args(["-c", "echo no >&2; exit 3"]),
            Duration::from_secs(60),
        );
        assert!(format!("{:#}", error.err().unwrap()).contains("no\n"));
    }
}
