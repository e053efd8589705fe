//! The storm of the lab, small: the kernel's links between nodes instead of the loopback.

use std::fmt::Write as _;
use std::fs;
use std::time::Instant;

use anyhow::Result;

use super::report;
use crate::foreign::bench::Bench;
use crate::lab::storm;
use crate::repo::Repo;
use crate::tally::Tally;

pub(crate) const NAME: &str = "storm-four-nodes";
/// Extents that a boot reads.
const EXTENTS: u64 = 64;
/// Blocks of an extent.
const BLOCKS: u64 = 128;

/// Runs it as root, where network namespaces can be made; it is skipped elsewhere.
pub(super) fn run(repo: &Repo, bench: &Bench, tally: &mut Tally, skipped: &mut Vec<String>) {
    if let Err(cause) = storm::possible() {
        skipped.push(format!("SKIPPED {NAME}: {cause:#}"));
        return;
    }
    let started = Instant::now();
    let outcome = four_nodes(repo, bench);
    if let Err(error) = &outcome {
        println!("{error:#}");
    }
    report(tally, NAME, started, outcome.is_ok());
}

fn four_nodes(repo: &Repo, bench: &Bench) -> Result<()> {
    let folder = bench.folder()?;
    let trace = folder.path().join("small.csv");
    fs::write(&trace, boot())?;
    storm::small(repo, &bench.vmthunder, &trace)
}

/// Reads of two extents in each, here and there, with a write of the second before it is read again.
fn boot() -> String {
    let mut trace = "t_us,op,lba,blocks\n".to_owned();
    for number in 0..EXTENTS / 2 {
        let (at, lba) = (number * 1000, (number * 27 % (EXTENTS / 2)) * 2 * BLOCKS);
        let written = lba + BLOCKS + 8;
        let _ = write!(
            trace,
            "{at},R,{lba},256\n{at},W,{written},16\n{at},R,{},64\n",
            lba + BLOCKS
        );
    }
    trace
}
