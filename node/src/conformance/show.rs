//! Checks and verdicts as people read them.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use comfy_table::{ColumnConstraint, ContentArrangement, Table};
use iscsi_conformance::report::About;
use iscsi_conformance::{Effect, Facts, Judged, Outcome, Report, Rule};
use rustix::termios::tcgetwinsize;
use serde_json::json;

use crate::observe::line;
use crate::status::{print_json, size, table};

/// A check as `--list` shows it.
pub(super) type Listed = (&'static Rule, Option<Effect>);

/// Prints checks without playing them.
pub(super) fn list(checks: &[Listed], as_json: bool) -> Result<()> {
    ensure!(!checks.is_empty(), NONE_LEFT);
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
    let window = tcgetwinsize(std::io::stdout()).map(|window| window.ws_col);
    line(listing(checks, window.ok().filter(|columns| *columns > 0)))?;
    let many = if checks.len() == 1 { "" } else { "s" };
    line(format_args!("{} check{many}", checks.len()))
}

/// The checks in a table, whose last column gives way to the edge of the terminal; where that is too narrow, one below
/// the other. What is piped has no edge, and is left in one line each.
fn listing(checks: &[Listed], width: Option<u16>) -> String {
    // What initiators are asked has no effect on anything.
    let has_effects = checks.iter().any(|(_, effect)| effect.is_some());
    let mut head = vec!["check", "section", "level", "what it expects"];
    if has_effects {
        head.insert(3, "effect");
    }
    let mut rows = table(&head);
    for (rule, effect) in checks {
        let mut row = vec![rule.name, rule.section, rule.level.word(), rule.expects];
        if let Some(effect) = effect {
            row.insert(3, word(*effect));
        }
        rows.add_row(row);
    }
    let Some(width) = width else {
        return rows.to_string();
    };
    let widths = rows.column_max_content_widths();
    let fixed = widths.len().saturating_sub(1);
    // Three signs belong to each column, and one to the edge.
    let taken = widths.iter().take(fixed).map(|column| column + 3);
    if width < taken.sum::<u16>() + LEAST_WORDS {
        let stacked: Vec<_> = checks.iter().map(|one| stacked(one, width)).collect();
        return stacked.join("\n");
    }
    for column in rows.column_iter_mut().take(fixed) {
        column.set_constraint(ColumnConstraint::ContentWidth);
    }
    rows.set_content_arrangement(ContentArrangement::Dynamic);
    rows.set_width(width);
    rows.to_string()
}

/// A check in lines of its own.
fn stacked((rule, effect): &Listed, width: u16) -> String {
    let mut about = format!("{}, {}", rule.section, rule.level.word());
    if let Some(effect) = effect {
        about = format!("{about}, {}", word(*effect));
    }
    let width = usize::from(width).saturating_sub(INDENT.len());
    let lines = [about.as_str(), rule.expects].map(|text| wrapped(text, width));
    lines
        .concat()
        .iter()
        .fold(rule.name.to_owned(), |text, line| {
            format!("{text}\n{INDENT}{line}")
        })
}

/// Lines of whole words; a word that is longer than a line has one of its own.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
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
        failure(about.peer.word(), judged)?;
    }
    for judged in of(report, Outcome::Error) {
        failure("suite", judged)?;
    }
    for judged in of(report, Outcome::Passed).filter(|judged| !judged.detail.is_empty()) {
        line(format_args!(
            "passed {}: {}",
            judged.rule.name, judged.detail
        ))?;
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
            "the waiver of {check} was not needed: the check passed this time"
        ))?;
    }
    line(families(report))?;
    line(subject(about))?;
    if let Some(why) = &report.broken_off {
        line(format_args!("not all was judged: {why}"))?;
    }
    if report.judged.iter().any(Judged::is_of_silence) {
        line(
            "some failures are answers that did not come in time: --patience gives a slow peer more",
        )?;
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

/// A check that failed, with what went wrong on the side of `word`.
fn failure(word: &str, judged: &Judged) -> Result<()> {
    let rule = judged.rule;
    let level = rule.level.word();
    let outcome = judged.outcome.word().to_uppercase();
    line(format_args!("{outcome} {}", rule.name))?;
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
    let head = report.outcomes().map(Outcome::word);
    let mut rows = table(&std::iter::once("family").chain(head).collect::<Vec<_>>());
    for family in report.families() {
        let mut row = vec![family.name.to_owned()];
        row.extend(
            report
                .outcomes()
                .map(|outcome| match family.count(outcome) {
                    0 => String::new(),
                    count => count.to_string(),
                }),
        );
        rows.add_row(row);
    }
    rows
}

fn subject(about: &About) -> String {
    match &about.facts {
        None => about.subject.clone(),
        Some(facts) => format!(
            "{}: {}, {} in blocks of {} bytes{}",
            about.subject,
            facts.product,
            size(bytes(facts)),
            facts.block_bytes,
            if facts.read_only {
                ", write protected"
            } else {
                ""
            }
        ),
    }
}

/// The size of a disk.
pub(super) fn bytes(facts: &Facts) -> u64 {
    facts.blocks.saturating_mul(facts.block_bytes.into())
}

/// Why there is nothing to play, or to list.
pub(super) const NONE_LEFT: &str = "--only and --skip leave no check";
/// What a check is about needs so many columns, for a table to be read more easily than a list.
const LEAST_WORDS: u16 = 36;
/// Before what belongs to the line above.
const INDENT: &str = "  ";
/// So many names stand beside the reason that they share; of more the number.
const MOST_NAMED: usize = 3;

#[cfg(test)]
mod tests {
    use iscsi_conformance::{Level, all};

    use super::*;

    const LONG: Rule = Rule {
        name: "family.subject.a-point-with-a-name",
        section: "RFC 7143 §11.18.3",
        level: Level::Must,
        sends: "",
        expects: "what it takes a whole sentence of many words to say, and then some more of them",
    };

    #[test]
    fn a_list_keeps_to_the_terminal_and_breaks_no_name() {
        let all = all();
        let checks = all.iter().map(|check| (&check.rule, Some(check.effect)));
        let checks: Vec<Listed> = checks.chain([(&LONG, None)]).collect();
        for width in [40, 60, 80, 100, 132, 250] {
            let text = listing(&checks, Some(width));
            for line in text.lines() {
                assert!(line.chars().count() <= width.into(), "{width}: {line}");
            }
            for (rule, _) in &checks {
                assert!(text.contains(rule.name), "{width}: {}", rule.name);
            }
        }
        // Nobody cuts what another program reads.
        assert!(listing(&checks, None).contains(LONG.expects));
    }
}
