//! A step of `cargo xtask test`: what it is called, what it asks, and how it runs.

use std::time::Instant;

use anyhow::Result;

use crate::repo::Repo;
use crate::tally::Tally;

/// One check that also runs alone, as `cargo xtask NAME`.
pub(crate) struct Step {
    pub(crate) name: &'static str,
    pub(crate) question: &'static str,
    /// Counts tests; an error is a step that failed for another reason than a counted test.
    pub(crate) run: fn(&Repo) -> Result<Tally>,
}

/// Runs the steps one after another, goes on after a failure, and prints the sum as the last line.
pub(crate) fn run_all(repo: &Repo, steps: &[Step]) -> Tally {
    let started = Instant::now();
    let mut sum = Tally::default();
    let mut failed = Vec::new();
    for step in steps {
        let tally = run_one(repo, step);
        if tally.failed > 0 {
            failed.push(step.name);
        }
        sum += tally;
    }
    println!("\nall steps: {:.1} s", started.elapsed().as_secs_f64());
    for name in failed {
        println!("FAILED {name}; repeat with: cargo xtask {name}");
    }
    println!("{sum}");
    sum
}

/// Runs something that is no step, and prints its sum as the last line.
pub(crate) fn alone(run: impl FnOnce() -> Result<Tally>) -> Tally {
    let tally = run().unwrap_or_else(|error| {
        println!("{error:#}");
        Tally::ONE_FAILED
    });
    println!("{tally}");
    tally
}

fn run_one(repo: &Repo, step: &Step) -> Tally {
    println!("\n=== {}: {}", step.name, step.question);
    let started = Instant::now();
    let tally = (step.run)(repo).unwrap_or_else(|error| {
        println!("{error:#}");
        Tally::ONE_FAILED
    });
    let verdict = if tally.failed == 0 { "ok" } else { "FAILED" };
    println!(
        "=== {}: {verdict} ({:.1} s)",
        step.name,
        started.elapsed().as_secs_f64()
    );
    tally
}
