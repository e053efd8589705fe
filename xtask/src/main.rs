//! Checks and chores of this repository. `cargo xtask test` runs every check; each step also runs alone.
#![forbid(unsafe_code)]

mod bounded;
mod clippy;
mod doc;
mod fmt;
mod layers;
mod repo;
mod step;
mod tally;
mod tidy;
mod unit;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::repo::Repo;
use crate::step::Step;

/// Checks and chores of this repository.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", after_help = AFTER_HELP)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
Start with `cargo xtask test`. Every step goes on after an earlier one failed; each failure ends with the one
command that repeats it, and the last line is `N passed, N failed`: the sum over all tests and foreign checks.";

#[derive(Subcommand)]
enum Command {
    /// Run every step below, in this order, and add up.
    Test,
    /// Is every file formatted? (`cargo fmt` repairs.)
    Fmt,
    /// No compiler or clippy warning anywhere.
    Clippy,
    /// Do dependencies only point down?
    Layers,
    /// House rules: sizes, names, known files.
    Tidy,
    /// Does the documentation build without a warning?
    Doc,
    /// Unit and integration tests of every crate.
    Unit,
}

impl Command {
    fn steps(&self) -> Vec<Step> {
        match self {
            Self::Test => vec![
                fmt::STEP,
                clippy::STEP,
                layers::STEP,
                tidy::STEP,
                doc::STEP,
                unit::STEP,
            ],
            Self::Fmt => vec![fmt::STEP],
            Self::Clippy => vec![clippy::STEP],
            Self::Layers => vec![layers::STEP],
            Self::Tidy => vec![tidy::STEP],
            Self::Doc => vec![doc::STEP],
            Self::Unit => vec![unit::STEP],
        }
    }
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    let repo = Repo::find()?;
    let tally = step::run_all(&repo, &args.command.steps());
    Ok(if tally.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
