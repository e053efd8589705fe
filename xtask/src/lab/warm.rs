//! `cargo xtask lab warm`: a recorded boot, replayed cold, warm, and after kill -9.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Args;
use serde_json::{Value, json};

use crate::bounded;
use crate::daemon::Daemon;
use crate::lab::Program;
use crate::lab::site::{DiskWork, Ending, Site};
use crate::nodes::Sources;
use crate::repo::Repo;
use crate::tally::Tally;

/// The disk that the traces were recorded from.
const IMAGE_BYTES: u64 = 1536 << 20;
const TRACE: &str = "lab/traces/debian12-bios-1.csv";
/// More than a node has on its way to the cache at a time.
const MOST_IN_FLIGHT: u64 = 16 << 20;
const REPLAY_LIMIT: Duration = Duration::from_secs(300);

/// What is replayed.
#[derive(Args)]
pub(crate) struct WarmArgs {
    /// Another trace of a disk of 1.5 GiB at most.
    #[arg(long, default_value = TRACE, value_name = "FILE")]
    trace: PathBuf,
    /// Print one JSON object instead of the table.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    program: Program,
}

/// Replays the trace; a warm replay must fetch nothing.
pub(crate) fn run(repo: &Repo, args: &WarmArgs) -> Result<Tally> {
    let mut bench = Bench {
        repo,
        vmthunder: args.program.build_release(repo)?,
        work: DiskWork::build(repo)?,
        trace: std::path::absolute(&args.trace)?,
        rows: Vec::new(),
        twice: 0,
    };
    bench.alone()?;
    bench.killed_while_it_reads()?;
    bench.with_a_peer()?;
    match args.json {
        true => {
            let rows: Vec<Value> = bench.rows.iter().map(Row::json).collect();
            println!(
                "{}",
                json!({ "replays": rows, "fetched_twice": bench.twice })
            );
        }
        false => {
            show(&bench.rows);
            println!(
                "killed in the middle: {} bytes came from the origin twice",
                bench.twice
            );
        }
    }
    let mut tally = Tally::default();
    for row in &bench.rows {
        tally.count(row.is_good());
    }
    tally.count(bench.twice <= MOST_IN_FLIGHT);
    Ok(tally)
}

struct Bench<'a> {
    repo: &'a Repo,
    vmthunder: PathBuf,
    work: DiskWork,
    trace: PathBuf,
    rows: Vec<Row>,
    /// What the origin sent once more after a death in the middle.
    twice: u64,
}

/// One replay.
struct Row {
    what: &'static str,
    /// What it may have fetched.
    fetches: Fetches,
    bytes: u64,
    wrong: u64,
    seconds: f64,
    sources: Sources,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fetches {
    /// The cache was empty.
    All,
    /// What was not read before, or on its way to the cache when the node was killed.
    Rest,
    Nothing,
}

impl Bench<'_> {
    /// Everything comes from the origin once.
    fn alone(&mut self) -> Result<()> {
        let mut site = self.site(false)?;
        let url = site.create_instance("vm")?;
        self.replay(&mut site, &url, "alone: cold", Fetches::All)?;
        self.replay(&mut site, &url, "again", Fetches::Nothing)?;
        self.kill(&mut site)?;
        self.replay(&mut site, &url, "after kill -9", Fetches::Nothing)?;
        site.stop()
    }

    /// The node is killed in the middle of the first replay. What the origin had sent is not fetched again but for what
    /// was on its way to the cache.
    fn killed_while_it_reads(&mut self) -> Result<()> {
        let once = self.rows.first().map_or(0, |cold| cold.sources.origin);
        let mut site = self.site(false)?;
        let url = site.create_instance("vm")?;
        let before = site.origin_sent()?;
        let mut command = replay_command(self.repo, &url, &site.image(), &self.trace);
        let reading = Daemon::start(&mut command, site.folder.path(), "replay.log")?;
        let deadline = Instant::now() + REPLAY_LIMIT;
        while site.sources()?.origin < once / 3 {
            ensure!(Instant::now() < deadline, "the replay does not begin");
        }
        self.kill(&mut site)?;
        drop(reading);
        self.replay(&mut site, &url, "killed in the middle", Fetches::Rest)?;
        self.twice = (site.origin_sent()? - before).saturating_sub(once);
        self.replay(&mut site, &url, "again", Fetches::Nothing)?;
        site.stop()
    }

    /// A peer has it all; the node is killed the moment it has read it for the first time.
    fn with_a_peer(&mut self) -> Result<()> {
        let mut site = self.site(true)?;
        let url = site.create_instance("vm")?;
        if let Some(peer) = &mut site.peer {
            let theirs = peer.create_instance("theirs", crate::lab::site::IMAGE)?;
            replay(self.repo, &theirs, &site.image(), &self.trace)?;
        }
        self.replay(&mut site, &url, "a warm peer: cold", Fetches::All)?;
        self.kill(&mut site)?;
        self.replay(&mut site, &url, "killed at once", Fetches::Rest)?;
        self.replay(&mut site, &url, "again", Fetches::Nothing)?;
        site.stop()
    }

    fn site(&self, with_peer: bool) -> Result<Site> {
        Site::start(&self.vmthunder, &self.work, IMAGE_BYTES, 1, with_peer)
    }

    fn kill(&self, site: &mut Site) -> Result<()> {
        site.end_node(Ending::Killed)?;
        site.start_node()
    }

    fn replay(
        &mut self,
        site: &mut Site,
        url: &str,
        what: &'static str,
        fetches: Fetches,
    ) -> Result<()> {
        let before = site.sources()?;
        let said = replay(self.repo, url, &site.image(), &self.trace)?;
        let figure = |name: &str| said[name].as_u64().unwrap_or(u64::MAX);
        self.rows.push(Row {
            what,
            fetches,
            bytes: figure("bytes"),
            wrong: figure("wrong"),
            seconds: said["seconds"].as_f64().unwrap_or(f64::NAN),
            sources: site.sources()?.since(&before),
        });
        Ok(())
    }
}

fn replay_command(repo: &Repo, url: &str, image: &Path, trace: &Path) -> Command {
    let mut command = repo.command("lab/initiator.py");
    command.args(["replay", url]).arg(image).arg(trace);
    command
}

fn replay(repo: &Repo, url: &str, image: &Path, trace: &Path) -> Result<Value> {
    let mut command = replay_command(repo, url, image, trace);
    let said = bounded::succeed(&mut command, REPLAY_LIMIT)?.text();
    let said: Value = serde_json::from_str(&said)?;
    ensure!(said["reads"].as_u64() > Some(0), "nothing was read: {said}");
    Ok(said)
}

impl Row {
    fn is_good(&self) -> bool {
        let fetched = self.sources.fetched();
        let as_expected = match self.fetches {
            Fetches::All => fetched > 0,
            Fetches::Rest => fetched < self.bytes,
            Fetches::Nothing => fetched == 0,
        };
        as_expected && self.wrong == 0
    }

    fn json(&self) -> Value {
        json!({
            "replay": self.what,
            "read_bytes": self.bytes,
            "wrong_reads": self.wrong,
            "seconds": self.seconds,
            "from_cache": self.sources.cache,
            "from_peers": self.sources.peers,
            "from_origin": self.sources.origin,
            "good": self.is_good(),
        })
    }
}

fn show(rows: &[Row]) {
    println!(
        "{:<20} {:>12} {:>12} {:>12} {:>12} {:>6} {:>7}",
        "replay", "read", "from cache", "from peers", "from origin", "wrong", "seconds"
    );
    for row in rows {
        let Sources {
            cache,
            peers,
            origin,
        } = row.sources;
        let verdict = if row.is_good() {
            ""
        } else {
            "  NOT AS IT SHOULD BE"
        };
        println!(
            "{:<20} {:>12} {cache:>12} {peers:>12} {origin:>12} {:>6} {:>7.2}{verdict}",
            row.what, row.bytes, row.wrong, row.seconds
        );
    }
}
