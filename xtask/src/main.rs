//! Checks and chores of this repository. `cargo xtask test` runs every check; each step also runs alone.
#![forbid(unsafe_code)]

mod apt_sources;
mod bench;
mod bounded;
mod cache_figures;
mod chance;
mod clippy;
mod daemon;
mod doc;
mod fmt;
mod foreign;
mod fuzz;
mod lab;
mod layers;
mod nodes;
mod package;
mod packages;
mod repo;
mod rfc;
mod script;
mod secret;
mod soak;
mod step;
mod suite;
mod tally;
mod tgt;
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
Start with `cargo xtask test`. A step goes on after an earlier one failed;
each failure names the one command that repeats it. The last line is
`N passed, N failed`: the sum over all tests and foreign checks.

Environment: CI=true makes a missing foreign program a failure, not a skip.";

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
    /// Does docs/rfc7143.md say what the tests show?
    Rfc {
        /// Write the page anew.
        #[arg(long)]
        write: bool,
    },
    /// Unit and integration tests of every crate.
    Unit,
    /// Install the foreign programs that judge this one, as root, or print the line to type.
    Packages,
    /// QEMU, libiscsi and tgt against this program; every check by name.
    Foreign {
        /// Only the checks whose names begin like this, for example `qemu` or `suite-plain-Read10`.
        names: Vec<String>,
    },
    /// Pack the libraries as for a registry, and build and test what was packed outside of this tree.
    Package,
    /// Throw bytes at the protocol, the sessions and the units until a promise breaks; needs nightly and cargo-fuzz.
    Fuzz(fuzz::Fuzz),
    /// Look for trouble for as long as you like to wait.
    #[command(subcommand)]
    Soak(soak::Soak),
    /// This program and its peers side by side, in ratios; writes docs/performance.md.
    Bench(bench::Bench),
    /// The tables of docs/cache.md.
    CacheFigures {
        /// Write them into the page.
        #[arg(long)]
        write: bool,
        /// The table beside foyer instead, which is built and run for it: about ten minutes.
        #[arg(long)]
        foyer: bool,
    },
    /// Chores that are too slow, or need too much, for every test run: see lab/README.md.
    #[command(subcommand)]
    Lab(lab::Lab),
}

const ALL: &[Step] = &[
    fmt::STEP,
    clippy::STEP,
    layers::STEP,
    tidy::STEP,
    doc::STEP,
    rfc::STEP,
    packages::STEP,
    unit::STEP,
    foreign::STEP,
];

fn main() -> Result<ExitCode> {
    let repo = Repo::find()?;
    let tally = match Args::parse().command {
        Command::Test => step::run_all(&repo, ALL),
        Command::Fmt => step::run_all(&repo, &[fmt::STEP]),
        Command::Clippy => step::run_all(&repo, &[clippy::STEP]),
        Command::Layers => step::run_all(&repo, &[layers::STEP]),
        Command::Tidy => step::run_all(&repo, &[tidy::STEP]),
        Command::Doc => step::run_all(&repo, &[doc::STEP]),
        Command::Packages => step::run_all(&repo, &[packages::STEP]),
        Command::Rfc { write: false } => step::run_all(&repo, &[rfc::STEP]),
        Command::Rfc { write: true } => step::alone(|| rfc::run(&repo, true)),
        Command::Unit => step::run_all(&repo, &[unit::STEP]),
        Command::Foreign { names } if names.is_empty() => step::run_all(&repo, &[foreign::STEP]),
        Command::Foreign { names } => step::alone(|| foreign::run(&repo, &names)),
        Command::Package => step::alone(|| package::run(&repo)),
        // Whoever reads JSON reads nothing else.
        Command::Fuzz(asked) if asked.json => fuzz::run(&repo, &asked)?,
        Command::Fuzz(asked) => step::alone(|| fuzz::run(&repo, &asked)),
        // What a soak found is its own last line.
        Command::Soak(what) => return Ok(exit(soak::run(&repo, &what)?)),
        Command::Bench(asked) => return Ok(exit(bench::run(&repo, &asked)?)),
        Command::CacheFigures { write, foyer } => {
            step::alone(|| cache_figures::run(&repo, write, foyer))
        }
        // What it found is its own last line.
        Command::Lab(chore @ lab::Lab::Outage(_)) => lab::run(&repo, &chore)?,
        Command::Lab(chore @ lab::Lab::Storm(_)) => match lab::run(&repo, &chore) {
            Ok(tally) => tally,
            Err(error) => {
                eprintln!("error: {error:#}");
                return Ok(ExitCode::from(CANNOT));
            }
        },
        Command::Lab(chore) => step::alone(|| lab::run(&repo, &chore)),
    };
    Ok(exit(tally.failed == 0))
}

/// Exit code: the command could not run.
const CANNOT: u8 = 2;

fn exit(is_sound: bool) -> ExitCode {
    if is_sound {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
