//! `cargo xtask soak crash`: the crash runs of the crate `cache`, over many seeds.

use std::io::{IsTerminal as _, Write as _, stderr};
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::bounded;
use crate::repo::Repo;

/// What the command line asks for.
#[derive(clap::Args)]
pub(crate) struct Crash {
    /// How many workloads.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    seeds: u32,
    /// The first one: what a violation names, to see it again.
    #[arg(long, default_value_t = 0)]
    seed: u32,
}

/// Compiling, and what a seed may take on a slow machine.
const SPARE: Duration = Duration::from_secs(1200);
const SEED_LIMIT: Duration = Duration::from_secs(60);
/// Columns of the bar.
const BAR: u32 = 40;

/// What the runs say of themselves.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sum {
    seeds: u32,
    cuts: u64,
    violations: u32,
}

/// Runs the seeds; the last line is `N seeds, M cuts, V violations`.
pub(crate) fn run(repo: &Repo, asked: &Crash) -> Result<bool> {
    let mut command = repo.cargo(["test", "--quiet", "--package", "vmthunder-cache", "--lib"]);
    command.args([
        "--",
        "--ignored",
        "--exact",
        "crash::campaign",
        "--nocapture",
    ]);
    command
        .env("CRASH_FIRST_SEED", asked.seed.to_string())
        .env("CRASH_SEEDS", asked.seeds.to_string())
        // The runs are all arithmetic; only this workspace is compiled anew for it.
        .env("CARGO_PROFILE_DEV_OPT_LEVEL", "2");
    let mut sum = Sum::default();
    let limit = SPARE + SEED_LIMIT * asked.seeds;
    let status = bounded::lines(&mut command, limit, |line| {
        if line.starts_with("VIOLATION") {
            println!("{line}");
        }
        if sum.take(line) {
            show(&sum, asked.seeds);
        }
    })?;
    if stderr().is_terminal() {
        eprintln!();
    }
    ensure!(
        sum.seeds == asked.seeds && status.success() == (sum.violations == 0),
        "the runs ended early, after {} of {} seeds; see it with\n  \
         CRASH_FIRST_SEED={} CRASH_SEEDS=1 cargo test --package vmthunder-cache --lib -- --ignored crash::campaign",
        sum.seeds,
        asked.seeds,
        asked.seed + sum.seeds,
    );
    if sum.violations > 0 {
        println!("repeat one with: cargo xtask soak crash --seeds 1 --seed S");
    }
    println!(
        "{} seeds, {} cuts, {} violations",
        sum.seeds, sum.cuts, sum.violations
    );
    Ok(sum.violations == 0)
}

impl Sum {
    /// True if the line was the end of a seed.
    fn take(&mut self, line: &str) -> bool {
        if line.starts_with("VIOLATION seed ") {
            self.violations += 1;
        }
        let cuts = line
            .strip_prefix("seed ")
            .and_then(|line| line.split_once(": "))
            .and_then(|(_, cuts)| cuts.strip_suffix(" cuts")?.parse::<u64>().ok());
        let Some(cuts) = cuts else {
            return false;
        };
        self.seeds += 1;
        self.cuts += cuts;
        true
    }
}

fn show(sum: &Sum, seeds: u32) {
    if !stderr().is_terminal() {
        return;
    }
    let done =
        usize::try_from(u64::from(sum.seeds) * u64::from(BAR) / u64::from(seeds)).unwrap_or(0);
    let bar = format!("{:<40}", "#".repeat(done));
    eprint!(
        "\r[{bar}] {}/{seeds} seeds, {} cuts, {} violations",
        sum.seeds, sum.cuts, sum.violations
    );
    // Who cannot see the bar misses nothing.
    stderr().flush().ok();
}

#[cfg(test)]
mod tests {
    use super::Sum;

    #[test]
    fn counts_what_the_runs_say() {
        let mut sum = Sum::default();
        for (line, ends) in [
            ("running 1 test", false),
            ("seed 3: 1200 cuts", true),
            ("seed 4: 800 cuts", true),
            ("VIOLATION seed 4: store: (1, 5) is lost: 7 cuts", false),
            ("test crash::campaign ... FAILED", false),
        ] {
            assert_eq!(sum.take(line), ends, "{line}");
        }
        assert_eq!(
            sum,
            Sum {
                seeds: 2,
                cuts: 2000,
                violations: 1
            }
        );
    }
}
