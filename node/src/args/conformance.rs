//! `vmthunder conformance`, as it is written.

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
    pub(crate) url: Option<String>,
    /// Also play the checks that write to the disk, or disturb whoever else uses it. Shows which disk that is, and asks
    /// for its serial number.
    #[arg(long)]
    pub(crate) destructive: bool,
    /// Do not ask before `--destructive`.
    #[arg(long)]
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
    #[arg(long, value_name = "HOST:PORT", value_parser = listen)]
    pub(crate) listen: Option<String>,
    /// What to run for each check: a program that logs in to `{url}`, reads and writes its disk, and ends. Without it
    /// the suite waits for whoever comes, until nobody came for a minute.
    ///
    /// `{url}` stands for `iscsi://HOST:PORT/TARGET/0`, with `USER%SECRET@` in it where CHAP is demanded, `{portal}` for `HOST:PORT`, `{target}` for the target's name,
    /// which is another one for each check. Put the whole command into single quotes: the suite splits it into words
    /// as a shell does, quotes included, but knows no pipes and no variables; for those run a script, or
    /// `sh -c "..." {url}`, to which the URL is `$0`.
    ///
    /// It should read and write at least 1 MiB, for what it does not do is not judged. The disk has 16 MiB in blocks of
    /// 512 bytes, and is as new for each check: it reads as a pattern, which is the same every time, and keeps what is
    /// written. Exit code 0 says that all went well, for example that what was read is what had been written.
    #[arg(long, value_name = "COMMAND", value_parser = visitor)]
    pub(crate) command: Option<Words>,
    /// What to run for the checks of discovery: a program that asks `{portal}` for its targets. Without it they are
    /// skipped. Written like `--command`; there is no `{target}`, and `{url}` stands for `iscsi://HOST:PORT`.
    #[arg(long, value_name = "COMMAND", value_parser = discoverer)]
    pub(crate) discovery_command: Option<Words>,
    /// The host under which initiators see the suite, if it is another one than `--listen` has: they are told it in
    /// redirections and lists of targets.
    #[arg(long, value_name = "HOST")]
    pub(crate) advertise: Option<String>,
}

/// A program and its arguments.
#[derive(Clone, Debug)]
pub(crate) struct Words(pub(crate) Vec<String>);

/// Which checks are played.
#[derive(Debug, Args)]
#[command(next_help_heading = "Which checks")]
pub(crate) struct ChoiceArgs {
    /// Print the checks and what they expect, and play none.
    #[arg(long, conflicts_with_all = ["junit", "html"])]
    pub(crate) list: bool,
    /// Play these alone: names, or their beginnings up to a dot, for example `login` or `login.keys,nop`. May be
    /// repeated.
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = trimmed)]
    pub(crate) only: Vec<String>,
    /// Leave these out, written in the same way.
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = trimmed)]
    pub(crate) skip: Vec<String>,
    /// Failures that are known, and why: a file with `[[waiver]]`, `check = "NAME"`, `reason = "..."` for each. They
    /// count as waived, and the waiver of a check that passed this time is named.
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
    #[arg(long, value_name = "MINUTES", default_value = "15", value_parser = minutes)]
    limit: u16,
}

impl BoundArgs {
    /// How long the whole run may take.
    pub(crate) fn limit(&self) -> Duration {
        Duration::from_secs(60 * u64::from(self.limit))
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
Exit codes: 0 nothing failed, 1 something failed, 2 the suite could not run to its end, or has an error.";

const LONG_HELP: &str = "\
Outcomes:
  passed   the rule is kept
  failed   the rule is broken
  skipped  the target does not offer what the rule is about, or the check was not to be played
  waived   the rule is broken, and --waivers says why that is known
  error    the suite itself failed, which says nothing about the other end: please report it

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
  Judge an initiator that is a program, with a disk full of noise to write and to find again:
    head -c 16M /dev/urandom > noise.raw
    vmthunder conformance --initiator --listen 127.0.0.1:0 \\
      --command 'sh -c \"qemu-img convert -n -f raw -O raw noise.raw $0 &&
        qemu-img compare -f raw -F raw noise.raw $0\" {url}' \\
      --discovery-command 'vmthunder iscsi discover {url}'
  Judge one that only reads; the pattern it should find comes from any initiator that is trusted:
    vmthunder conformance --initiator --listen 127.0.0.1:0 \\
      --only nop.answered --command 'sh -c \"vmthunder iscsi read $0 > pattern.raw\" {url}'
    vmthunder conformance --initiator --listen 127.0.0.1:0 \\
      --command 'qemu-img compare -f raw -F raw pattern.raw {url}'
  Judge whoever comes:
    vmthunder conformance --initiator --listen 192.0.2.1:3260

Exit codes: 0 nothing failed, 1 something failed, 2 the suite could not run to its end, or has an error.";

fn trimmed(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("a check's name, or its beginning up to a dot".to_owned()),
        name => Ok(name.to_owned()),
    }
}

fn listen(text: &str) -> Result<String, String> {
    let parts = text.rsplit_once(':');
    match parts.map(|(host, port)| (host, port.parse::<u16>())) {
        Some((host, Ok(_))) if !host.is_empty() => Ok(text.to_owned()),
        _ => Err(
            "HOST:PORT, for example 127.0.0.1:3260, with port 0 for any that is free".to_owned(),
        ),
    }
}

fn visitor(text: &str) -> Result<Words, String> {
    let placeholders = ["{url}", "{portal}", "{target}"];
    finds_the_suite(
        words(text)?,
        &placeholders,
        "{url} (iscsi://HOST:PORT/TARGET/0), or {portal} (HOST:PORT) and {target} (the target's name)",
    )
}

fn discoverer(text: &str) -> Result<Words, String> {
    let placeholders = ["{url}", "{portal}"];
    finds_the_suite(
        words(text)?,
        &placeholders,
        "{portal} (HOST:PORT) or {url} (iscsi://HOST:PORT)",
    )
}

/// Refuses a command that is not told where to log in.
fn finds_the_suite(words: Words, placeholders: &[&str], means: &str) -> Result<Words, String> {
    let is_told = |word: &String| placeholders.iter().any(|holder| word.contains(holder));
    match words.0.iter().any(is_told) {
        true => Ok(words),
        false => Err(format!(
            "the program is not told where to log in: write {means} where it takes that"
        )),
    }
}

fn minutes(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(minutes @ 1..) => Ok(minutes),
        _ => Err(format!("whole minutes, from 1 to {}", u16::MAX)),
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
