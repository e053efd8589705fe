//! `cargo xtask lab storm`: real nodes on hosts with limited links boot their guests at once.

mod boot;
mod cluster;
mod figures;
mod net;
mod page;
mod predict;
mod table;
mod turn;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;
use serde_json::{Value, json};

use self::boot::Boot;
use self::cluster::Stage;
use self::figures::{FRAMING, Figures, Row, Scale};
use self::net::Net;
use self::turn::{Fault, Kind, Plan, Turn};
use crate::bounded;
use crate::lab::Program;
use crate::repo::Repo;
use crate::tally::Tally;

/// Where the lab's files lie while it is up.
const FOLDER: &str = ".build/lab/storm";
/// Hashing the image.
const IMPORT_LIMIT: Duration = Duration::from_secs(300);
/// A run that is void is repeated, up to so many runs for one that was asked for.
const TRIES: u32 = 2;

/// Which storm.
#[derive(Args)]
pub(crate) struct StormArgs {
    /// How many nodes boot at once, each on a host of its own.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(2..=1000))]
    nodes: u32,
    /// The link of each host, each way.
    #[arg(long, value_name = "RATE", default_value = "80Mbit", value_parser = rate)]
    rate: u32,
    /// The link of the origin; without it that of a node.
    #[arg(long, value_name = "RATE", value_parser = rate)]
    origin_rate: Option<u32>,
    /// Storms that count, of which the median is told; 0 for none but those asked for below.
    #[arg(long, default_value_t = 5)]
    runs: u32,
    /// What every guest does: a trace of lab/traces, or a file of that form.
    #[arg(long, value_name = "NAME", default_value = "debian12-bios-1")]
    trace: String,
    /// Scales the time that the recorded guest took for itself. Without it that time is made as long as a node's link needs
    /// for what a boot reads.
    #[arg(long, value_name = "X", value_parser = pace)]
    pace: Option<f64>,
    /// The guests begin one after the other, within so many seconds.
    #[arg(long, value_name = "SECONDS", default_value = "0", value_parser = seconds)]
    spread: Duration,
    /// Once with every node reading from the origin alone, too.
    #[arg(long)]
    star: bool,
    /// Once with a single guest and all links to itself, too.
    #[arg(long)]
    alone: bool,
    /// Once with each of these, too.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "LIST")]
    faults: Vec<Fault>,
    /// Put the figures into docs/storm.md, in place of older ones of the same storms.
    #[arg(long)]
    write: bool,
    /// Print one JSON object with every node of every run instead of the table.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    program: Program,
}

/// Runs all storms that are asked for; one check for each kind: no guest saw an error or a wrong byte, and there is a run
/// that counts.
pub(crate) fn run(repo: &Repo, args: &StormArgs) -> Result<Tally> {
    // Before minutes of compiling.
    possible()?;
    let vmthunder = std::path::absolute(args.program.build_release(repo)?)?;
    let boot = Boot::load(repo, &args.trace)?;
    let (rows, mut told) = measure(repo, args, &boot, &vmthunder)?;
    told["simulated"] = predict::predict(&vmthunder, args, &boot, &told["pace"])?;
    if args.write {
        page::write(repo, &told)?;
    }
    if args.json {
        let runs = rows.iter().flat_map(|row| &row.turns);
        told["runs"] = runs.map(|(turn, _)| figures::nodes(turn)).collect();
        println!("{told}");
    } else {
        table::show(&told);
    }
    let mut tally = Tally::default();
    for row in &rows {
        tally.count(row.is_sound() && !row.is_void());
    }
    Ok(tally)
}

/// Makes the lab, runs what is asked for, and takes the lab away; all storms, and what is told of them.
fn measure(
    repo: &Repo,
    args: &StormArgs,
    boot: &Boot,
    vmthunder: &Path,
) -> Result<(Vec<Row>, Value)> {
    let origin_rate = args.origin_rate.unwrap_or(args.rate);
    let on_link = boot.working_set() as f64 * FRAMING * 8e-6;
    let link = on_link / f64::from(args.rate.min(origin_rate));
    let pace = args.pace.unwrap_or_else(|| match boot.own_seconds {
        0.0 => 0.0,
        own => on_link / f64::from(args.rate) / own,
    });
    let scale = Scale {
        working_set: boot.working_set(),
        bound: link.max(boot.own_seconds * pace),
    };
    let folder = repo.root.join(FOLDER);
    let net = Net::up(repo, folder, args.nodes, args.rate, origin_rate)?;
    let (image, manifest) = (net.folder.join("image.raw"), net.folder.join("manifest"));
    boot.image(&image)?;
    let mut import = Command::new(vmthunder);
    import.args(["image", "import"]).arg(&image);
    bounded::succeed(import.arg("--manifest").arg(&manifest), IMPORT_LIMIT)?;
    let plan = Plan {
        net: &net,
        stage: Stage {
            vmthunder,
            boot,
            image,
            manifest,
            nodes: args.nodes,
            pace,
        },
        spread: args.spread,
        bound: Duration::from_secs_f64(scale.bound),
    };
    let rows = all(args, &plan, scale)?;
    net.down()?;
    let told = json!({
        "nodes": args.nodes,
        "rate_mbit": args.rate,
        "origin_rate_mbit": origin_rate,
        "trace": boot.name,
        "pace": pace,
        "spread_seconds": args.spread.as_secs_f64(),
        "working_set_bytes": boot.working_set(),
        "framing": FRAMING,
        "link_seconds": link,
        "own_seconds": boot.own_seconds * pace,
        "bound_seconds": scale.bound,
        "storms": rows.iter().map(|row| row.json(scale)).collect::<Vec<_>>(),
    });
    Ok((rows, told))
}

/// What makes storms impossible here, if anything does.
pub(crate) fn possible() -> Result<()> {
    Net::possible()
}

/// A storm of four nodes that is over in seconds, and one with a cache that rots: no error, no wrong byte, and the origin
/// sends less than it would to each.
pub(crate) fn small(repo: &Repo, vmthunder: &Path, trace: &Path) -> Result<()> {
    let args = StormArgs {
        nodes: 4,
        rate: 400,
        origin_rate: None,
        runs: 1,
        trace: trace.display().to_string(),
        pace: None,
        spread: Duration::ZERO,
        star: false,
        alone: false,
        faults: vec![Fault::Corrupt],
        write: false,
        json: false,
        program: Program { program: None },
    };
    let boot = Boot::load(repo, &args.trace)?;
    let (rows, told) = measure(repo, &args, &boot, vmthunder)?;
    ensure!(rows.iter().all(Row::is_sound), "{told:#}");
    let copies = median(&told["storms"][0], "origin_copies");
    // A star would take four; on a machine that is busy elsewhere a slow peer is passed now and then.
    ensure!(
        copies < 3.0,
        "the origin sent {copies} working sets: {told:#}"
    );
    Ok(())
}

/// Every kind of storm that is asked for.
fn all(args: &StormArgs, plan: &Plan<'_>, scale: Scale) -> Result<Vec<Row>> {
    let faults = args.faults.iter().map(|fault| Kind::Fault(*fault));
    let others = [(args.alone, Kind::Alone), (args.star, Kind::Star)];
    let others = others.into_iter().filter(|(asked, _)| *asked);
    let kinds = [(args.runs > 0, Kind::Swarm)].into_iter().chain(others);
    let kinds = kinds.filter(|(asked, _)| *asked).map(|(_, kind)| kind);
    let kinds: Vec<Kind> = kinds.chain(faults).collect();
    ensure!(!kinds.is_empty(), "--runs 0, and nothing else is asked for");
    let mut rows = Vec::new();
    let mut number = 0;
    for kind in kinds {
        let wanted = if kind == Kind::Swarm { args.runs } else { 1 };
        let mut turns: Vec<(Turn, Figures)> = Vec::new();
        let mut counted = 0;
        for _ in 0..wanted.saturating_mul(TRIES) {
            if counted == wanted {
                break;
            }
            number += 1;
            let folder = plan.net.folder.join(format!("turn-{number}"));
            let turn = plan.play(kind, folder)?;
            let figures = Figures::of(&turn, scale);
            eprintln!("{}", table::progress(&turn, &figures, scale));
            counted += u32::from(!turn.is_void());
            turns.push((turn, figures));
        }
        rows.push(Row { kind, turns });
    }
    Ok(rows)
}

/// Mbit/s.
fn rate(text: &str) -> Result<u32, String> {
    let wrong = || "a whole number of Mbit or Gbit per second, for example 80Mbit".to_owned();
    let lower = text.to_ascii_lowercase();
    let (number, factor) = match lower.strip_suffix("gbit") {
        Some(number) => (number, 1000),
        None => (lower.strip_suffix("mbit").ok_or_else(wrong)?, 1),
    };
    let number: u32 = number.parse().map_err(|_| wrong())?;
    match number.checked_mul(factor) {
        Some(rate @ 1..=100_000) => Ok(rate),
        _ => Err("from 1Mbit to 100Gbit".to_owned()),
    }
}

fn pace(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(pace) if (0.0..=1000.0).contains(&pace) => Ok(pace),
        _ => Err("a number from 0 to 1000".to_owned()),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=3600.0).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("seconds, from 0 to 3600".to_owned()),
    }
}

/// A figure of a kind of storm, as [`Row::json`] writes it.
fn median(storm: &Value, name: &str) -> f64 {
    storm[name]["median"].as_f64().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::rate;

    #[test]
    fn rates_have_units() {
        assert_eq!(rate("80Mbit"), Ok(80));
        assert_eq!(rate("1gbit"), Ok(1000));
        for wrong in ["80", "0Mbit", "1.5Gbit", "-1Mbit", "Mbit", "4294968Gbit"] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
    }
}
