//! libiscsi's test suite against our target: all of it on a plain LUN, and what says more on others.

use anyhow::{Result, bail};

use crate::foreign::bench::Bench;
use crate::foreign::missing;
use crate::packages;
use crate::suite::{self, Column, Configuration, PROGRAM, Tool, Verdict};
use crate::tally::Tally;

/// Where the suite is run in every test run; `cargo xtask lab suite` runs it everywhere.
const CONFIGURATIONS: [Configuration; 4] = [
    Configuration::Plain,
    Configuration::LongBlocks,
    Configuration::ReadOnly,
    Configuration::Removable,
];
/// The families that say something else about a medium that can be removed.
const OF_REMOVABLE: [&str; 2] = ["PreventAllow", "StartStopUnit"];
/// The family that overwrites the LUN again and again: on one configuration, and without the test that looks only once a
/// minute whether it is over.
const SLOW_FAMILY: &str = "Sanitize";
const SLOW_TEST: &str = "Sanitize.Reset";

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
    let mut asked = Vec::new();
    for configuration in CONFIGURATIONS {
        let mut parts = Vec::new();
        for family in tool.families()? {
            let name = name(configuration, &family);
            if configuration.applies(&family) && is_wanted(&name) {
                parts.extend(quick(&tool, configuration, family)?);
            }
        }
        if !parts.is_empty() {
            asked.push((configuration, parts));
        }
    }
    let mut tally = Tally::default();
    for column in suite::judge_together(&tool, &bench.vmthunder, asked) {
        tally += report(&column);
    }
    Ok(tally)
}

/// What of a family is quick enough for every test run.
fn quick(tool: &Tool, configuration: Configuration, family: String) -> Result<Vec<String>> {
    if configuration == Configuration::Removable && !OF_REMOVABLE.contains(&family.as_str()) {
        return Ok(Vec::new());
    }
    if family != SLOW_FAMILY {
        return Ok(vec![family]);
    }
    if configuration != Configuration::Plain {
        return Ok(Vec::new());
    }
    let mut tests = tool.tests(&family)?;
    tests.retain(|test| test != SLOW_TEST);
    Ok(tests)
}

fn name(configuration: Configuration, family: &str) -> String {
    format!("suite-{}-{family}", configuration.name())
}

fn report(column: &Column) -> Tally {
    let mut tally = Tally::default();
    let mut failed: Vec<&str> = Vec::new();
    for test in column.counted() {
        let passed = test.verdict == Verdict::Passed;
        tally.count(passed);
        if !passed {
            suite::complain(std::slice::from_ref(test));
            failed.extend(test.name.split('.').next());
        }
    }
    let excused = column.tests.len() - column.counted().count();
    println!(
        "suite-{}: {tally}, {excused} left out with a reason ({:.1} s)",
        column.configuration.name(),
        column.seconds
    );
    failed.dedup();
    for family in failed {
        println!(
            "repeat with: cargo xtask foreign {}",
            name(column.configuration, family)
        );
    }
    tally
}
