//! `cargo xtask lab warm`: a recorded boot, replayed cold, warm, and after kill -9.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;
use serde_json::{Value, json};

use crate::bounded;
use crate::lab::Program;
use crate::lab::site::{DiskWork, Ending, Site};
use crate::nodes::Sources;
use crate::repo::Repo;
use crate::tally::Tally;

/// The disk that the traces were recorded from.
const IMAGE_BYTES: u64 = 1536 << 20;
const TRACE: &str = "lab/traces/debian12-bios-1.csv";
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
    };
    bench.alone()?;
    bench.with_a_peer()?;
    match args.json {
        true => println!(
            "{}",
            json!(bench.rows.iter().map(Row::json).collect::<Vec<_>>())
        ),
        false => show(&bench.rows),
    }
    let mut tally = Tally::default();
    for row in &bench.rows {
        tally.count(row.is_good());
    }
    Ok(tally)
}

struct Bench<'a> {
    repo: &'a Repo,
    vmthunder: PathBuf,
    work: DiskWork,
    trace: PathBuf,
    rows: Vec<Row>,
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
    /// What was on its way to the cache when the node was killed.
    InFlight,
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
        self.replay(&mut site, &url, "killed at once", Fetches::InFlight)?;
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

fn replay(repo: &Repo, url: &str, image: &Path, trace: &Path) -> Result<Value> {
    let mut command = repo.command("lab/initiator.py");
    command.args(["replay", url]).arg(image).arg(trace);
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
            // A node has at most some MiB under way: far from all.
            Fetches::InFlight => fetched < self.bytes / 4,
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
