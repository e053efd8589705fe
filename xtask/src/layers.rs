//! Step `layers`: arrows between crates point down, and the pure crates stay pure.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::bounded;
use crate::repo::Repo;
use crate::step::Step;
use crate::tally::Tally;

pub(crate) const STEP: Step = Step {
    name: "layers",
    question: "do dependencies only point down?",
    run,
};

/// What each crate may use of this workspace, outside of its tests: the picture of ARCHITECTURE.md.
const MAY_USE: &[(&str, &[&str])] = &[
    ("iscsi-proto", &[]),
    ("vmthunder-volume", &[]),
    ("iscsi-target", &["iscsi-proto", "vmthunder-volume"]),
    ("iscsi-initiator", &["iscsi-proto", "vmthunder-volume"]),
    ("vmthunder-cache", &["vmthunder-volume"]),
    (
        "vmthunder-swarm",
        &["vmthunder-volume", "vmthunder-cache", "iscsi-initiator"],
    ),
    ("iscsi-conformance", &["iscsi-proto"]),
    (
        "vmthunder-sim",
        &["vmthunder-volume", "vmthunder-cache", "vmthunder-swarm"],
    ),
    (
        "vmthunder",
        &[
            "iscsi-proto",
            "iscsi-target",
            "iscsi-initiator",
            "vmthunder-volume",
            "vmthunder-cache",
            "vmthunder-swarm",
            "vmthunder-sim",
            "iscsi-conformance",
        ],
    ),
    ("xtask", &[]),
];

/// What must not be among a crate's dependencies, at any depth.
const MUST_NOT_REACH: &[(&str, &[&str])] = &[
    (
        "iscsi-proto",
        &["tokio", "mio", "socket2", "rand", "getrandom"],
    ),
    ("vmthunder-volume", &["tokio", "mio", "socket2"]),
];

fn run(repo: &Repo) -> Result<Tally> {
    let metadata = repo.metadata()?;
    let packages = metadata["packages"]
        .as_array()
        .context("cargo metadata lists packages")?;
    let names: Vec<&str> = packages
        .iter()
        .filter_map(|package| package["name"].as_str())
        .collect();
    for package in packages {
        check_direct(package, &names)?;
    }
    for (name, banned) in MUST_NOT_REACH {
        check_deep(repo, name, banned)?;
    }
    println!("{} crates, arrows as drawn", names.len());
    Ok(Tally::default())
}

fn check_direct(package: &Value, workspace: &[&str]) -> Result<()> {
    let name = package["name"].as_str().context("a package has a name")?;
    let (_, allowed) = MAY_USE
        .iter()
        .find(|(known, _)| *known == name)
        .with_context(|| format!("{name} has no place in the picture: add it to {}", file!()))?;
    for dependency in package["dependencies"].as_array().into_iter().flatten() {
        let used = dependency["name"].as_str().unwrap_or_default();
        let in_tests_only = dependency["kind"] == "dev";
        ensure!(
            in_tests_only || !workspace.contains(&used) || allowed.contains(&used),
            "{name} uses {used}: that arrow is not in the picture"
        );
    }
    Ok(())
}

fn check_deep(repo: &Repo, name: &str, banned: &[&str]) -> Result<()> {
    let args = [
        "tree",
        "--package",
        name,
        "--edges",
        "normal",
        "--prefix",
        "none",
        "--format",
        "{p}",
    ];
    let tree = bounded::succeed(&mut repo.cargo(args), Duration::from_secs(60))?.text();
    let found = tree
        .lines()
        .filter_map(|line| line.split(' ').next())
        .find(|used| banned.contains(used));
    ensure!(
        found.is_none(),
        "{name} reaches {}",
        found.unwrap_or_default()
    );
    Ok(())
}
