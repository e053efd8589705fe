//! `vmthunder conformance --initiator`: a portal that judges whoever logs in.

use std::cell::RefCell;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, anyhow};
use iscsi_conformance::initiator::{
    ACCOUNTS, Drill, Listener, Options, TARGET_PREFIX, Visitor, drills, run,
};
use iscsi_conformance::report::{About, Peer};
use iscsi_conformance::{Judged, Report};

use crate::args::{ConformanceArgs, InitiatorArgs};
use crate::conformance::files::Files;
use crate::conformance::{Progress, chosen, interrupted, publish, show};

/// Judges initiators; false if something failed.
pub(super) async fn judge(args: &ConformanceArgs) -> Result<bool> {
    let mut drills = drills();
    let names: Vec<_> = drills.iter().map(|drill| drill.rule.name).collect();
    let (selection, waivers) = chosen(&args.choice, Peer::Initiator, &names)?;
    drills.retain(|drill| selection.wants(drill.rule.name));
    if args.choice.list {
        let listed: Vec<_> = drills.iter().map(|drill| (&drill.rule, None)).collect();
        show::list(&listed, args.reports.json)?;
        return Ok(true);
    }
    let address = args.visit.listen.as_deref().context(
        "--initiator alone judges an initiator: say where it finds the suite, --listen HOST:PORT; beside a URL it names the suite",
    )?;
    let files = Files::begin(&args.reports)?;
    let listener = Listener::bind(address)
        .await
        .with_context(|| format!("cannot listen at {address}"))?;
    let mut options = Options::new(visitor(&args.visit));
    options.advertised.clone_from(&args.visit.advertise);
    if let Some(patience) = args.bounds.patience {
        options.patience = Duration::from_secs_f64(patience);
    }
    invite(&listener, &options.visitor);
    let (started, began) = (SystemTime::now(), Instant::now());
    let (report, in_vain) = play(&listener, &options, &drills, args.bounds.limit()).await;
    let about = About {
        peer: Peer::Initiator,
        subject: subject(&args.visit, &listener),
        facts: None,
        destructive: true,
        started,
        took: began.elapsed(),
        unneeded_waivers: Vec::new(),
    };
    let published = publish(about, report, &waivers, &args.reports, files);
    in_vain.map_or(published, |why| Err(anyhow!(why)))
}

/// Plays the drills until all are over, the time is, or the user wants no more; and why it is of no use to send the
/// visitor, if that is so.
async fn play(
    listener: &Listener,
    options: &Options,
    drills: &[&'static Drill],
    limit: Duration,
) -> (Report, Option<String>) {
    let done: RefCell<Vec<Judged>> = RefCell::default();
    let mut progress = Progress::over(drills.len());
    let all = run(listener, options, drills, |judged| {
        progress.note(judged);
        done.borrow_mut().push(judged.clone());
    });
    let mut in_vain = None;
    let broken_off = tokio::select! {
        report = all => {
            in_vain.clone_from(&report.broken_off);
            report.broken_off
        }
        why = interrupted() => Some(why),
        () = tokio::time::sleep(limit) => {
            let minutes = limit.as_secs() / 60;
            Some(format!("the limit of {minutes} min for the whole run, which --limit sets, was over"))
        }
    };
    progress.bar.finish_and_clear();
    let done = done.into_inner();
    let why = broken_off.clone().unwrap_or_default();
    let verdict = |drill: &&'static Drill| {
        let known = done
            .iter()
            .find(|judged| judged.rule.name == drill.rule.name);
        known
            .cloned()
            .unwrap_or_else(|| Judged::skipped(&drill.rule, &why))
    };
    let report = Report {
        judged: drills.iter().map(verdict).collect(),
        broken_off,
    };
    (report, in_vain)
}

fn visitor(args: &InitiatorArgs) -> Visitor {
    match &args.command {
        None => Visitor::Anybody,
        Some(command) => Visitor::Program {
            normal: command.0.clone(),
            discovery: args.discovery_command.clone().map(|command| command.0),
        },
    }
}

/// Says where the suite is, and what to do there. Standard output is for verdicts.
fn invite(listener: &Listener, visitor: &Visitor) {
    let portal = listener.address();
    eprintln!("ready iscsi://{portal}");
    if matches!(visitor, Visitor::Anybody) {
        eprintln!(
            "Log in to each target there, read and write its LUN 0, and log out: each looks at one thing.\n\
             Their names: {TARGET_PREFIX}CHECK, as discovery and `--initiator --list` list them.\n\
             Those of chap.* demand CHAP, for which there are no secrets: {} with {}, and if the target has to\n\
             prove itself, {} with {}.\n\
             The run ends when all were visited, when nobody came for a minute, or on Ctrl-C.",
            ACCOUNTS.initiator.user,
            ACCOUNTS.initiator.secret,
            ACCOUNTS.target.user,
            ACCOUNTS.target.secret,
        );
    }
}

fn subject(args: &InitiatorArgs, listener: &Listener) -> String {
    match &args.command {
        Some(command) => {
            let words = command.0.iter().map(String::as_str);
            let line = shlex::try_join(words).unwrap_or_else(|_| command.0.join(" "));
            // In one line, as all subjects.
            line.split_whitespace().collect::<Vec<_>>().join(" ")
        }
        None => format!("whoever came to {}", listener.address()),
    }
}
