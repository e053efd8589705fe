//! libiscsi's test suite against our target: all of it on a plain LUN, and what says more on others.

use std::time::Instant;

use anyhow::{Result, bail};

use crate::foreign::bench::Bench;
use crate::foreign::missing;
use crate::packages;
use crate::suite::{self, Configuration, PROGRAM, Test, Tool, Verdict};
use crate::tally::Tally;

/// Where the suite is run in every test run; `cargo xtask lab suite` runs it everywhere.
const CONFIGURATIONS: [Configuration; 3] = [
    Configuration::Plain,
    Configuration::LongBlocks,
    Configuration::ReadOnly,
];

/// Runs the wanted families, `suite-CONFIGURATION-FAMILY`; every test counts, and what was not shown counts as failed.
pub(crate) fn run(
    bench: &Bench,
    is_wanted: impl Fn(&str) -> bool,
    skipped: &mut Vec<String>,
) -> Result<Tally> {
    if missing(&[PROGRAM]).is_some() {
        if packages::is_ci() {
            bail!("{PROGRAM} is not installed");
        }
        skipped.push(format!("SKIPPED suite: {PROGRAM} is not installed"));
        return Ok(Tally::default());
    }
    let tool = Tool::new(None);
    let families = tool.families()?;
    let mut tally = Tally::default();
    for configuration in CONFIGURATIONS {
        let wanted: Vec<&String> = families
            .iter()
            .filter(|family| configuration.applies(family))
            .filter(|family| is_wanted(&name(configuration, family)))
            .collect();
        if !wanted.is_empty() {
            tally += judge(bench, &tool, configuration, &wanted).unwrap_or_else(|error| {
                println!("suite-{}: {error:#}", configuration.name());
                Tally::ONE_FAILED
            });
        }
    }
    Ok(tally)
}

fn name(configuration: Configuration, family: &str) -> String {
    format!("suite-{}-{family}", configuration.name())
}

/// Runs families against one target, as an initiator would meet it that others used before.
fn judge(
    bench: &Bench,
    tool: &Tool,
    configuration: Configuration,
    families: &[&String],
) -> Result<Tally> {
    let started = Instant::now();
    let running = configuration.start(&bench.vmthunder)?;
    let (mut tally, mut excused) = (Tally::default(), 0);
    for family in families {
        let tests = tool.run(family, running.subject())?;
        let (waived, counted): (Vec<Test>, Vec<Test>) = tests
            .into_iter()
            .partition(|test| is_excused(configuration, test));
        excused += waived.len();
        suite::complain(&counted);
        let passed = |test: &&Test| test.verdict == Verdict::Passed;
        let failed = counted.iter().filter(|test| !passed(test)).count();
        for test in &counted {
            tally.count(passed(&test));
        }
        if failed > 0 {
            println!(
                "repeat with: cargo xtask foreign {}",
                name(configuration, family)
            );
        }
    }
    let title = configuration.name();
    let seconds = started.elapsed().as_secs_f64();
    println!("suite-{title}: {tally}, {excused} left out with a reason ({seconds:.1} s)");
    running.stop()?;
    Ok(tally)
}

/// True for a test that is known, with its reason, not to be shown by this configuration. One that passes nevertheless
/// counts.
fn is_excused(configuration: Configuration, test: &Test) -> bool {
    test.verdict != Verdict::Passed && suite::remaining(configuration, &test.name).is_some()
}
