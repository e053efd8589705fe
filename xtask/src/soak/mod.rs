//! `cargo xtask soak`: runs that go on for as long as somebody wants to wait, and say what they found.

mod crash;
mod fault;
mod load;
mod members;
pub(crate) mod proxy;
mod rounds;
mod victim;

use anyhow::Result;
use clap::Subcommand;

use crate::repo::Repo;

/// What is run.
#[derive(Subcommand)]
pub(crate) enum Soak {
    /// Kill the cache and the overlays, and cut their power, at every write and sync of a workload.
    Crash(crash::Crash),
    /// Kill a target under verified load, pause it, and spoil the one way that leads to it.
    Outage(rounds::Rounds),
    /// Spoil one of two ways to a target under verified load: is a byte lost, and how long until the other one is taken?
    Paths(rounds::Rounds),
    /// Let a thousand nodes find each other by gossip, and some of them die, under virtual time.
    Members,
}

/// True if nothing was found.
pub(crate) fn run(repo: &Repo, what: &Soak) -> Result<bool> {
    match what {
        Soak::Crash(asked) => crash::run(repo, asked),
        Soak::Outage(asked) => rounds::run(repo, asked, 1),
        Soak::Paths(asked) => rounds::run(repo, asked, 2),
        Soak::Members => members::run(repo),
    }
}
