//! Step `foreign`: other people's initiators against this target, and this initiator against another people's target, and
//! etcd under our nodes.

mod bench;
mod demo;
mod etcd;
mod libiscsi;
mod node;
mod qemu;
mod storm;
mod suite;
mod tgt;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use crate::bounded;
use crate::packages;
use crate::repo::Repo;
use crate::step::Step;
use crate::tally::Tally;

pub(crate) use crate::foreign::bench::{Bench, Served};
pub(crate) use crate::foreign::qemu::compare_with as compare;

pub(crate) const STEP: Step = Step {
    name: "foreign",
    question: "do QEMU, libiscsi, tgt and etcd agree with us?",
    run: |repo| run(repo, &[]),
};

/// One question to a foreign program.
struct Check {
    name: &'static str,
    programs: &'static [&'static str],
    run: fn(&Bench) -> Result<()>,
}

const CHECKS: &[&[Check]] = &[
    libiscsi::CHECKS,
    qemu::CHECKS,
    tgt::CHECKS,
    demo::CHECKS,
    node::CHECKS,
    etcd::CHECKS,
];

/// Runs the checks whose name begins with one of `wanted`, or all.
pub(crate) fn run(repo: &Repo, wanted: &[String]) -> Result<Tally> {
    let vmthunder = build(repo)?;
    let bench = Bench::new(vmthunder)?;
    let is_wanted = |name: &str| {
        wanted.is_empty()
            || wanted
                .iter()
                .any(|prefix| name.starts_with(prefix.as_str()))
    };
    let mut tally = Tally::default();
    let mut skipped = Vec::new();
    for check in CHECKS
        .iter()
        .copied()
        .flatten()
        .filter(|check| is_wanted(check.name))
    {
        match missing(check.programs) {
            Some(program) if packages::is_ci() => {
                println!("{program} is not installed");
                report(&mut tally, check.name, Instant::now(), false);
            }
            Some(program) => skipped.push(format!(
                "SKIPPED {}: {program} is not installed",
                check.name
            )),
            None => {
                let started = Instant::now();
                let outcome = (check.run)(&bench);
                if let Err(error) = &outcome {
                    println!("{error:#}");
                }
                report(&mut tally, check.name, started, outcome.is_ok());
            }
        }
    }
    if is_wanted(storm::NAME) {
        storm::run(repo, &bench, &mut tally, &mut skipped);
    }
    tally += suite::run(&bench, is_wanted, &mut skipped)?;
    for line in &skipped {
        println!("{line}");
    }
    if tally == Tally::default() && skipped.is_empty() {
        bail!("no check is called {wanted:?}");
    }
    Ok(tally)
}

fn report(tally: &mut Tally, name: &str, started: Instant, passed: bool) {
    tally.count(passed);
    let verdict = if passed { "ok" } else { "FAILED" };
    println!(
        "{name}: {verdict} ({:.1} s)",
        started.elapsed().as_secs_f64()
    );
    if !passed {
        println!("repeat with: cargo xtask foreign {name}");
    }
}

fn missing(programs: &[&'static str]) -> Option<&'static str> {
    programs
        .iter()
        .copied()
        .find(|program| packages::program(program).is_err())
}

/// Builds the program under test in the profile of the unit tests, which have compiled nearly all of it.
pub(crate) fn build(repo: &Repo) -> Result<PathBuf> {
    build_profile(repo, "dev", "debug")
}

/// Builds the program as users run it.
pub(crate) fn build_release(repo: &Repo) -> Result<PathBuf> {
    build_profile(repo, "release", "release")
}

fn build_profile(repo: &Repo, profile: &str, folder: &str) -> Result<PathBuf> {
    let mut build = repo.cargo(["build", "--quiet", "--package", "vmthunder", "--profile"]);
    bounded::show(build.arg(profile), Duration::from_secs(1800))?;
    let metadata = repo.metadata()?;
    let target = metadata["target_directory"].as_str().unwrap_or_default();
    let vmthunder = Path::new(target).join(folder).join("vmthunder");
    ensure!(
        vmthunder.is_file(),
        "cargo built no {}",
        vmthunder.display()
    );
    Ok(vmthunder)
}
