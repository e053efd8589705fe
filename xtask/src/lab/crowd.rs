//! `cargo xtask lab crowd`: thousands of half-open logins and idle sessions, and a well-behaved initiator beside them.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use serde_json::{Value, json};

use crate::foreign::{Bench, Served, compare};
use crate::lab::Program;
use crate::repo::Repo;
use crate::script::Script;
use crate::tally::Tally;

/// How long the crowd may take to gather, and to leave.
const GATHER: Duration = Duration::from_secs(240);
/// What the whole crowd may cost: 11,000 connections at 16 KiB each, and the process itself.
const MOST_BYTES: u64 = 192 << 20;
/// How often the well-behaved initiator comes when the crowd is there.
const VISITS: u32 = 5;
/// How long it stays away while the crowd is coming.
const BETWEEN: Duration = Duration::from_secs(1);
/// How long the target is given to notice that the crowd has left.
const AFTER: Duration = Duration::from_secs(3);

/// How many come.
#[derive(Args)]
pub(crate) struct CrowdArgs {
    /// Logins that are begun and never finished.
    #[arg(long, default_value_t = 10_000)]
    half_open: u32,
    /// Sessions that log in and then only answer pings.
    #[arg(long, default_value_t = 1_000)]
    idle: u32,
    /// Print one JSON object instead of the table.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    program: Program,
}

pub(crate) fn run(repo: &Repo, args: &CrowdArgs) -> Result<Tally> {
    let bench = Bench::new(args.program.build_release(repo)?)?;
    let served = bench.serve()?;
    let pid = served.daemon.pid();
    let disk = served.disk.to_string_lossy();
    let mut reader = Script::start(repo, &["reader", &served.url, &disk])?;
    reader.line(GATHER)?;
    let mut rows = vec![visit("before", pid, &served)?];
    let (half_open, idle) = (args.half_open.to_string(), args.idle.to_string());
    let mut crowd = Script::start(
        repo,
        &[
            "crowd",
            &served.url,
            "--half-open",
            &half_open,
            "--idle",
            &idle,
        ],
    )?;
    let deadline = Instant::now() + GATHER;
    let came = loop {
        rows.push(visit("while it comes", pid, &served)?);
        match crowd.line(BETWEEN) {
            Ok(came) => break came,
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_not_yet) => {}
        }
    };
    for _ in 0..VISITS {
        rows.push(visit("when it is there", pid, &served)?);
    }
    let left = crowd.finish(GATHER)?;
    thread::sleep(AFTER);
    rows.push(visit("after it has left", pid, &served)?);
    let read = reader.finish(GATHER)?;
    served.daemon.stop()?;
    let rows = worst(&rows);
    let report = json!({ "crowd": came, "left": left, "reader": read, "visits": rows });
    if args.json {
        println!("{report}");
    } else {
        show(&report, &rows);
    }
    judge(args, &report, &rows)
}

/// The visits of each time, taken together.
fn worst(visits: &[Visit]) -> Vec<Value> {
    let mut rows: Vec<Value> = Vec::new();
    for group in visits.chunk_by(|one, other| one.when == other.when) {
        let slowest = group.iter().map(|visit| visit.took.as_millis()).max();
        let rss = group.iter().map(|visit| visit.rss).max();
        rows.push(json!({
            "when": group[0].when,
            "visits": group.len(),
            "rss": rss,
            "slowest_ms": slowest.and_then(|slowest| u64::try_from(slowest).ok()),
        }));
    }
    rows
}

fn show(report: &Value, rows: &[Value]) {
    println!("crowd: {} · {}", report["crowd"], report["left"]);
    println!("one session that reads all the time: {}", report["reader"]);
    println!(
        "{:<18} {:>12} {:>8} {:>20}",
        "", "RSS MiB", "visits", "slowest visit, ms"
    );
    for row in rows {
        let mib = row["rss"].as_f64().unwrap_or(f64::NAN) / f64::from(1 << 20);
        let when = row["when"].as_str().unwrap_or_default();
        let (visits, slowest) = (row["visits"].to_string(), row["slowest_ms"].to_string());
        println!("{when:<18} {mib:>12.1} {visits:>8} {slowest:>20}");
    }
}

fn judge(args: &CrowdArgs, report: &Value, rows: &[Value]) -> Result<Tally> {
    let crowd = &report["crowd"];
    ensure!(
        crowd["idle"] == args.idle,
        "sessions were refused: {report}"
    );
    ensure!(
        report["left"]["idle_lost"] == 0,
        "sessions were lost: {report}"
    );
    let most = rows.iter().filter_map(|row| row["rss"].as_u64()).max();
    ensure!(
        most.is_some_and(|most| most < MOST_BYTES),
        "more than {MOST_BYTES} bytes: {report}"
    );
    Ok(Tally {
        passed: u32::try_from(rows.len())?,
        failed: 0,
    })
}

/// What it was like for a well-behaved initiator.
struct Visit {
    when: &'static str,
    took: Duration,
    rss: u64,
}

/// QEMU logs in, compares every byte and leaves.
fn visit(when: &'static str, pid: u32, served: &Served) -> Result<Visit> {
    let started = Instant::now();
    compare(&served.disk, &served.url).context(when)?;
    Ok(Visit {
        when,
        took: started.elapsed(),
        rss: resident_bytes(pid)?,
    })
}

/// What of a process is in memory.
pub(super) fn resident_bytes(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .context("the process has a VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024)
}
