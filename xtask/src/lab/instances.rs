//! `cargo xtask lab instances`: a thousand instances on one node.

use std::fs::{self, File};
use std::io::Write as _;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use serde_json::{Value, json};

use crate::bench::cpu;
use crate::bounded;
use crate::lab::Program;
use crate::lab::crowd::resident_bytes;
use crate::lab::site::{DiskWork, Ending, Site};
use crate::repo::Repo;
use crate::tally::Tally;

const IMAGE_BYTES: u64 = 64 << 20;
/// How long idle CPU is measured.
const IDLE: Duration = Duration::from_secs(30);
/// How long all logins and reads may take.
const EACH_LIMIT: Duration = Duration::from_secs(300);

/// How many.
#[derive(Args)]
pub(crate) struct InstancesArgs {
    /// Instances.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u16).range(1..=1000))]
    count: u16,
    /// Print one JSON object instead of the table.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    program: Program,
}

/// Creates them, measures, and logs in to each of them.
pub(crate) fn run(repo: &Repo, args: &InstancesArgs) -> Result<Tally> {
    let vmthunder = args.program.build_release(repo)?;
    let work = DiskWork::build(repo)?;
    let mut site = Site::start(&vmthunder, &work, IMAGE_BYTES, 1, false)?;
    let count = usize::from(args.count);
    let before = Use::of(site.node()?.daemon.pid())?;
    let (urls, created) = site.create_instances("vm", count)?;
    let pid = site.node()?.daemon.pid();
    let after = Use::of(pid)?;
    thread::sleep(IDLE);
    let idle = Use::of(pid)?;
    let used = each(repo, &site, &urls)?;
    let served = Use::of(pid)?;
    let asked = restart(&mut site, Ending::Asked)?;
    let killed = restart(&mut site, Ending::Killed)?;
    let again = each(repo, &site, &urls)?;
    let started = Use::of(site.node()?.daemon.pid())?;
    site.stop()?;

    let cpu = (idle.cpu - after.cpu) / IDLE.as_secs_f64();
    let report = json!({
        "count": count,
        "create_seconds": created.as_secs_f64(),
        "resident_bytes_before": before.resident,
        "resident_bytes": after.resident,
        "resident_bytes_per_instance": after.resident.saturating_sub(before.resident) / u64::from(args.count),
        "resident_bytes_after_reads": served.resident,
        "resident_bytes_after_restart": started.resident,
        "open_files_before": before.files,
        "open_files": after.files,
        "idle_cpu_percent": cpu * 100.0,
        "restart_seconds": asked.as_secs_f64(),
        "restart_after_kill_seconds": killed.as_secs_f64(),
        "luns": used["luns"],
        "wrong": [used["wrong"], again["wrong"]],
    });
    match args.json {
        true => println!("{report}"),
        false => show(&report),
    }
    let right = |seen: &Value| seen["luns"] == count && seen["wrong"] == 0;
    ensure!(right(&used) && right(&again), "wrong bytes: {report}");
    Ok(Tally {
        passed: 2 * u32::from(args.count),
        failed: 0,
    })
}

fn show(report: &Value) {
    let mib = |name: &str| report[name].as_f64().unwrap_or(f64::NAN) / f64::from(1 << 20);
    let kib = |name: &str| report[name].as_f64().unwrap_or(f64::NAN) / 1024.0;
    let plain = |name: &str| report[name].as_f64().unwrap_or(f64::NAN);
    println!("instances                      {:>8}", report["count"]);
    println!(
        "create --count, seconds        {:>8.2}",
        plain("create_seconds")
    );
    println!(
        "memory before, MiB             {:>8.1}",
        mib("resident_bytes_before")
    );
    println!(
        "memory with them, MiB          {:>8.1}",
        mib("resident_bytes")
    );
    println!(
        "  for each, KiB                {:>8.1}",
        kib("resident_bytes_per_instance")
    );
    println!(
        "  after a login to each, MiB   {:>8.1}",
        mib("resident_bytes_after_reads")
    );
    println!(
        "  after a restart, MiB         {:>8.1}",
        mib("resident_bytes_after_restart")
    );
    println!(
        "open files before              {:>8}",
        report["open_files_before"]
    );
    println!("open files with them           {:>8}", report["open_files"]);
    println!(
        "idle CPU, % of one core        {:>8.2}",
        plain("idle_cpu_percent")
    );
    println!(
        "restart, seconds               {:>8.2}",
        plain("restart_seconds")
    );
    println!(
        "restart after kill -9, seconds {:>8.2}",
        plain("restart_after_kill_seconds")
    );
    println!(
        "LUNs read, wrong blocks        {:>8} {}",
        report["luns"], report["wrong"]
    );
}

/// From the start of the program until every instance is announced.
fn restart(site: &mut Site, ending: Ending) -> Result<Duration> {
    site.end_node(ending)?;
    let began = Instant::now();
    site.start_node()?;
    Ok(began.elapsed())
}

/// Logs in to every instance and compares its first block with the image's.
fn each(repo: &Repo, site: &Site, urls: &[String]) -> Result<Value> {
    let (first, others) = urls.split_first().context("an instance")?;
    let list = site.folder.path().join("urls");
    File::create(&list)?.write_all(others.join("\n").as_bytes())?;
    let mut command = repo.command("lab/initiator.py");
    command.args(["each", first]).arg(site.image());
    let stdin = Stdio::from(File::open(&list)?);
    let said = bounded::succeed_with(&mut command, stdin, EACH_LIMIT)?.text();
    Ok(serde_json::from_str(&said)?)
}

/// What a process takes.
struct Use {
    resident: u64,
    files: usize,
    /// Seconds of a processor.
    cpu: f64,
}

impl Use {
    fn of(pid: u32) -> Result<Self> {
        Ok(Self {
            resident: resident_bytes(pid)?,
            files: fs::read_dir(format!("/proc/{pid}/fd"))?.count(),
            cpu: cpu::used(pid)?,
        })
    }
}
