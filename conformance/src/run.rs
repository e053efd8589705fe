//! Playing checks one after the other, each bounded in time.

use std::time::{Duration, Instant};

use tokio::time::timeout;

use crate::bench::Bench;
use crate::check::{Check, Finding, Rule};
use crate::probe::Facts;
use crate::subject::Subject;

/// What became of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The rule is kept.
    Passed,
    /// The rule is broken.
    Failed,
    /// The rule does not apply, or could not be looked into.
    Skipped,
    /// The rule is broken, and a waiver says why that is known.
    Waived,
}

/// A check and what became of it.
#[derive(Clone, Debug)]
pub struct Judged {
    /// The rule.
    pub rule: &'static Rule,
    /// What became of it.
    pub outcome: Outcome,
    /// Why, unless it passed.
    pub detail: String,
    /// The PDUs that went over the wire, decoded; empty unless the check failed.
    pub transcript: Vec<String>,
    /// How long it took.
    pub seconds: f64,
}

/// All that was judged.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// In the order of the suite.
    pub judged: Vec<Judged>,
    /// Why the run ended early, if it did.
    pub broken_off: Option<String>,
}

/// Plays checks against a subject; `each` is told of every one when it is over.
pub async fn judge(
    subject: &Subject,
    facts: &Facts,
    checks: &[&'static Check],
    mut each: impl FnMut(&Judged),
) -> Report {
    let mut report = Report::default();
    let mut unreachable = 0;
    for check in checks {
        let (judged, reached) = play(subject, facts, check).await;
        unreachable = if reached { 0 } else { unreachable + 1 };
        each(&judged);
        report.judged.push(judged);
        if unreachable == MOST_UNREACHABLE {
            report.broken_off = Some(format!(
                "{MOST_UNREACHABLE} checks in a row did not reach the target"
            ));
            break;
        }
    }
    report
}

async fn play(subject: &Subject, facts: &Facts, check: &'static Check) -> (Judged, bool) {
    let bench = Bench::new(subject.clone(), facts.clone());
    let began = Instant::now();
    let verdict = timeout(LIMIT, (check.script)(&bench))
        .await
        .unwrap_or_else(|_late| {
            Err(Finding::Violation(format!(
                "not over after {} s",
                LIMIT.as_secs()
            )))
        });
    let reached = !matches!(verdict, Err(Finding::Unreachable(_)));
    let (outcome, detail) = match verdict {
        Ok(()) => (Outcome::Passed, String::new()),
        Err(Finding::NotApplicable(why)) => (Outcome::Skipped, why),
        Err(Finding::Violation(why) | Finding::Unreachable(why)) => (Outcome::Failed, why),
    };
    let judged = Judged {
        rule: &check.rule,
        outcome,
        detail,
        transcript: if outcome == Outcome::Failed {
            bench.transcript.show()
        } else {
            Vec::new()
        },
        seconds: began.elapsed().as_secs_f64(),
    };
    (judged, reached)
}

/// The longest that one check may take, whatever its target does.
const LIMIT: Duration = Duration::from_secs(30);
/// So many checks in a row that do not reach their target end the run.
const MOST_UNREACHABLE: usize = 5;
