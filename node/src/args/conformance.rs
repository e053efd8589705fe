//! `vmthunder conformance`, as it is written.

use std::num::NonZeroU16;
use std::path::PathBuf;

use clap::Args;

use super::LoginArgs;

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct ConformanceArgs {
    /// `iscsi://[USER[%SECRET]@]HOST[:PORT]/TARGET[/LUN]`: the target that is judged, and one of its disks.
    #[arg(required_unless_present = "list")]
    pub(crate) url: Option<String>,
    /// Also play the checks that write to the disk and disturb whoever else uses it. Shows which disk that is and asks
    /// for its serial number.
    #[arg(long)]
    pub(crate) destructive: bool,
    /// Do not ask before `--destructive`.
    #[arg(long, requires = "destructive")]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) choice: ChoiceArgs,
    #[command(flatten)]
    pub(crate) bounds: BoundArgs,
    #[command(flatten)]
    pub(crate) reports: ReportArgs,
    #[command(flatten)]
    pub(crate) login: LoginArgs,
}

/// Which checks are played.
#[derive(Debug, Args)]
#[command(next_help_heading = "Which checks")]
pub(crate) struct ChoiceArgs {
    /// Print the checks, and play none.
    #[arg(long)]
    pub(crate) list: bool,
    /// Play these alone: names, or their beginnings up to a dot, separated by commas. May be repeated.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) only: Vec<String>,
    /// Leave these out, written in the same way.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) skip: Vec<String>,
}

/// How long everything may take.
#[derive(Debug, Args)]
#[command(next_help_heading = "Time")]
pub(crate) struct BoundArgs {
    /// How long an answer is waited for before it counts as missing.
    #[arg(long, value_name = "SECONDS", default_value = "3", value_parser = patience)]
    pub(crate) patience: f64,
    /// How long the whole run may take; checks that were not played by then are skipped.
    #[arg(long, value_name = "MINUTES", default_value = "15")]
    pub(crate) limit: NonZeroU16,
}

/// Where the verdicts go.
#[derive(Debug, Args)]
#[command(next_help_heading = "Reports")]
pub(crate) struct ReportArgs {
    /// Print one JSON object on standard output instead of the table.
    #[arg(long)]
    pub(crate) json: bool,
    /// Failures that are known, and why: they count as waived.
    #[arg(long, value_name = "FILE")]
    pub(crate) waivers: Option<PathBuf>,
}

const HELP: &str = "\
Exit codes: 0 nothing failed, 1 something failed, 2 the suite could not run.";

fn patience(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.05..=600.0).contains(&seconds) => Ok(seconds),
        _ => Err("seconds, from 0.05 to 600".to_owned()),
    }
}
