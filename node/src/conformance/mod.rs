//! `vmthunder conformance`: judges a target, or an initiator.

mod consent;
mod files;
mod initiator;
mod show;
mod subject;

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use iscsi_conformance::report::{About, Peer, json};
use iscsi_conformance::{Facts, Judged, Outcome, Report, Run, Selection, Waivers, all};

use crate::args::{ChoiceArgs, ConformanceArgs, ReportArgs};
use crate::conformance::files::Files;
use crate::conformance::subject::Whom;
use crate::observe::{is_broken_pipe, line};
use crate::serve::end;

/// Carries the command out; false if something failed.
pub(crate) async fn run(args: ConformanceArgs) -> Result<bool> {
    match (&args.url, &args.initiator) {
        (None, Some(_)) => initiator::judge(&args).await,
        _ => target(&args).await,
    }
}

async fn target(args: &ConformanceArgs) -> Result<bool> {
    let mut checks = all();
    let names: Vec<_> = checks.iter().map(|check| check.rule.name).collect();
    let (selection, waivers) = chosen(&args.choice, &names)?;
    checks.retain(|check| selection.wants(check.rule.name));
    if args.choice.list {
        let listed = checks.iter().map(|check| (&check.rule, Some(check.effect)));
        show::list(&listed.collect::<Vec<_>>(), args.reports.json)?;
        return Ok(true);
    }
    let files = Files::begin(&args.reports)?;
    let (whom, facts) = tokio::select! {
        ready = ready(args) => ready?,
        ended = end(false) => {
            ended.context("cannot wait for signals")?;
            bail!("interrupted before anything was judged");
        }
    };
    let run = Run {
        destructive: args.destructive,
        limit: args.bounds.limit(),
        ..Run::new(&whom.subject, &facts)
    };
    let mut progress = Progress::over(checks.len());
    let (started, began) = (SystemTime::now(), Instant::now());
    let report = run
        .judge(&checks, interrupted(), |judged| progress.note(judged))
        .await;
    progress.bar.finish_and_clear();
    let about = About {
        peer: Peer::Target,
        subject: whom.url.to_string(),
        facts: Some(facts.clone()),
        destructive: args.destructive,
        started,
        took: began.elapsed(),
        unneeded_waivers: Vec::new(),
    };
    publish(about, report, &waivers, &args.reports, files)
}

/// Whom to judge, and what the disk is: everything that has to be said before the first check.
async fn ready(args: &ConformanceArgs) -> Result<(Whom, Facts)> {
    let whom = Whom::of(args).await?;
    let facts = whom.facts(args).await?;
    if args.destructive {
        consent::ask(&facts, &whom.url.to_string(), args.yes).await?;
    }
    Ok((whom, facts))
}

/// Which checks are wanted, and the waivers; `names` are those of all checks.
fn chosen(args: &ChoiceArgs, names: &[&str]) -> Result<(Selection, Waivers)> {
    let selection = Selection {
        only: args.only.clone(),
        skip: args.skip.clone(),
    };
    selection.examine(names)?;
    let waivers = match &args.waivers {
        Some(file) => read_waivers(file, names)?,
        None => Waivers::default(),
    };
    Ok((selection, waivers))
}

fn read_waivers(file: &Path, names: &[&str]) -> Result<Waivers> {
    let text =
        std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    Waivers::parse(&text, names).with_context(|| file.display().to_string())
}

/// Ends when the program is told to.
async fn interrupted() -> String {
    match end(false).await {
        Ok(()) => INTERRUPTED.to_owned(),
        // Then signals do what they do by default.
        Err(_) => std::future::pending().await,
    }
}

/// Waives, writes and prints; false if something failed, and an error if the run was interrupted.
fn publish(
    mut about: About,
    mut report: Report,
    waivers: &Waivers,
    args: &ReportArgs,
    files: Files,
) -> Result<bool> {
    about.unneeded_waivers = waivers.apply(&mut report);
    files.write(&about, &report)?;
    let printed = if args.json {
        line(json(&about, &report))
    } else {
        show::verdicts(&about, &report)
    };
    match printed {
        // Whoever read our output has read enough, and the verdict stands.
        Err(error) if is_broken_pipe(&error) => {}
        other => other?,
    }
    if report.broken_off.as_deref() == Some(INTERRUPTED) {
        bail!("interrupted; the checks that were not played by then count as skipped");
    }
    if report.count(Outcome::Skipped) == report.judged.len() {
        bail!("nothing was judged: {}", why_nothing(about.peer, &report));
    }
    Ok(report.count(Outcome::Failed) == 0)
}

/// Why every check was skipped.
fn why_nothing(peer: Peer, report: &Report) -> &str {
    match (peer, report.judged.first()) {
        (_, None) => "--only and --skip leave no check",
        (Peer::Initiator, _) => "no initiator came, or none did what the checks are about",
        (Peer::Target, Some(first)) => &first.detail,
    }
}

/// How far the run is, on standard error and only where somebody looks.
struct Progress {
    bar: ProgressBar,
    failed: usize,
}

impl Progress {
    fn over(checks: usize) -> Self {
        let style = "{wide_bar} {pos}/{len} {msg} {elapsed}";
        let style =
            ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::new(checks as u64).with_style(style);
        bar.enable_steady_tick(TICK);
        Self { bar, failed: 0 }
    }

    fn note(&mut self, judged: &Judged) {
        self.failed += usize::from(judged.outcome == Outcome::Failed);
        let failed = self.failed;
        self.bar
            .set_message(format!("{failed} failed, {}", judged.rule.name));
        self.bar.inc(1);
    }
}

/// Why a run ends that the user interrupts.
const INTERRUPTED: &str = "interrupted";
/// How often the clock beside the bar moves.
const TICK: Duration = Duration::from_millis(500);
