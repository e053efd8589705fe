//! Step `unit`: cargo's own tests, and what they say about themselves.

use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::bounded;
use crate::repo::Repo;
use crate::step::Step;
use crate::tally::Tally;

pub(crate) const STEP: Step = Step {
    name: "unit",
    question: "do the tests of every crate pass?",
    run,
};

/// Compiling everything on two cores is most of it.
const LIMIT: Duration = Duration::from_secs(1200);

fn run(repo: &Repo) -> Result<Tally> {
    // xtask's own tests are the step `tidy`.
    cargo_test(&mut repo.cargo([
        "test",
        "--quiet",
        "--no-fail-fast",
        "--workspace",
        "--exclude",
        "xtask",
    ]))
}

/// Runs `cargo test` and adds up the closing lines of its test binaries.
pub(crate) fn cargo_test(command: &mut Command) -> Result<Tally> {
    let mut sum = Tally::default();
    let status = bounded::lines(command, LIMIT, |line| {
        println!("{line}");
        if let Some(tally) = Tally::from_line(line) {
            sum += tally;
        }
    })?;
    if status.success() {
        ensure!(
            sum.failed == 0,
            "cargo test succeeded and says that tests failed: {sum}"
        );
    } else {
        // A crate that does not compile, or a test binary that died, has no closing line.
        sum.failed = sum.failed.max(1);
    }
    Ok(sum)
}
