//! `vmthunder conformance`: judges a target, or an initiator.

mod files;
mod initiator;
mod show;
mod side;
mod subject;

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Error, Result, anyhow, bail};
use indicatif::{ProgressBar, ProgressStyle};
use iscsi_conformance::initiator::drills;
use iscsi_conformance::report::{About, Peer, json};
use iscsi_conformance::{
    Facts, Judged, Outcome, Report, Run, Selection, UnknownCheck, WaiverError, Waivers, all,
};

use crate::args::{ChoiceArgs, ConformanceArgs, ReportArgs};
use crate::conformance::files::Files;
use crate::conformance::subject::Whom;
use crate::consent::{self, Disk};
use crate::login;
use crate::observe::{is_broken_pipe, line};
use crate::serve::end;

/// Carries the command out; false if something failed.
pub(crate) async fn run(args: ConformanceArgs) -> Result<bool> {
    match side::judged(&args)? {
        Peer::Initiator => initiator::judge(&args).await,
        Peer::Target => target(&args).await,
    }
}

async fn target(args: &ConformanceArgs) -> Result<bool> {
    let mut checks = all();
    let names: Vec<_> = checks.iter().map(|check| check.rule.name).collect();
    let (selection, waivers) = chosen(&args.choice, Peer::Target, &names)?;
    checks.retain(|check| selection.wants(check.rule.name));
    if args.choice.list {
        let listed = checks.iter().map(|check| (&check.rule, Some(check.effect)));
        show::list(&listed.collect::<Vec<_>>(), args.reports.json)?;
        return Ok(true);
    }
    let files = Files::begin(&args.reports)?;
    let ready = tokio::select! {
        ready = ready(args) => ready,
        ended = end(false) => {
            ended.context("cannot wait for signals")?;
            Err(anyhow!("interrupted before anything was judged"))
        }
    };
    let (whom, facts) = match ready {
        Ok(ready) => ready,
        Err(why) => {
            unplayed(args, files, &why)?;
            return Err(why);
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

/// Reports, where that is asked for, that there was nobody to play with, and why.
fn unplayed(args: &ConformanceArgs, files: Files, why: &Error) -> Result<()> {
    let url = args.url.as_deref().and_then(|url| login::parse(url).ok());
    let about = About {
        peer: Peer::Target,
        subject: url.map(|url| url.to_string()).unwrap_or_default(),
        facts: None,
        destructive: args.destructive,
        started: SystemTime::now(),
        took: Duration::ZERO,
        unneeded_waivers: Vec::new(),
    };
    let report = Report {
        judged: Vec::new(),
        broken_off: Some(format!("{why:#}")),
    };
    files.write(&about, &report)?;
    match args.reports.json.then(|| line(json(&about, &report))) {
        Some(Err(error)) if !is_broken_pipe(&error) => Err(error),
        _ => Ok(()),
    }
}

/// Whom to judge, and what the disk is: everything that has to be said before the first check.
async fn ready(args: &ConformanceArgs) -> Result<(Whom, Facts)> {
    let whom = Whom::of(args).await?;
    let facts = whom.facts(args).await?;
    if args.destructive {
        if facts.read_only {
            eprintln!("{WRITE_PROTECTED}");
        }
        let disk = Disk {
            product: &facts.product,
            serial: &facts.serial,
            bytes: show::bytes(&facts),
            url: &whom.url.to_string(),
        };
        consent::ask(&disk, "--destructive writes to", args.yes).await?;
    }
    Ok((whom, facts))
}

/// Which checks are wanted, and the waivers; `names` are those of all checks of this side.
fn chosen(args: &ChoiceArgs, peer: Peer, names: &[&str]) -> Result<(Selection, Waivers)> {
    let selection = Selection {
        only: args.only.clone(),
        skip: args.skip.clone(),
    };
    let examined = selection.examine(names);
    examined.map_err(|unknown| no_such_check(&unknown, peer))?;
    let waivers = match &args.waivers {
        Some(file) => read_waivers(file, peer, names)?,
        None => Waivers::default(),
    };
    Ok((selection, waivers))
}

fn read_waivers(file: &Path, peer: Peer, names: &[&str]) -> Result<Waivers> {
    let text =
        std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let read = Waivers::parse(&text, names).map_err(|error| match error {
        WaiverError::Unknown(unknown) => no_such_check(&unknown, peer),
        other => other.into(),
    });
    read.with_context(|| file.display().to_string())
}

/// Where the names are, and which side the other ones are about.
fn no_such_check(unknown: &UnknownCheck, peer: Peer) -> Error {
    let (side, other, names): (_, _, Vec<_>) = match peer {
        Peer::Target => {
            let drills = drills();
            let names = drills.iter().map(|drill| drill.rule.name);
            ("", "initiators, which --initiator judges", names.collect())
        }
        Peer::Initiator => {
            let names = all().into_iter().map(|check| check.rule.name);
            (
                " --initiator",
                "targets, which a URL names",
                names.collect(),
            )
        }
    };
    let there = Selection {
        only: vec![unknown.name.clone()],
        skip: Vec::new(),
    };
    if there.examine(&names).is_ok() {
        return anyhow!("{} is for {other}", unknown.name);
    }
    let colon = if unknown.near.is_empty() { ";" } else { "" };
    anyhow!("{unknown}{colon} `vmthunder conformance{side} --list` shows them all")
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
    let nothing = report.count(Outcome::Skipped) == report.judged.len();
    if nothing && report.broken_off.is_none() {
        report.broken_off = Some(why_nothing(about.peer, &report).to_owned());
    }
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
    let errors = names(&report, Outcome::Error);
    if !errors.is_empty() {
        bail!(
            "the suite itself failed in {}: please report it with what is said about it above",
            errors.join(", ")
        );
    }
    match (report.count(Outcome::Failed), &report.broken_off) {
        (_, Some(why)) if nothing => bail!("nothing was judged: {why}"),
        (0, Some(why)) => bail!("nothing failed, but not all was judged: {why}"),
        (failed, _) => Ok(failed == 0),
    }
}

fn names(report: &Report, outcome: Outcome) -> Vec<&'static str> {
    let judged = report.judged.iter();
    let judged = judged.filter(|judged| judged.outcome == outcome);
    judged.map(|judged| judged.rule.name).collect()
}

/// Why every check was skipped.
fn why_nothing(peer: Peer, report: &Report) -> &str {
    let Some(first) = report.judged.first() else {
        return show::NONE_LEFT;
    };
    let same = |judged: &Judged| judged.detail == first.detail;
    match peer {
        Peer::Initiator if !report.judged.iter().all(same) => {
            "no initiator came, or none did what the checks are about"
        }
        _ => &first.detail,
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

/// What is said once about a disk that cannot be written.
const WRITE_PROTECTED: &str = "note: the disk is write protected, so the checks that must write to it are skipped; what else --destructive allows (writes that are to be refused, reservations, resets) is played";
/// Why a run ends that the user interrupts.
const INTERRUPTED: &str = "interrupted";
/// How often the clock beside the bar moves.
const TICK: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_the_suite_ends_the_program_with_code_2_and_all_reports_written() {
        let folder = tempfile::tempdir().unwrap();
        let junit = folder.path().join("report.xml");
        let args = ReportArgs {
            json: false,
            junit: Some(junit.clone()),
            html: None,
        };
        let checks = all();
        let mut judged = checks
            .iter()
            .map(|check| Judged::skipped(&check.rule, "no"));
        let mut first = judged.next().unwrap();
        first.outcome = Outcome::Error;
        let name = first.rule.name;
        let report = Report {
            judged: std::iter::once(first).chain(judged).collect(),
            broken_off: None,
        };
        let about = About {
            peer: Peer::Target,
            subject: String::new(),
            facts: None,
            destructive: false,
            started: SystemTime::UNIX_EPOCH,
            took: Duration::ZERO,
            unneeded_waivers: Vec::new(),
        };
        let files = Files::begin(&args).unwrap();
        // What is an error ends with code 2.
        let error = publish(about, report, &Waivers::default(), &args, files).unwrap_err();
        let said = error.to_string();
        assert!(
            said.contains("the suite itself failed") && said.contains(name),
            "{said}"
        );
        let text = std::fs::read_to_string(junit).unwrap();
        assert!(text.contains("<error") && text.contains(name), "{text}");
    }
}
