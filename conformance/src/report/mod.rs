//! Reports for programs and for people: one JSON object, a JUnit file, an HTML page.

mod html;
mod json;
mod junit;
#[cfg(test)]
pub(crate) mod tests;

use std::time::{Duration, SystemTime};

use chrono::{DateTime, SecondsFormat, Utc};

pub use html::html;
pub use json::json;
pub use junit::junit;

use crate::check::Level;
use crate::probe::Facts;
use crate::run::{Judged, Outcome, Report};

/// What a report says besides the verdicts.
#[derive(Clone, Debug)]
pub struct About {
    /// Whom the suite judged.
    pub peer: Peer,
    /// Where a target is, without any secret, or what an initiator calls itself.
    pub subject: String,
    /// What the logical unit is.
    pub facts: Option<Facts>,
    /// Whether the checks that write were allowed.
    pub destructive: bool,
    /// When the run began.
    pub started: SystemTime,
    /// How long it took.
    pub took: Duration,
    /// Checks that passed although a waiver expects them to fail.
    pub unneeded_waivers: Vec<String>,
}

/// The two sides that can be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A target.
    Target,
    /// An initiator.
    Initiator,
}

impl Peer {
    /// The side in a word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Target => "target",
            Self::Initiator => "initiator",
        }
    }
}

/// The verdicts of one family of checks.
#[derive(Clone, Debug)]
pub struct Family<'a> {
    /// What the names of its checks begin with.
    pub name: &'a str,
    /// In the order of the suite.
    pub judged: Vec<&'a Judged>,
}

impl Family<'_> {
    /// How many checks came to this.
    pub fn count(&self, outcome: Outcome) -> usize {
        let all = self.judged.iter();
        all.filter(|judged| judged.outcome == outcome).count()
    }
}

impl Report {
    /// The verdicts by family, the part of a check's name before the first dot.
    pub fn families(&self) -> Vec<Family<'_>> {
        let mut families: Vec<Family<'_>> = Vec::new();
        for judged in &self.judged {
            let name = judged.rule.name.split('.').next().unwrap_or_default();
            match families.iter_mut().find(|family| family.name == name) {
                Some(family) => family.judged.push(judged),
                None => families.push(Family {
                    name,
                    judged: vec![judged],
                }),
            }
        }
        families
    }

    /// The outcomes that have a place in every report: an error of the suite itself only where there is one.
    pub fn outcomes(&self) -> impl Iterator<Item = Outcome> + Clone {
        let errors = self.count(Outcome::Error) > 0;
        let all = Outcome::ALL.into_iter();
        all.filter(move |outcome| errors || *outcome != Outcome::Error)
    }

    /// The outcomes in a sentence: `3 passed, 1 failed (a SHOULD), 2 skipped`.
    pub fn summary(&self) -> String {
        let failed = self.judged.iter().filter(|judged| {
            judged.outcome == Outcome::Failed && judged.rule.level == Level::Should
        });
        let mut parts = Vec::new();
        for outcome in Outcome::ALL {
            let count = self.count(outcome);
            if count == 0 && !matches!(outcome, Outcome::Passed | Outcome::Failed) {
                continue;
            }
            let mut part = format!("{count} {}", outcome.word());
            let shoulds = failed.clone().count();
            if outcome == Outcome::Failed && shoulds > 0 {
                part += &format!(" ({shoulds} of them a SHOULD)");
            }
            parts.push(part);
        }
        parts.join(", ")
    }
}

/// The program that made a report.
const SUITE: &str = concat!("iscsi-conformance ", env!("CARGO_PKG_VERSION"));

fn time(at: SystemTime) -> DateTime<Utc> {
    DateTime::from(at)
}

fn timestamp(at: SystemTime) -> String {
    time(at).to_rfc3339_opts(SecondsFormat::Secs, true)
}
