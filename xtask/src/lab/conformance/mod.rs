//! `cargo xtask lab conformance`: our suite against our target and every other that can be started here, and the page
//! about it.

pub(crate) mod page;
mod peers;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use serde_json::Value;

use crate::bounded;
use crate::lab::Program;
use crate::lab::conformance::page::{Column, Outcome, Verdict};
use crate::lab::conformance::peers::Peer;
use crate::repo::Repo;
use crate::tally::Tally;

/// The page that the whole run writes.
const PAGE: &str = "docs/conformance.md";
/// How long a target may be judged: istgt answers so little that half an hour is not much.
const LIMIT: Duration = Duration::from_secs(2700);
/// How long the faults may take, with what cargo has to build for them.
const FAULTS: Duration = Duration::from_secs(1200);

/// Whom to judge.
#[derive(Args)]
pub(crate) struct ConformanceArgs {
    /// Only these: vmthunder, vmthunder-chap, vmthunder-read-only, tgt, tgt-full, tgt-chap, istgt, lio, lio-chap. The page is not
    /// written then.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,
    /// Keep the reports of each target in this folder: JSON and HTML.
    #[arg(long, value_name = "FOLDER")]
    reports: Option<PathBuf>,
    /// Judge nobody: write the page from the reports in this folder, of as many runs as made them.
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["only", "reports"])]
    page_from: Option<PathBuf>,
    #[command(flatten)]
    program: Program,
}

pub(crate) fn run(repo: &Repo, args: &ConformanceArgs) -> Result<Tally> {
    if let Some(folder) = &args.page_from {
        let columns = read_all(folder)?;
        return write_page(repo, &columns);
    }
    let vmthunder = args.program.build_release(repo)?;
    let unknown = args
        .only
        .iter()
        .find(|name| Peer::ALL.iter().all(|peer| peer.name() != *name));
    ensure!(unknown.is_none(), "no target is called {unknown:?}");
    let wanted = |peer: &Peer| args.only.is_empty() || args.only.iter().any(|n| n == peer.name());
    let mut columns = Vec::new();
    for peer in Peer::ALL.into_iter().filter(wanted) {
        let column = judge(repo, &vmthunder, peer, args.reports.as_deref())
            .with_context(|| format!("judging {}", peer.name()))?;
        complain(&column);
        columns.push(column);
    }
    if args.only.is_empty() {
        return write_page(repo, &columns);
    }
    println!("{}", page::counts(&columns));
    Ok(tally(&columns))
}

/// The reports that a folder has.
fn read_all(folder: &Path) -> Result<Vec<Column>> {
    let mut columns = Vec::new();
    for peer in Peer::ALL {
        let file = folder.join(format!("{}.json", peer.name()));
        if file.is_file() {
            columns.push(column(peer.title(), &fs::read(&file)?)?);
        }
    }
    ensure!(!columns.is_empty(), "{} has no reports", folder.display());
    Ok(columns)
}

fn write_page(repo: &Repo, columns: &[Column]) -> Result<Tally> {
    println!("{}", page::counts(columns));
    let text = page::page(INTRODUCTION, columns, &faults(repo, "mutations")?);
    fs::write(repo.root.join(PAGE), text)?;
    println!("wrote {PAGE}");
    Ok(tally(columns))
}

/// One run of the suite, with all that it may do.
fn judge(repo: &Repo, vmthunder: &Path, peer: Peer, reports: Option<&Path>) -> Result<Column> {
    let running = peer.start(repo, vmthunder)?;
    let mut command = Command::new(vmthunder);
    command.arg("conformance").args(running.arguments());
    command.args(["--destructive", "--yes"]).args(peer.bounds());
    if let Some(file) = peer.waivers() {
        command.arg("--waivers").arg(repo.root.join(file));
    }
    verdicts(&mut command, (peer.name(), peer.title()), reports)
}

/// What a run of the suite says; its reports are kept in the folder `reports`.
pub(crate) fn verdicts(
    command: &mut Command,
    (name, title): (&str, &'static str),
    reports: Option<&Path>,
) -> Result<Column> {
    command.arg("--json");
    if let Some(folder) = reports {
        fs::create_dir_all(folder)?;
        command
            .arg("--html")
            .arg(folder.join(format!("{name}.html")));
    }
    let finished = bounded::output(command, LIMIT)?;
    if !matches!(finished.status.code(), Some(0 | 1)) {
        bail!("{}: {}", finished.status, finished.stderr);
    }
    if let Some(folder) = reports {
        fs::write(folder.join(format!("{name}.json")), &finished.stdout)?;
    }
    column(title, &finished.stdout)
}

/// What a report says.
fn column(title: &'static str, report: &[u8]) -> Result<Column> {
    let report: Value = serde_json::from_slice(report).context("--json")?;
    let checks = report["checks"].as_array().context("no array `checks`")?;
    Ok(Column {
        title,
        product: words(&report["product"]),
        seconds: report["seconds"].as_f64().unwrap_or_default(),
        verdicts: checks.iter().map(verdict).collect::<Result<_>>()?,
    })
}

fn verdict(check: &Value) -> Result<Verdict> {
    Ok(Verdict {
        name: words(&check["name"]),
        section: words(&check["section"]),
        level: words(&check["level"]),
        expects: words(&check["expects"]),
        detail: words(&check["detail"]),
        outcome: match check["outcome"].as_str() {
            Some("passed") => Outcome::Passed,
            Some("failed") => Outcome::Failed,
            Some("skipped") => Outcome::Skipped,
            Some("waived") => Outcome::Explained,
            other => bail!("outcome {other:?}"),
        },
    })
}

fn words(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// What failed without an explanation.
pub(crate) fn complain(column: &Column) {
    println!("--- {} ({:.0} s)", column.title, column.seconds);
    for verdict in &column.verdicts {
        if verdict.outcome == Outcome::Failed {
            println!("{}: FAILED: {}", verdict.name, verdict.detail);
        }
    }
}

/// Ours may fail nothing, and of a peer nothing may fail without an explanation.
pub(crate) fn tally(columns: &[Column]) -> Tally {
    let mut tally = Tally::default();
    for verdict in columns.iter().flat_map(|column| &column.verdicts) {
        match verdict.outcome {
            Outcome::Passed | Outcome::Explained => tally.count(true),
            Outcome::Failed => tally.count(false),
            Outcome::Skipped => {}
        }
    }
    tally
}

/// Judges the suite itself: "N checks, M faults, every one noticed".
pub(crate) fn faults(repo: &Repo, test: &str) -> Result<String> {
    let mut command = repo.cargo(["test", "--quiet", "--package", "iscsi-conformance"]);
    command.args(["--test", test, "--", "--nocapture"]);
    let text = bounded::succeed(&mut command, FAULTS)?.text();
    let line = text.lines().find(|line| line.ends_with("noticed"));
    Ok(line
        .context("the tests do not say how many faults were noticed")?
        .to_owned())
}

const INTRODUCTION: &str = "\
# Conformance

What `vmthunder conformance --destructive` says about this target and about every other one that can be started beside it.
Made by `cargo xtask lab conformance`, never by hand; what a peer does differently is explained in `conformance/waivers`.
What libiscsi's suite says: [libiscsi-suite.md](libiscsi-suite.md). What initiators do:
[conformance-initiators.md](conformance-initiators.md).
";
