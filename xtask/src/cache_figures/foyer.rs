//! The same reads through our cache and through foyer's, on the same disk, in turn: `lab/foyer` plays them.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::bounded;
use crate::repo::Repo;

/// Compiling foyer and what it needs.
const BUILD_LIMIT: Duration = Duration::from_secs(1800);
/// Playing one sequence of reads.
const PLAY_LIMIT: Duration = Duration::from_secs(600);
/// How often each plays each; medians are shown.
const ROUNDS: usize = 3;
/// Sequences, by the names of their files.
const CASES: [(&str, &str); 3] = [
    ("scans", "boots, full scans between"),
    ("images", "210 boots of 40 images"),
    ("zipf", "zipf 0.9"),
];
/// What the cache may take, in percent of what is read at all.
const SIZES: [u64; 2] = [10, 25];
const EXTENT: u32 = 65_536;
const GIBIBYTE: f64 = 1_073_741_824.0;
const MEBIBYTE: f64 = 1_048_576.0;

/// What a program printed in each round, and in the round after its death.
#[derive(Default)]
struct Rounds {
    played: Vec<Value>,
    again: Vec<Value>,
}

/// The table.
pub(super) fn table(repo: &Repo) -> Result<String> {
    let program = build(repo)?;
    let folder = tempfile::tempdir_in(repo.root.join(".build"))?;
    let mut figures = super::figures(repo);
    bounded::succeed(figures.env("READS_INTO", folder.path()), super::LIMIT)?;
    let mut table = "| reads | cache | | fetched | seconds | CPU seconds | hits, MiB/s | CPU ms per GiB of hits | most memory \
                     | opened after a kill | hits lost by it |\n|---|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|\n"
        .to_owned();
    for (file, name) in CASES {
        let reads = folder.path().join(file);
        let all = distinct(&reads)? * u64::from(EXTENT);
        for percent in SIZES {
            // foyer's log has blocks of 16 MiB.
            let bytes = (all * percent / 100).next_multiple_of(16 << 20);
            let (ours, foyer) = compare(&program, folder.path(), &reads, bytes)?;
            for (who, rounds) in [("ours", ours), ("foyer", foyer)] {
                let row = row(&rounds)?;
                table += &format!("| {name} | {} MiB | {who} | {row} |\n", bytes >> 20);
            }
        }
    }
    Ok(table)
}

/// How many extents are read.
fn distinct(reads: &Path) -> Result<u64> {
    let bytes = fs::read(reads).with_context(|| reads.display().to_string())?;
    let distinct: HashSet<&[u8]> = bytes.chunks_exact(8).collect();
    Ok(distinct.len() as u64)
}

fn build(repo: &Repo) -> Result<PathBuf> {
    eprintln!("building lab/foyer");
    let target = repo.root.join(".build/foyer");
    let mut cargo = repo.cargo(["build", "--release", "--locked"]);
    cargo.current_dir(repo.root.join("lab/foyer"));
    bounded::succeed(cargo.env("CARGO_TARGET_DIR", &target), BUILD_LIMIT)?;
    Ok(target.join("release/vmthunder-lab-foyer"))
}

/// Both in turn, again and again.
fn compare(program: &Path, folder: &Path, reads: &Path, bytes: u64) -> Result<(Rounds, Rounds)> {
    let (mut ours, mut foyer) = (Rounds::default(), Rounds::default());
    for round in 1..=ROUNDS {
        for (engine, rounds) in [("ours", &mut ours), ("foyer", &mut foyer)] {
            eprintln!(
                "{engine}, {}, {} MiB, round {round}",
                reads.display(),
                bytes >> 20
            );
            let place = tempfile::tempdir_in(folder)?;
            let run = |phase: &str| play(program, [engine, phase], reads, place.path(), bytes);
            rounds.played.push(run("play")?);
            rounds.again.push(run("again")?);
        }
    }
    Ok((ours, foyer))
}

fn play(program: &Path, what: [&str; 2], reads: &Path, folder: &Path, bytes: u64) -> Result<Value> {
    let mut command = Command::new(program);
    command.args(what).arg("--reads").arg(reads);
    command.arg("--folder").arg(folder);
    command.arg("--bytes").arg(bytes.to_string());
    // It dies by its own hand after it has spoken: what it printed tells whether it came so far.
    let finished = bounded::output(&mut command, PLAY_LIMIT)?;
    let said = serde_json::from_slice(&finished.stdout);
    said.with_context(|| format!("{}: {}", finished.status, finished.stderr))
}

fn row(rounds: &Rounds) -> Result<String> {
    let played = |of: &dyn Fn(&Value) -> Option<f64>| median(&rounds.played, of);
    let again = |of: &dyn Fn(&Value) -> Option<f64>| median(&rounds.again, of);
    let share = |part: &str, whole: &str| {
        let (part, whole) = (part.to_owned(), whole.to_owned());
        move |round: &Value| Some(number(round, &part)? * 100.0 / number(round, &whole)?)
    };
    let hits = |round: &Value| {
        let answered = number(round, "warm_reads")? - number(round, "warm_fetched")?;
        Some(answered * f64::from(EXTENT))
    };
    let lost = again(&share("fetched", "reads"))? - played(&share("warm_fetched", "warm_reads"))?;
    Ok(format!(
        "{:.1} % | {:.1} | {:.1} | {:.0} | {:.0} | {:.0} MiB | {:.2} s | {:.1} %",
        played(&share("fetched", "reads"))?,
        played(&|round| number(round, "seconds"))?,
        played(&|round| number(round, "cpu_seconds"))?,
        played(&|round| Some(hits(round)? / MEBIBYTE / number(round, "warm_seconds")?))?,
        played(&|round| Some(
            number(round, "warm_cpu_seconds")? * 1000.0 * GIBIBYTE / hits(round)?
        ))?,
        played(&|round| Some(number(round, "peak_bytes")? / MEBIBYTE))?,
        again(&|round| number(round, "open_seconds"))?,
        lost.max(0.0),
    ))
}

fn number(round: &Value, name: &str) -> Option<f64> {
    round.get(name)?.as_f64()
}

fn median(rounds: &[Value], of: &dyn Fn(&Value) -> Option<f64>) -> Result<f64> {
    let mut all: Vec<f64> = rounds.iter().filter_map(of).collect();
    ensure!(
        !all.is_empty() && all.len() == rounds.len(),
        "a figure is missing: {rounds:?}"
    );
    all.sort_by(f64::total_cmp);
    Ok(all[all.len() / 2])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Rounds, row};

    #[test]
    fn a_row_shows_medians() {
        let played = |fetched: u32| {
            json!({
                "reads": 100, "fetched": fetched, "seconds": 2.0, "cpu_seconds": 1.0, "warm_reads": 16384,
                "warm_fetched": 0, "warm_seconds": 0.5, "warm_cpu_seconds": 0.25, "peak_bytes": 10 << 20,
            })
        };
        let again = json!({ "open_seconds": 0.125, "reads": 50, "fetched": 5 });
        let rounds = Rounds {
            played: vec![played(90), played(10), played(20)],
            again: vec![again.clone(), again.clone(), again],
        };
        assert_eq!(
            row(&rounds).unwrap(),
            "20.0 % | 2.0 | 1.0 | 2048 | 250 | 10 MiB | 0.12 s | 10.0 %"
        );
        assert!(row(&Rounds::default()).is_err());
    }
}
