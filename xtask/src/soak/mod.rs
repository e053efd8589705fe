//! `cargo xtask soak`: runs that go on for as long as somebody wants to wait, and say what they found.

mod crash;

use anyhow::Result;
use clap::Subcommand;

use crate::repo::Repo;

/// What is run.
#[derive(Subcommand)]
pub(crate) enum Soak {
    /// Kill the cache and the overlays, and cut their power, at every write and sync of a workload.
    Crash(crash::Crash),
}

/// True if nothing was found.
pub(crate) fn run(repo: &Repo, what: &Soak) -> Result<bool> {
    match what {
        Soak::Crash(asked) => crash::run(repo, asked),
    }
}
