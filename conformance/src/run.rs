//! Playing checks one after the other: each bounded in time, and all of them together.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::bench::Bench;
use crate::check::{Check, Effect, Finding, Rule, Verdict};
use crate::probe::Facts;
use crate::subject::Subject;
use crate::wire::Transcript;

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

impl Outcome {
    /// Every outcome, in the order in which reports count them.
    pub const ALL: [Self; 4] = [Self::Passed, Self::Failed, Self::Skipped, Self::Waived];

    /// The outcome in a word: `passed`, `failed`, `skipped`, `waived`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Waived => "waived",
        }
    }
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

impl Judged {
    /// What a script found, in a form that may be shown: a peer has a hand in the words.
    pub(crate) fn of(
        rule: &'static Rule,
        verdict: Verdict,
        transcript: &Transcript,
        seconds: f64,
    ) -> Self {
        let (outcome, detail) = match verdict {
            Ok(()) => (Outcome::Passed, String::new()),
            Err(Finding::NotApplicable(why)) => (Outcome::Skipped, why),
            Err(Finding::Violation(why) | Finding::Unreachable(why)) => (Outcome::Failed, why),
        };
        let lines = match outcome {
            Outcome::Failed => transcript.show(),
            _ => Vec::new(),
        };
        Self {
            rule,
            outcome,
            detail: printable(&detail),
            transcript: lines.iter().map(|line| printable(line)).collect(),
            seconds,
        }
    }

    /// A check that was not played.
    pub fn skipped(rule: &'static Rule, why: impl Into<String>) -> Self {
        Self {
            rule,
            outcome: Outcome::Skipped,
            detail: why.into(),
            transcript: Vec::new(),
            seconds: 0.0,
        }
    }
}

/// All that was judged.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// In the order of the suite.
    pub judged: Vec<Judged>,
    /// Why the run ended early, if it did; what was not played by then is skipped for that reason.
    pub broken_off: Option<String>,
}

impl Report {
    /// How many checks came to this.
    pub fn count(&self, outcome: Outcome) -> usize {
        let all = self.judged.iter();
        all.filter(|judged| judged.outcome == outcome).count()
    }
}

/// Plays checks against a subject, those that write, too, and without a limit over all; `each` is told of every one
/// when it is over.
pub async fn judge(
    subject: &Subject,
    facts: &Facts,
    checks: &[&'static Check],
    each: impl FnMut(&Judged),
) -> Report {
    let run = Run {
        destructive: true,
        ..Run::new(subject, facts)
    };
    run.judge(checks, std::future::pending(), each).await
}

/// A run of checks against one subject.
#[derive(Clone, Debug)]
pub struct Run<'a> {
    /// Who is judged.
    pub subject: &'a Subject,
    /// What [`crate::probe()`] found out about it.
    pub facts: &'a Facts,
    /// Whether checks are played that change the medium, or disturb whoever else uses the unit.
    pub destructive: bool,
    /// The longest that one check may take, whatever its target does, and the longest that a target may be away after
    /// a check that failed.
    pub check_limit: Duration,
    /// The longest that all checks may take together.
    pub limit: Duration,
}

impl<'a> Run<'a> {
    /// A run that writes nothing. One check may take ten times the patience, and all together what they need.
    pub fn new(subject: &'a Subject, facts: &'a Facts) -> Self {
        Self {
            subject,
            facts,
            destructive: false,
            check_limit: (subject.patience * PATIENCES).max(SHORTEST_LIMIT),
            limit: Duration::MAX,
        }
    }

    /// Plays the checks until all are over, or `stop` says why it ends early. `each` is told of every one when it is
    /// over.
    ///
    /// When a check fails, the target has to let an ordinary initiator in before the next one: a target that a check
    /// ended is not accused of everything that comes after it.
    pub async fn judge(
        &self,
        checks: &[&'static Check],
        stop: impl Future<Output = String>,
        mut each: impl FnMut(&Judged),
    ) -> Report {
        let mut report = Report::default();
        let mut stop = std::pin::pin!(stop);
        let began = Instant::now();
        for (at, check) in checks.iter().enumerate() {
            let left = self.limit.saturating_sub(began.elapsed());
            let is_last = at + 1 == checks.len();
            let judged = match &report.broken_off {
                Some(why) => Judged::skipped(&check.rule, why),
                None if check.effect == Effect::Writes && !self.destructive => {
                    Judged::skipped(&check.rule, NEEDS_DESTRUCTIVE)
                }
                None => {
                    let (judged, over) = tokio::select! {
                        played = self.play_and_recover(check, left, is_last) => played,
                        why = &mut stop => (Judged::skipped(&check.rule, &why), Some(why)),
                    };
                    report.broken_off = over;
                    judged
                }
            };
            each(&judged);
            report.judged.push(judged);
        }
        report
    }

    /// Plays a check, and if it failed waits until the target is there again; also why the run is over, if it is.
    async fn play_and_recover(
        &self,
        check: &'static Check,
        left: Duration,
        is_last: bool,
    ) -> (Judged, Option<String>) {
        let began = Instant::now();
        let limit = self.check_limit;
        let Some(mut judged) = self.play(check, limit.min(left), left <= limit).await else {
            let why = format!(
                "the limit of {} for the whole run was over",
                spoken(self.limit)
            );
            return (Judged::skipped(&check.rule, &why), Some(why));
        };
        if judged.outcome != Outcome::Failed || is_last {
            return (judged, None);
        }
        let left = left.saturating_sub(began.elapsed());
        let away = Instant::now();
        match timeout(limit.min(left), self.until_reached()).await {
            Ok(1) => (judged, None),
            Ok(_) => {
                judged.detail += &format!(
                    "; afterwards the target let no ordinary initiator in for {:.1} s",
                    away.elapsed().as_secs_f64()
                );
                (judged, None)
            }
            // Nothing is known of the target: the next check finds the limit.
            Err(_late) if left <= limit => (judged, None),
            Err(_late) => {
                judged.detail += "; afterwards the target lets no ordinary initiator in any more";
                let why = format!(
                    "the target lets no ordinary initiator in since {}",
                    check.rule.name
                );
                (judged, Some(why))
            }
        }
    }

    /// Logs in as an ordinary initiator until that succeeds; at which attempt it did.
    async fn until_reached(&self) -> usize {
        let mut attempts = 1;
        loop {
            let bench = Bench::new(self.subject.clone(), self.facts.clone());
            if bench.session().await.is_ok() {
                return attempts;
            }
            attempts += 1;
            sleep(PAUSE).await;
        }
    }

    /// Plays a check; none if the time was over that the whole run had left.
    ///
    /// The script is a task of its own: if it never waits or ends in a panic, the run goes on all the same.
    async fn play(
        &self,
        check: &'static Check,
        limit: Duration,
        is_all_that_is_left: bool,
    ) -> Option<Judged> {
        let began = Instant::now();
        let bench = Arc::new(Bench::new(self.subject.clone(), self.facts.clone()));
        let mut task = JoinSet::new();
        let played = Arc::clone(&bench);
        task.spawn(async move { (check.script)(&played).await });
        let verdict = match timeout(limit, task.join_next()).await {
            Ok(Some(Ok(verdict))) => verdict,
            // Whatever the target did: a mistake of the suite is no violation.
            Ok(Some(Err(_)) | None) => Err(Finding::NotApplicable(OUR_FAULT.to_owned())),
            Err(_late) if is_all_that_is_left => return None,
            Err(_late) => {
                let bound = format!("not over after {}", spoken(limit));
                Err(Finding::Violation(bound))
            }
        };
        let seconds = began.elapsed().as_secs_f64();
        Some(Judged::of(&check.rule, verdict, &bench.transcript, seconds))
    }
}

/// What a peer may have had a hand in, as it may be shown on a terminal: without control characters, and not endless.
pub(crate) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len().min(MOST_CHARACTERS));
    for (at, character) in text.chars().enumerate() {
        if at == MOST_CHARACTERS {
            shown.push_str("..");
            break;
        }
        if character.is_control() {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

fn spoken(limit: Duration) -> String {
    match limit.as_secs() {
        seconds if seconds >= 60 && seconds.is_multiple_of(60) => format!("{} min", seconds / 60),
        _ => format!("{} s", limit.as_secs_f64()),
    }
}

/// Why checks that write are skipped.
const NEEDS_DESTRUCTIVE: &str = "needs --destructive";
/// What is said when a script panics.
const OUR_FAULT: &str = "the suite itself failed here, which says nothing about the target";
/// So many times the patience is the limit of one check.
const PATIENCES: u32 = 10;
/// However short the patience is: a check may move data.
const SHORTEST_LIMIT: Duration = Duration::from_secs(5);
/// Between attempts to reach a target that is away.
const PAUSE: Duration = Duration::from_millis(200);
/// The most characters of a detail or of a line of a transcript.
const MOST_CHARACTERS: usize = 2000;

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::net::TcpListener;

    use super::*;
    use crate::check::Level;

    /// Scripts that a suite must survive, since a script may have mistakes.
    const CHECKS: [Check; 4] = [
        check("a", |_| Box::pin(async { Ok(()) })),
        // Without the message, which takes its time.
        check("b", |_| {
            Box::pin(async { std::panic::resume_unwind(Box::new("a mistake")) })
        }),
        check("c", |_| {
            Box::pin(async {
                // Neither waits nor gives way.
                std::thread::sleep(Duration::from_secs(3));
                Ok(())
            })
        }),
        check("d", |_| Box::pin(std::future::pending())),
    ];

    const fn check(name: &'static str, script: crate::check::Script) -> Check {
        Check {
            rule: Rule {
                name,
                section: "",
                level: Level::Must,
                sends: "",
                expects: "",
            },
            effect: Effect::Reads,
            script,
        }
    }

    fn subject(address: SocketAddr) -> Subject {
        Subject {
            address: address.to_string(),
            target: String::new(),
            lun: 0,
            initiator: String::new(),
            chap: None,
            mutual: None,
            patience: Duration::from_millis(50),
        }
    }

    async fn outcomes(order: [usize; 4], check_limit: Duration, limit: Duration) -> Vec<String> {
        let checks: &'static [Check; 4] = &CHECKS;
        // Takes connections and does nothing with them.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let subject = subject(listener.local_addr().unwrap());
        let facts = Facts::default();
        let run = Run {
            check_limit,
            limit,
            ..Run::new(&subject, &facts)
        };
        let checks = order.map(|at| &checks[at]);
        let report = run.judge(&checks, std::future::pending(), |_| {}).await;
        let shown = report.judged.iter().map(|judged| {
            let rule = judged.rule.name;
            format!("{rule} {} {}", judged.outcome.word(), judged.detail)
        });
        shown.collect()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn a_script_that_panics_or_never_gives_way_does_not_end_the_run() {
        let limit = Duration::from_secs(1);
        let said = outcomes([1, 0, 2, 3], limit, Duration::MAX).await;
        assert_eq!(
            said,
            [
                "b skipped the suite itself failed here, which says nothing about the target",
                "a passed ",
                "c failed not over after 1 s; afterwards the target lets no ordinary initiator in any more",
                "d skipped the target lets no ordinary initiator in since c",
            ]
        );
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn what_the_limit_of_the_run_leaves_out_is_skipped() {
        let limit = Duration::from_secs(1);
        let said = outcomes([0, 3, 0, 1], Duration::from_secs(60), limit).await;
        let over = "skipped the limit of 1 s for the whole run was over";
        assert_eq!(
            said,
            [
                "a passed ".to_owned(),
                format!("d {over}"),
                format!("a {over}"),
                format!("b {over}"),
            ]
        );
    }
}
