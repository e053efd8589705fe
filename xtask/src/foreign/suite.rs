//! libiscsi's test suite against our target, a family at a time.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::bounded;
use crate::foreign::bench::Bench;
use crate::foreign::cunit::{self, Verdict};
use crate::foreign::missing;
use crate::packages;
use crate::tally::Tally;

/// The families in which nothing may fail or be skipped.
const FAMILIES: &[&str] = &[
    "Read10",
    "Read16",
    "Write10",
    "Write16",
    "Inquiry",
    "Mandatory",
    "TestUnitReady",
    "ReadCapacity10",
    "ReadCapacity16",
    "iSCSIcmdsn",
    "iSCSIdatasn",
];

const PROGRAM: &str = "iscsi-test-cu";
/// The longest family waits for a NOP or two.
const LIMIT: Duration = Duration::from_secs(180);

/// Runs the wanted families, each against a target of its own; every test counts, and a skipped one counts as failed.
pub(crate) fn run(
    bench: &Bench,
    is_wanted: impl Fn(&str) -> bool,
    skipped: &mut Vec<String>,
) -> Result<Tally> {
    let mut tally = Tally::default();
    for family in FAMILIES {
        let name = format!("suite-{family}");
        if !is_wanted(&name) {
            continue;
        }
        if missing(&[PROGRAM]).is_some() && !packages::is_ci() {
            skipped.push(format!("SKIPPED {name}: {PROGRAM} is not installed"));
            continue;
        }
        let started = Instant::now();
        let outcome = serve_and_judge(bench, family).unwrap_or_else(|error| {
            println!("{error:#}");
            Tally::ONE_FAILED
        });
        println!(
            "{name}: {outcome} ({:.1} s)",
            started.elapsed().as_secs_f64()
        );
        if outcome.failed > 0 {
            println!("repeat with: cargo xtask foreign {name}");
        }
        tally += outcome;
    }
    Ok(tally)
}

fn serve_and_judge(bench: &Bench, family: &str) -> Result<Tally> {
    let served = bench.serve()?;
    let tally = report(&served.url, &format!("ALL.{family}"))?;
    if tally.failed > 0 {
        println!("{}", served.daemon.last_lines());
    }
    served.daemon.stop()?;
    Ok(tally)
}

/// Runs part of the suite against a LUN, whose content is lost, and prints what did not pass.
pub(crate) fn report(url: &str, part: &str) -> Result<Tally> {
    // The suite's output is fully buffered in a pipe: a suite that dies would take its last lines along.
    let mut command = Command::new("stdbuf");
    command.args(["-oL", PROGRAM, "--dataloss", "--test", part, url]);
    let finished = bounded::output(&mut command, LIMIT)?;
    let tests = cunit::parse(&finished.text());
    if tests.is_empty() {
        bail!(
            "{}: no test ran\n{}{}",
            bounded::spell(&command),
            finished.text(),
            finished.stderr
        );
    }
    let mut tally = Tally::default();
    for test in &tests {
        tally.count(test.verdict == Verdict::Passed);
        match &test.verdict {
            Verdict::Passed => {}
            Verdict::Skipped(why) => println!("  skipped {}: {why}", test.name),
            Verdict::Failed(why) => println!("  failed {}: {why}", test.name),
            Verdict::Missing => println!(
                "  no verdict {}: the suite ended with {}",
                test.name, finished.status
            ),
        }
    }
    Ok(tally)
}
