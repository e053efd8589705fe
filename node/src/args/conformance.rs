//! `vmthunder conformance`, as it is written.

use std::num::NonZeroU16;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use iscsi_proto::name::IscsiName;

use super::SecretArgs;

/// Judge any iSCSI target, or any initiator, by RFC 7143 and the SCSI standards.
///
/// Logs in to the target again and again, and asks of it what the standards ask: login and its keys, CHAP, numbering,
/// data transfer, digests, task management, errors, discovery, and the SCSI commands that initiators rely on. Each
/// verdict names its section, and whether that is a MUST or a SHOULD; a failure shows the PDUs that were seen, decoded.
///
/// By default nothing is written and nobody else is disturbed: the checks that would are skipped. With --destructive
/// they are played, and what the disk holds may be lost.
#[derive(Debug, Args)]
#[command(after_help = HELP, after_long_help = LONG_HELP)]
pub(crate) struct ConformanceArgs {
    /// The target that is judged, and one of its disks: `iscsi://[USER[%SECRET]@]HOST[:PORT]/TARGET[/LUN]`
    #[arg(required_unless_present_any = ["list", "listen", "initiator"])]
    pub(crate) url: Option<String>,
    /// Also play the checks that write to the disk, or disturb whoever else uses it. Shows which disk that is, and asks
    /// for its serial number.
    #[arg(long, requires = "url")]
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

    #[command(flatten, next_help_heading = "Login")]
    pub(crate) secrets: SecretArgs,
    /// With a URL: the name that the suite logs in with. Without it one of this program's. Alone, with `--listen`:
    /// judge an initiator instead of a target.
    #[arg(long, value_name = "IQN", num_args = 0..=1, help_heading = "Login")]
    pub(crate) initiator: Option<Option<IscsiName>>,

    #[command(flatten)]
    pub(crate) visit: InitiatorArgs,
}

/// How an initiator gets to the suite.
#[derive(Debug, Args)]
#[command(next_help_heading = "Judging an initiator")]
pub(crate) struct InitiatorArgs {
    /// Where initiators find the suite; port 0 lets the system choose.
    #[arg(
        long,
        value_name = "ADDR",
        requires = "initiator",
        conflicts_with = "url"
    )]
    pub(crate) listen: Option<String>,
    /// What to run for each check: a program that logs in to `{url}`, reads and writes its disk, and ends. `{portal}`
    /// and `{target}` are replaced, too; quotes are understood, no other signs of a shell. Without it the suite waits
    /// for whoever comes, until nobody came for a minute.
    #[arg(long, value_name = "COMMAND", requires = "listen", value_parser = words)]
    pub(crate) command: Option<Words>,
    /// The host under which initiators see the suite, if it is another one than ADDR has: they are told it in
    /// redirections and lists of targets.
    #[arg(long, value_name = "HOST", requires = "listen")]
    pub(crate) advertise: Option<String>,
    /// What to run for the checks of discovery: a program that asks `{portal}` for its targets. Without it they are
    /// skipped.
    #[arg(long, value_name = "COMMAND", requires = "command", value_parser = words)]
    pub(crate) discovery_command: Option<Words>,
}

/// A program and its arguments.
#[derive(Clone, Debug)]
pub(crate) struct Words(pub(crate) Vec<String>);

/// Which checks are played.
#[derive(Debug, Args)]
#[command(next_help_heading = "Which checks")]
pub(crate) struct ChoiceArgs {
    /// Print the checks and what they expect, and play none.
    #[arg(long)]
    pub(crate) list: bool,
    /// Play these alone: names, or their beginnings up to a dot, for example `login` or `login.keys,nop`. May be
    /// repeated.
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = trimmed)]
    pub(crate) only: Vec<String>,
    /// Leave these out, written in the same way.
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = trimmed)]
    pub(crate) skip: Vec<String>,
    /// Failures that are known, and why: a file with `[[waiver]]`, `check = "NAME"`, `reason = "..."` for each. They
    /// count as waived, and a waiver that is no longer needed is named.
    #[arg(long, value_name = "FILE")]
    pub(crate) waivers: Option<PathBuf>,
}

/// How long everything may take.
#[derive(Debug, Args)]
#[command(next_help_heading = "Time")]
pub(crate) struct BoundArgs {
    /// How long an answer is waited for before it counts as missing; without it 3, and 5 for an initiator's. One check
    /// may take ten times as long.
    #[arg(long, value_name = "SECONDS", value_parser = patience)]
    pub(crate) patience: Option<f64>,
    /// How long the whole run may take; what was not played by then is skipped.
    #[arg(long, value_name = "MINUTES", default_value = "15")]
    limit: NonZeroU16,
}

impl BoundArgs {
    /// How long the whole run may take.
    pub(crate) fn limit(&self) -> Duration {
        Duration::from_secs(60 * u64::from(self.limit.get()))
    }
}

/// Where the verdicts go, besides the table on standard output.
#[derive(Debug, Args)]
#[command(next_help_heading = "Reports")]
pub(crate) struct ReportArgs {
    /// Print one JSON object on standard output instead of the table.
    #[arg(long)]
    pub(crate) json: bool,
    /// Write JUnit XML, as build servers read it.
    #[arg(long, value_name = "FILE")]
    pub(crate) junit: Option<PathBuf>,
    /// Write a page to look at: one file, with every verdict and the PDUs of failures.
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
}

const HELP: &str = "\
Exit codes: 0 nothing failed, 1 something failed, 2 the suite could not run, or was interrupted.";

const LONG_HELP: &str = "\
Outcomes:
  passed   the rule is kept
  failed   the rule is broken
  skipped  the target does not offer what the rule is about, or the check was not to be played
  waived   the rule is broken, and --waivers says why that is known

Examples:
  Judge a disk that is in use:
    vmthunder conformance iscsi://192.0.2.7/iqn.2026-11.org.example:disk/1
  Judge an empty one by everything, for people and for a build server:
    vmthunder conformance iscsi://192.0.2.7/iqn.2026-11.org.example:scratch/1 \\
      --destructive --html report.html --junit report.xml
  With CHAP in both directions:
    vmthunder conformance iscsi://alice@192.0.2.7/iqn.2026-11.org.example:disk/1 \\
      --chap-secret-file alice.secret --mutual-user target --mutual-secret-file target.secret
  Look at one family, and at what failed in it:
    vmthunder conformance --list --only login
    vmthunder conformance URL --only login --json | jq '.checks[] | select(.outcome == \"failed\")'
  Live with what is known:
    printf '[[waiver]]\\ncheck = \"nop.echo\"\\nreason = \"fixed in 2.1\"\\n' > known.toml
    vmthunder conformance URL --waivers known.toml
  Judge an initiator that is a program, or whoever comes:
    vmthunder conformance --initiator --listen 127.0.0.1:0 --command 'qemu-img compare {url} pattern.raw'
    vmthunder conformance --initiator --listen 192.0.2.1:3260

Exit codes: 0 nothing failed, 1 something failed, 2 the suite could not run, or was interrupted.";

fn trimmed(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("a check's name, or its beginning up to a dot".to_owned()),
        name => Ok(name.to_owned()),
    }
}

fn words(text: &str) -> Result<Words, String> {
    match shlex::split(text) {
        Some(words) if !words.is_empty() => Ok(Words(words)),
        Some(_) => Err("a program and its arguments".to_owned()),
        None => Err("a quotation mark has no other".to_owned()),
    }
}

fn patience(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.05..=60.0).contains(&seconds) => Ok(seconds),
        _ => Err("seconds, from 0.05 to 60".to_owned()),
    }
}
