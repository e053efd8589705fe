//! libiscsi's test suite: its families are run one process at a time, so that one that hangs costs a family only.

mod configuration;
mod cunit;
mod page;
mod remains;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::bounded;

pub(crate) use configuration::Configuration;
pub(crate) use cunit::{Test, Verdict};
pub(crate) use page::{Column, counts, page, union};
pub(crate) use remains::remaining;

/// The suite's program as Debian installs it.
pub(crate) const PROGRAM: &str = "iscsi-test-cu";

/// The longest family overwrites the LUN many times and looks once a minute whether that is over.
const FAMILY_LIMIT: Duration = Duration::from_secs(300);
/// Listing needs no target.
const LIST_LIMIT: Duration = Duration::from_secs(20);

/// The suite's program.
pub(crate) struct Tool {
    path: PathBuf,
}

/// What the suite is asked about.
#[derive(Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) url: &'a str,
    /// Another portal of the same LUN: without it the suite skips what needs two paths.
    pub(crate) second_url: Option<&'a str>,
}

impl Tool {
    pub(crate) fn new(path: Option<PathBuf>) -> Self {
        Self {
            path: path.unwrap_or_else(|| PROGRAM.into()),
        }
    }

    /// The families of everything, such as Read10.
    pub(crate) fn families(&self) -> Result<Vec<String>> {
        let names = self.list()?;
        let families: Vec<String> = names
            .into_iter()
            .filter(|name| !name.contains('.'))
            .collect();
        ensure!(
            !families.is_empty(),
            "{} lists no family",
            self.path.display()
        );
        Ok(families)
    }

    /// The tests of a family, such as Read10.Simple.
    pub(crate) fn tests(&self, family: &str) -> Result<Vec<String>> {
        let prefix = format!("{family}.");
        let names = self.list()?.into_iter();
        Ok(names.filter(|name| name.starts_with(&prefix)).collect())
    }

    fn list(&self) -> Result<Vec<String>> {
        let mut command = Command::new(&self.path);
        let listed = bounded::output(command.arg("--list"), LIST_LIMIT)?;
        let text = listed.text() + &listed.stderr;
        let names = text
            .lines()
            .filter_map(|line| line.trim().strip_prefix("ALL."));
        Ok(names.map(str::to_owned).collect())
    }

    /// Runs a family, or one test of it, and lets it destroy what is on the LUN. A suite that hangs or dies leaves the
    /// test that it was at without a verdict, and its name stands for all that would have come.
    pub(crate) fn run(&self, part: &str, subject: Subject<'_>) -> Result<Vec<Test>> {
        // The suite's output is fully buffered in a pipe: a suite that dies would take its last lines along.
        let mut command = Command::new("stdbuf");
        command.arg("-oL").arg(&self.path);
        command.args(["--dataloss", "--allow-sanitize", "--test"]);
        command.arg(format!("ALL.{part}")).arg(subject.url);
        command.args(subject.second_url);
        let ran = bounded::until(&mut command, FAMILY_LIMIT)?;
        let mut tests = cunit::parse(&ran.text());
        let is_broken = !matches!(ran.status.and_then(|status| status.code()), Some(0 | 1));
        let is_told = tests.iter().any(|test| test.verdict == Verdict::Missing);
        if tests.is_empty() || (is_broken && !is_told) {
            let last: Vec<&str> = ran.stderr.lines().rev().take(3).collect();
            println!("  {part}: the suite ended with {}: {last:?}", ran.ending());
            tests.push(Test {
                name: format!("{part}.(no test)"),
                verdict: Verdict::Missing,
            });
        }
        Ok(tests)
    }
}

/// Asks one configuration about families, or single tests of them.
fn judge(tool: &Tool, configuration: Configuration, vmthunder: &Path, parts: &[String]) -> Column {
    let started = Instant::now();
    let mut tests = Vec::new();
    if let Err(error) = ask_all(tool, configuration, vmthunder, parts, &mut tests) {
        tests.push(Test {
            name: "Target.starts and ends well".to_owned(),
            verdict: Verdict::Failed(format!("{error:#}")),
        });
    }
    Column {
        configuration,
        tests,
        seconds: started.elapsed().as_secs_f64(),
    }
}

/// All parts against one target, as an initiator would meet it that others used before.
fn ask_all(
    tool: &Tool,
    configuration: Configuration,
    vmthunder: &Path,
    parts: &[String],
    tests: &mut Vec<Test>,
) -> Result<()> {
    let running = configuration.start(vmthunder)?;
    for part in parts {
        for piece in configuration.pieces(tool, part)? {
            tests.extend(tool.run(&piece, running.subject())?);
        }
    }
    running.stop()
}

/// Asks several configurations at once: the suite mostly waits.
pub(crate) fn judge_together(
    tool: &Tool,
    vmthunder: &Path,
    asked: Vec<(Configuration, Vec<String>)>,
) -> Vec<Column> {
    thread::scope(|scope| {
        let asking: Vec<_> = asked
            .iter()
            .map(|(configuration, parts)| {
                scope.spawn(|| judge(tool, *configuration, vmthunder, parts))
            })
            .collect();
        let columns = asking.into_iter().map(|asking| asking.join().ok());
        columns.flatten().collect()
    })
}

/// How many tests ended in which way.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Counts {
    pub(crate) passed: usize,
    pub(crate) partial: usize,
    pub(crate) skipped: usize,
    pub(crate) failed: usize,
    pub(crate) missing: usize,
}

impl Counts {
    pub(crate) fn of<'a>(tests: impl IntoIterator<Item = &'a Test>) -> Self {
        let mut counts = Self::default();
        for test in tests {
            let place = match test.verdict {
                Verdict::Passed => &mut counts.passed,
                Verdict::Partial(_) => &mut counts.partial,
                Verdict::Skipped(_) => &mut counts.skipped,
                Verdict::Failed(_) => &mut counts.failed,
                Verdict::Missing => &mut counts.missing,
            };
            *place += 1;
        }
        counts
    }

    pub(crate) fn total(&self) -> usize {
        self.passed + self.partial + self.skipped + self.failed + self.missing
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            passed,
            partial,
            skipped,
            failed,
            missing,
        } = self;
        write!(
            f,
            "{passed} of {} passed, {skipped} skipped, {partial} partial, {failed} failed, {missing} without verdict",
            self.total()
        )
    }
}

/// One line per test that did not pass.
pub(crate) fn complain(tests: &[Test]) {
    for Test { name, verdict } in tests {
        match verdict {
            Verdict::Passed => {}
            Verdict::Partial(why) => println!("  partial {name}: {why}"),
            Verdict::Skipped(why) => println!("  skipped {name}: {why}"),
            Verdict::Failed(why) => println!("  failed {name}: {why}"),
            Verdict::Missing => println!("  no verdict {name}: the suite hung or died"),
        }
    }
}
