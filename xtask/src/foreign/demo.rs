//! The demonstration, small: separate processes, real sessions, every byte compared.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::bounded;
use crate::foreign::Check;
use crate::foreign::bench::Bench;

pub(crate) const CHECKS: &[Check] = &[Check {
    name: "demo",
    programs: &[],
    run: demo,
}];

/// Unoptimized, on two cores that have other work.
const LIMIT: Duration = Duration::from_secs(240);

fn demo(bench: &Bench) -> Result<()> {
    let finished = bounded::succeed(
        bench.vmthunder().args(["demo", "--nodes", "3", "--json"]),
        LIMIT,
    )?;
    let report: Value = serde_json::from_slice(&finished.stdout)?;
    ensure!(report["nodes"] == 3, "nodes: {report}");
    ensure!(report["wrong_bytes"] == 0, "wrong bytes: {report}");
    ensure!(
        report["bytes_checked"].as_u64() > Some(3 * 60_000_000),
        "too little was read: {report}"
    );
    ensure!(
        report["per_node"]
            .as_array()
            .is_some_and(|nodes| nodes.len() == 3),
        "per_node: {report}"
    );
    for storm in ["swarm", "star"] {
        for figure in ["seconds", "origin_bytes", "origin_copies"] {
            ensure!(
                report[storm][figure].as_f64() > Some(0.0),
                "{storm}.{figure}: {report}"
            );
        }
    }
    let copies = |storm: &str| {
        report[storm]["origin_copies"]
            .as_f64()
            .unwrap_or(f64::INFINITY)
    };
    println!(
        "origin copies: swarm {:.2}, star {:.2}",
        copies("swarm"),
        copies("star")
    );
    ensure!(
        copies("swarm") < 1.5 && copies("star") > 2.5,
        "the swarm spares the origin too little"
    );
    Ok(())
}
