//! The report as one JSON object.

use serde::Serialize;

use crate::report::{About, SUITE, timestamp};
use crate::run::{Judged, Outcome, Report};

#[derive(Serialize)]
struct Shown<'a> {
    suite: &'static str,
    peer: &'static str,
    subject: &'a str,
    product: Option<&'a str>,
    serial: Option<&'a str>,
    blocks: Option<u64>,
    block_bytes: Option<u32>,
    read_only: Option<bool>,
    destructive: bool,
    started: String,
    seconds: f64,
    counts: Counts,
    broken_off: Option<&'a str>,
    unneeded_waivers: &'a [String],
    checks: Vec<Check<'a>>,
}

#[derive(Serialize)]
struct Counts {
    passed: usize,
    failed: usize,
    skipped: usize,
    waived: usize,
    error: usize,
}

#[derive(Serialize)]
struct Check<'a> {
    name: &'static str,
    section: &'static str,
    level: &'static str,
    outcome: &'static str,
    detail: &'a str,
    sends: &'static str,
    expects: &'static str,
    seconds: f64,
    pdus: &'a [String],
}

/// One JSON object: what was judged, and an array `checks` with the verdicts.
pub fn json(about: &About, report: &Report) -> String {
    let facts = about.facts.as_ref();
    let shown = Shown {
        suite: SUITE,
        peer: about.peer.word(),
        subject: &about.subject,
        product: facts.map(|facts| facts.product.as_str()),
        serial: facts.map(|facts| facts.serial.as_str()),
        blocks: facts.map(|facts| facts.blocks),
        block_bytes: facts.map(|facts| facts.block_bytes),
        read_only: facts.map(|facts| facts.read_only),
        destructive: about.destructive,
        started: timestamp(about.started),
        seconds: about.took.as_secs_f64(),
        counts: Counts {
            passed: report.count(Outcome::Passed),
            failed: report.count(Outcome::Failed),
            skipped: report.count(Outcome::Skipped),
            waived: report.count(Outcome::Waived),
            error: report.count(Outcome::Error),
        },
        broken_off: report.broken_off.as_deref(),
        unneeded_waivers: &about.unneeded_waivers,
        checks: report.judged.iter().map(check).collect(),
    };
    // Strings, numbers and arrays: there is nothing that JSON could not hold.
    serde_json::to_string_pretty(&shown).unwrap_or_default()
}

fn check(judged: &Judged) -> Check<'_> {
    let rule = judged.rule;
    Check {
        name: rule.name,
        section: rule.section,
        level: rule.level.word(),
        outcome: judged.outcome.word(),
        detail: &judged.detail,
        sends: rule.sends,
        expects: rule.expects,
        seconds: judged.seconds,
        pdus: &judged.transcript,
    }
}
