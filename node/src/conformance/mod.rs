//! `vmthunder conformance`: judges a target.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use iscsi_conformance::{Credentials, Outcome, Selection, Subject, all, judge, probe};

use crate::args::ConformanceArgs;
use crate::observe::line;
use crate::status::print_json;
use crate::{login, names};

/// Judges; false if something failed.
pub(crate) async fn run(args: ConformanceArgs) -> Result<bool> {
    ensure!(
        args.yes || !args.destructive,
        "--destructive writes to the disk: say --yes, too"
    );
    let selection = Selection {
        only: args.choice.only.clone(),
        skip: args.choice.skip.clone(),
    };
    let all = all();
    let known: Vec<_> = all.iter().map(|check| check.rule.name).collect();
    selection.examine(&known)?;
    let checks: Vec<_> = all
        .into_iter()
        .filter(|check| selection.wants(check.rule.name))
        .filter(|check| args.destructive || check.effect == iscsi_conformance::Effect::Reads)
        .collect();
    let subject = subject(&args)?;
    let facts = probe(&subject).await?;
    let report = judge(&subject, &facts, &checks, |_| {}).await;
    let mut failed = 0;
    let mut shown = Vec::new();
    for judged in &report.judged {
        let rule = judged.rule;
        let outcome = format!("{:?}", judged.outcome).to_lowercase();
        failed += usize::from(judged.outcome == Outcome::Failed);
        if args.reports.json {
            shown.push(serde_json::json!({
                "name": rule.name, "section": rule.section, "level": format!("{:?}", rule.level).to_uppercase(),
                "outcome": outcome, "detail": judged.detail, "pdus": judged.transcript,
                "sends": rule.sends, "expects": rule.expects, "seconds": judged.seconds,
            }));
        } else if judged.outcome != Outcome::Passed {
            line(format_args!(
                "{outcome} {} ({}): {}",
                rule.name, rule.section, judged.detail
            ))?;
            for pdu in &judged.transcript {
                line(format_args!("    {pdu}"))?;
            }
        }
    }
    if args.reports.json {
        print_json(&serde_json::json!({"checks": shown}))?;
    } else {
        line(format_args!(
            "{} checks, {failed} failed",
            report.judged.len()
        ))?;
    }
    Ok(failed == 0)
}

fn subject(args: &ConformanceArgs) -> Result<Subject> {
    let url = login::parse(args.url.as_deref().context("a URL")?)?;
    ensure!(
        url.target().is_some(),
        "{url} lacks the target's name: iscsi://HOST[:PORT]/TARGET/LUN"
    );
    let chap = url
        .user()
        .zip(url.secret())
        .map(|(user, secret)| Credentials {
            user: user.to_owned(),
            secret: secret.as_bytes().to_vec().into(),
        });
    Ok(Subject {
        address: url.address(),
        target: url.target().map(ToString::to_string).unwrap_or_default(),
        lun: url.lun().unwrap_or(0),
        initiator: names::initiator("conformance").to_string(),
        chap,
        mutual: None,
        patience: Duration::from_secs_f64(args.bounds.patience),
    })
}
