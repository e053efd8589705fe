//! `cargo xtask lab suite`: libiscsi's test suite over every configuration and against tgt, and the page about it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;

use crate::bounded;
use crate::lab::Program;
use crate::packages;
use crate::repo::Repo;
use crate::suite::{self, Column, Configuration, Counts, Subject, Tool, Verdict};
use crate::tally::Tally;

/// The page that the whole run writes.
const PAGE: &str = "docs/libiscsi-suite.md";
/// How long a program may take to say its version.
const LIMIT: Duration = Duration::from_secs(20);

/// What to run, and with which suite.
#[derive(Args)]
pub(crate) struct SuiteArgs {
    /// `iscsi://HOST[:PORT]/TARGET/LUN`: only this LUN, whose content is lost. Without it our target in every
    /// configuration, tgt beside it, and docs/libiscsi-suite.md is written.
    url: Option<String>,
    /// A family such as Read10, or a test of it such as Read10.Simple.
    #[arg(long, value_name = "NAME")]
    family: Option<String>,
    /// Another portal of the same LUN.
    #[arg(long, value_name = "URL", requires = "url")]
    second: Option<String>,
    /// Only these: plain, 4096, two-portals, removable, read-only, chap, tgt, tgt-thin. The page is not written then.
    #[arg(
        long,
        value_name = "NAME",
        value_delimiter = ',',
        conflicts_with = "url"
    )]
    only: Vec<String>,
    /// Another iscsi-test-cu, for example a newer one: see lab/fetch-libiscsi. The page is not written then.
    #[arg(long, value_name = "FILE")]
    tool: Option<PathBuf>,
    #[command(flatten)]
    program: Program,
}

pub(crate) fn run(repo: &Repo, args: &SuiteArgs) -> Result<Tally> {
    let tool = Tool::new(args.tool.clone());
    let families = match &args.family {
        Some(family) => vec![family.clone()],
        None => tool.families()?,
    };
    if let Some(url) = &args.url {
        let subject = Subject {
            url,
            second_url: args.second.as_deref(),
        };
        return judge_url(&tool, &families, subject);
    }
    let vmthunder = args.program.build(repo)?;
    let wanted = |configuration: &Configuration| {
        args.only.is_empty() || args.only.iter().any(|name| name == configuration.name())
    };
    let all = Configuration::OURS.into_iter().chain(Configuration::TGT);
    let mut asked: Vec<(_, Vec<String>)> = all
        .filter(wanted)
        .map(|configuration| {
            let applies = |family: &&String| configuration.applies(family);
            (
                configuration,
                families.iter().filter(applies).cloned().collect(),
            )
        })
        .collect();
    asked.retain(|(_, parts)| !parts.is_empty());
    println!("{} configurations at once: some minutes", asked.len());
    let columns = suite::judge_together(&tool, &vmthunder, asked);
    for column in &columns {
        println!(
            "--- {} ({:.0} s)",
            column.configuration.title(),
            column.seconds
        );
        suite::complain(&column.tests);
    }
    println!("{}", suite::counts(&columns));
    println!(
        "{} tests pass in at least one configuration",
        suite::union(&columns)
    );
    if args.tool.is_none() && args.only.is_empty() && args.family.is_none() {
        fs::write(repo.root.join(PAGE), suite::page(&versions()?, &columns))?;
        println!("wrote {PAGE}");
    }
    Ok(tally(&columns))
}

/// Against ours only what failed or hung counts as failed: a skip has its place on the page.
fn tally(columns: &[Column]) -> Tally {
    let mut tally = Tally::default();
    let ours = columns.iter().filter(|column| column.is_ours());
    for test in ours.flat_map(Column::counted) {
        match test.verdict {
            Verdict::Passed => tally.count(true),
            Verdict::Failed(_) | Verdict::Missing => tally.count(false),
            Verdict::Partial(_) | Verdict::Skipped(_) => {}
        }
    }
    tally
}

fn judge_url(tool: &Tool, families: &[String], subject: Subject<'_>) -> Result<Tally> {
    let mut all = Vec::new();
    for family in families {
        let tests = tool.run(family, subject)?;
        suite::complain(&tests);
        all.extend(tests);
    }
    println!("{}", Counts::of(&all));
    let mut tally = Tally::default();
    for test in &all {
        tally.count(test.verdict == Verdict::Passed);
    }
    Ok(tally)
}

/// What was compared.
fn versions() -> Result<Vec<String>> {
    let suite = packages::installed("libiscsi-bin").context("libiscsi-bin is not installed")?;
    let tgt = bounded::succeed(Command::new("/usr/sbin/tgtd").arg("--version"), LIMIT)?.text();
    Ok(vec![
        format!("iscsi-test-cu of libiscsi {suite}"),
        format!("vmthunder {}", env!("CARGO_PKG_VERSION")),
        format!("tgt {}", tgt.trim()),
    ])
}
