//! `cargo xtask bench`: this program and its peers side by side, in ratios.

mod case;
mod cases;
mod conditions;
pub(crate) mod cpu;
mod disk;
mod drivers;
mod images;
pub(crate) mod page;
pub(crate) mod plot;
mod servers;
pub(crate) mod statistics;
mod table;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use tempfile::TempDir;

use crate::bounded;
use crate::foreign;
use crate::packages;
use crate::repo::Repo;
use case::{Case, Side, Turn};
use cases::CASES;
use conditions::Conditions;
use servers::Stand;
use statistics::Outcome;

/// What is measured.
#[derive(Args)]
pub(crate) struct Bench {
    /// Only the cases whose names begin like this, for example `copy` or `initiator-random-32`.
    #[arg(value_name = "CASE")]
    names: Vec<String>,
    /// How often everybody has a turn.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..=100))]
    rounds: u8,
    /// Two rounds of short turns: does it run, and how do the ratios look about?
    #[arg(long, conflicts_with = "rounds")]
    quick: bool,
    /// Seconds of a turn.
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 3.0,
        conflicts_with = "quick"
    )]
    seconds: f64,
    /// How often a turn is repeated that others disturbed.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(0..=100))]
    retries: u8,
    /// Name the cases and what they compare.
    #[arg(long)]
    list: bool,
    /// Print one JSON object instead of tables.
    #[arg(long)]
    json: bool,
    /// Write docs/performance.md, which needs all cases.
    #[arg(long, conflicts_with_all = ["quick", "names"])]
    write: bool,
    /// Where the disks lie while they are measured. In memory, else the disk would be measured as well.
    #[arg(long, value_name = "FOLDER", default_value = "/dev/shm")]
    folder: PathBuf,
    /// A `vmthunder` that is built already, as users run it; without it the tree's own is built.
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
}

/// What all cases share.
struct Room {
    vmthunder: PathBuf,
    /// lab/load, built.
    load: PathBuf,
    folder: TempDir,
    /// Seconds of a turn.
    seconds: f64,
    rounds: u8,
    /// How often a disturbed turn is repeated.
    retries: u8,
    /// Bytes that reads and writes go to.
    span: u64,
    /// Bytes of a disk that is copied; a sparse one has four times as many.
    copied: u64,
}

/// True if everything could be measured, and every byte was what it should be; a goal that is missed is no failure.
pub(crate) fn run(repo: &Repo, asked: &Bench) -> Result<bool> {
    let is_asked = |case: &&Case| {
        let mut names = asked.names.iter();
        asked.names.is_empty() || names.any(|name| case.name.starts_with(name.as_str()))
    };
    let cases: Vec<&Case> = CASES.iter().filter(is_asked).collect();
    ensure!(
        !cases.is_empty(),
        "no case is called {:?}; see --list",
        asked.names
    );
    if asked.list {
        print!("{}", table::list(&cases));
        return Ok(true);
    }
    let room = Room::new(repo, asked)?;
    let conditions = Conditions::read(repo, &room)?;
    let mut outcomes = Vec::new();
    let mut failed = Vec::new();
    for case in cases {
        match measure(&room, case) {
            Ok(outcome) => {
                if !asked.json {
                    println!("{}", table::case(&outcome));
                }
                outcomes.push(outcome);
            }
            Err(error) => {
                eprintln!("FAILED {}: {error:#}", case.name);
                failed.push(case.name);
            }
        }
    }
    if asked.json {
        println!("{}", table::json(&conditions, &outcomes, &failed));
    } else {
        println!("{conditions}\n{}", table::sum(&outcomes));
    }
    if asked.write {
        ensure!(failed.is_empty(), "nothing was written: {failed:?} failed");
        page::write(repo, &conditions, &outcomes)?;
    }
    for name in &failed {
        eprintln!("FAILED {name}; repeat with: cargo xtask bench {name}");
    }
    Ok(failed.is_empty())
}

impl Room {
    fn new(repo: &Repo, asked: &Bench) -> Result<Self> {
        ensure!(
            (0.1..=600.0).contains(&asked.seconds),
            "--seconds: from 0.1 to 600"
        );
        let missing: Vec<&str> = PACKAGES
            .iter()
            .copied()
            .filter(|name| packages::installed(name).is_none())
            .collect();
        ensure!(
            missing.is_empty(),
            "peers are missing; type: sudo apt-get install --no-install-recommends {}",
            missing.join(" ")
        );
        let vmthunder = match &asked.program {
            Some(program) => fs::canonicalize(program)
                .with_context(|| format!("--program {}", program.display()))?,
            None => foreign::build_release(repo)?,
        };
        Ok(Self {
            vmthunder,
            load: build_load(repo)?,
            folder: tempfile::Builder::new()
                .prefix("vmthunder-bench.")
                .tempdir_in(&asked.folder)
                .with_context(|| format!("--folder {}", asked.folder.display()))?,
            seconds: if asked.quick { 1.0 } else { asked.seconds },
            rounds: if asked.quick { 2 } else { asked.rounds },
            retries: if asked.quick { 0 } else { asked.retries },
            span: if asked.quick { 128 * MIB } else { 512 * MIB },
            copied: if asked.quick { 256 * MIB } else { 512 * MIB },
        })
    }
}

/// Compiles lab/load into `.build/lab`.
fn build_load(repo: &Repo) -> Result<PathBuf> {
    let folder = repo.root.join(".build/lab");
    fs::create_dir_all(&folder)?;
    let load = folder.join("load");
    let mut cc = repo.command("cc");
    cc.args(["-O2", "-Wall", "-Wextra", "-Werror", "-o"])
        .arg(&load);
    cc.args(["lab/load/load.c", "-liscsi", "-lpthread"]);
    bounded::succeed(&mut cc, BUILD)?;
    Ok(load)
}

/// A B A B: every side has its turn in every round.
fn measure<'a>(room: &Room, case: &'a Case) -> Result<Outcome<'a>> {
    let disk = servers::write_disk(room, case.work)?;
    let stand = |side: &Side| {
        Stand::new(room, side.server, case.work, disk.path()).with_context(|| side.name)
    };
    let stands: Result<Vec<Stand<'_>>> = case.sides.iter().map(stand).collect();
    let stands = stands?;
    let mut turns = vec![Vec::new(); case.sides.len()];
    for round in 0..room.rounds {
        for ((side, stand), turns) in case.sides.iter().zip(&stands).zip(&mut turns) {
            let turn = patient_turn(room, case, side, stand, round).with_context(|| side.name)?;
            eprintln!(
                "{}, round {}, {}: {}",
                case.name,
                round + 1,
                side.name,
                table::turn(case.work, &turn)
            );
            turns.push(turn);
        }
    }
    for stand in stands {
        stand.close()?;
    }
    Ok(Outcome { case, turns })
}

/// A turn; one that was disturbed is repeated.
fn patient_turn(
    room: &Room,
    case: &Case,
    side: &Side,
    stand: &Stand<'_>,
    round: u8,
) -> Result<Turn> {
    let mut best: Option<Turn> = None;
    for _ in 0..=room.retries {
        let open = stand.open()?;
        let turn = drivers::drive(room, side.driver, case.work, &open, round + 1)?;
        open.close()?;
        let is_disturbed = turn.is_disturbed();
        if best.as_ref().is_none_or(|best| turn.others < best.others) {
            best = Some(turn);
        }
        if !is_disturbed {
            break;
        }
    }
    match best {
        Some(turn) => Ok(turn),
        None => bail!("no turn"),
    }
}

/// What the peers come in.
const PACKAGES: &[&str] = &[
    "tgt",
    "libiscsi-bin",
    "libiscsi-dev",
    "qemu-utils",
    "qemu-block-extra",
];
const MIB: u64 = 1 << 20;
/// Compiling lab/load.
const BUILD: Duration = Duration::from_secs(120);
