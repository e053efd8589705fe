//! Checks and verdicts as people read them.

use std::collections::BTreeMap;

use anyhow::Result;
use comfy_table::{ContentArrangement, Table};
use iscsi_conformance::report::{About, Peer};
use iscsi_conformance::{Effect, Facts, Judged, Outcome, Report, Rule};
use rustix::termios::tcgetwinsize;
use serde_json::json;

use crate::observe::line;
use crate::status::{print_json, size, table};

/// A check as `--list` shows it.
pub(super) type Listed = (&'static Rule, Option<Effect>);

/// Prints checks without playing them.
pub(super) fn list(checks: &[Listed], as_json: bool) -> Result<()> {
    if as_json {
        let checks: Vec<_> = checks
            .iter()
            .map(|(rule, effect)| {
                json!({
                    "name": rule.name, "section": rule.section, "level": rule.level.word(),
                    "effect": effect.map(word), "sends": rule.sends, "expects": rule.expects,
                })
            })
            .collect();
        return print_json(&json!({ "checks": checks }));
    }
    // What initiators are asked has no effect on anything.
    let has_effects = checks.iter().any(|(_, effect)| effect.is_some());
    let mut head = vec!["check", "section", "level", "what it expects"];
    if has_effects {
        head.insert(3, "effect");
    }
    let mut rows = table(&head);
    // Where somebody looks, the columns give way to the edge of the terminal; what is piped is left in one line each.
    if let Ok(window) = tcgetwinsize(std::io::stdout())
        && window.ws_col > 0
    {
        rows.set_content_arrangement(ContentArrangement::Dynamic);
        rows.set_width(window.ws_col);
    }
    for (rule, effect) in checks {
        let mut row = vec![rule.name, rule.section, rule.level.word(), rule.expects];
        if let Some(effect) = effect {
            row.insert(3, word(*effect));
        }
        rows.add_row(row);
    }
    line(rows)?;
    let many = if checks.len() == 1 { "" } else { "s" };
    line(format_args!("{} check{many}", checks.len()))
}

fn word(effect: Effect) -> &'static str {
    match effect {
        Effect::Reads => "reads",
        Effect::Writes => "writes",
    }
}

/// Prints the verdicts: what failed with its PDUs, the rest in numbers.
pub(super) fn verdicts(about: &About, report: &Report) -> Result<()> {
    for judged in of(report, Outcome::Failed) {
        failure(about.peer, judged)?;
    }
    skipped(report)?;
    for judged in of(report, Outcome::Waived) {
        line(format_args!(
            "waived {}: {}",
            judged.rule.name, judged.detail
        ))?;
    }
    for check in &about.unneeded_waivers {
        line(format_args!(
            "the waiver of {check} is no longer needed: the check passed"
        ))?;
    }
    line(families(report))?;
    line(subject(about))?;
    if let Some(why) = &report.broken_off {
        line(format_args!("the run ended early: {why}"))?;
    }
    line(format_args!(
        "{} in {:.1} s",
        report.summary(),
        about.took.as_secs_f64()
    ))
}

fn of(report: &Report, outcome: Outcome) -> impl Iterator<Item = &Judged> {
    let all = report.judged.iter();
    all.filter(move |judged| judged.outcome == outcome)
}

fn failure(peer: Peer, judged: &Judged) -> Result<()> {
    let rule = judged.rule;
    let (level, word) = (rule.level.word(), peer.word());
    line(format_args!("FAILED {}", rule.name))?;
    line(format_args!("  rule      {} ({level})", rule.section))?;
    line(format_args!("  sends     {}", rule.sends))?;
    line(format_args!("  expects   {}", rule.expects))?;
    line(format_args!("  {word:<9} {}", judged.detail))?;
    if !judged.transcript.is_empty() {
        line("  PDUs: second, [connection], -> from the suite or <- to it")?;
    }
    for pdu in &judged.transcript {
        line(format_args!("  {pdu}"))?;
    }
    line("")
}

/// What was skipped, by reason: one reason often holds for many.
fn skipped(report: &Report) -> Result<()> {
    let mut reasons: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for judged in of(report, Outcome::Skipped) {
        let names = reasons.entry(&judged.detail).or_default();
        names.push(judged.rule.name);
    }
    for (why, names) in reasons {
        match names.as_slice() {
            few if few.len() <= MOST_NAMED => {
                line(format_args!("skipped {}: {why}", few.join(", ")))?;
            }
            many => line(format_args!("skipped {} checks: {why}", many.len()))?,
        }
    }
    Ok(())
}

fn families(report: &Report) -> Table {
    let mut rows = table(&["family", "passed", "failed", "skipped", "waived"]);
    for family in report.families() {
        let mut row = vec![family.name.to_owned()];
        row.extend(Outcome::ALL.map(|outcome| match family.count(outcome) {
            0 => String::new(),
            count => count.to_string(),
        }));
        rows.add_row(row);
    }
    rows
}

fn subject(about: &About) -> String {
    match &about.facts {
        None => about.subject.clone(),
        Some(facts) => format!(
            "{}: {}, {} in blocks of {} bytes",
            about.subject,
            facts.product,
            size(bytes(facts)),
            facts.block_bytes
        ),
    }
}

/// The size of a disk.
pub(super) fn bytes(facts: &Facts) -> u64 {
    facts.blocks.saturating_mul(facts.block_bytes.into())
}

/// So many names stand beside the reason that they share; of more the number.
const MOST_NAMED: usize = 3;
