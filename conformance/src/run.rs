//! Playing checks one after the other: each bounded in time, and all of them together.

use std::any::Any;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::bench::Bench;
use crate::check::{Check, Effect, Finding, Rule, Verdict};
use crate::probe::{Facts, reason};
use crate::subject::Subject;
use crate::wire::{NO_ANSWER, Transcript};

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
    /// The suite itself failed: nothing is known of the rule.
    Error,
}

impl Outcome {
    /// Every outcome, in the order in which reports count them.
    pub const ALL: [Self; 5] = [
        Self::Passed,
        Self::Failed,
        Self::Skipped,
        Self::Waived,
        Self::Error,
    ];

    /// The outcome in a word: `passed`, `failed`, `skipped`, `waived`, `error`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Waived => "waived",
            Self::Error => "error",
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
    /// Why, unless it passed; and what became of the target afterwards, if it could not be reached then.
    pub detail: String,
    /// The PDUs that went over the wire, decoded; empty unless the check failed, or the suite in it.
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
            Err(Finding::Broken(panic)) => (Outcome::Error, format!("{OUR_FAULT}: {panic}")),
        };
        let mut judged = Self {
            rule,
            outcome,
            detail: printable(&detail),
            transcript: Vec::new(),
            seconds,
        };
        if matches!(outcome, Outcome::Failed | Outcome::Error) {
            judged.show(transcript);
        }
        judged
    }

    /// True if it failed because something did not come in time: a longer patience may tell another story.
    pub fn is_of_silence(&self) -> bool {
        self.outcome == Outcome::Failed && self.detail.contains(NO_ANSWER)
    }

    fn show(&mut self, transcript: &Transcript) {
        let lines = transcript.show();
        self.transcript = lines.iter().map(|line| printable(line)).collect();
    }

    /// Adds what became of the other end after the check.
    pub(crate) fn note(&mut self, what: &str) {
        if !self.detail.is_empty() {
            self.detail += "; ";
        }
        self.detail += what;
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
    /// The longest that one check may take, whatever its target does, and the longest that a target may be away
    /// between two checks.
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
    /// Between two checks the target has to let an ordinary initiator in. So a target that a check ended, or that
    /// somebody ended meanwhile, is not accused of everything that comes after: the run ends, and names the check
    /// after which nobody was let in any more.
    pub async fn judge(
        &self,
        checks: &[&'static Check],
        stop: impl Future<Output = String>,
        mut each: impl FnMut(&Judged),
    ) -> Report {
        let mut report = Report::default();
        let mut stop = std::pin::pin!(stop);
        let began = Instant::now();
        // Where the check stands that was played last.
        let mut last = None;
        for check in checks {
            let left = self.limit.saturating_sub(began.elapsed());
            let judged = match &report.broken_off {
                Some(why) => Judged::skipped(&check.rule, why),
                None if check.effect == Effect::Writes && !self.destructive => {
                    Judged::skipped(&check.rule, NEEDS_DESTRUCTIVE)
                }
                None => {
                    let before = last.and_then(|at: usize| report.judged.get_mut(at));
                    let played = tokio::select! {
                        played = self.reach_and_play(before, check, left) => played,
                        why = &mut stop => Err(why),
                    };
                    last = Some(report.judged.len());
                    played.unwrap_or_else(|why| {
                        let judged = Judged::skipped(&check.rule, &why);
                        report.broken_off = Some(why);
                        judged
                    })
                }
            };
            each(&judged);
            report.judged.push(judged);
        }
        report
    }

    /// Waits until the target is there after the check `before`, and plays the next; else why the run is over.
    async fn reach_and_play(
        &self,
        before: Option<&mut Judged>,
        check: &'static Check,
        left: Duration,
    ) -> Result<Judged, String> {
        let began = Instant::now();
        let over = || {
            let limit = spoken(self.limit);
            format!("the limit of {limit} for the whole run, which --limit sets, was over")
        };
        if let Some(before) = before {
            let limit = self.check_limit.min(left);
            match self.until_reached(limit).await {
                Ok(1) => {}
                Ok(_) => before.note(&format!(
                    "afterwards the target let no ordinary initiator in for {:.1} s",
                    began.elapsed().as_secs_f64()
                )),
                // Nothing is known of the target.
                Err(_) if left <= limit => return Err(over()),
                Err(why) => {
                    before.note("afterwards the target lets no ordinary initiator in any more");
                    let name = before.rule.name;
                    return Err(format!(
                        "the target stopped answering after {name}, and lets no ordinary initiator in any more: {why}"
                    ));
                }
            }
        }
        let left = left.saturating_sub(began.elapsed());
        let limit = self.check_limit;
        let played = self.play(check, limit.min(left), left <= limit).await;
        played.ok_or_else(over)
    }

    /// Logs in as an ordinary initiator until that succeeds; at which attempt it did, or what came of the last.
    async fn until_reached(&self, limit: Duration) -> Result<usize, String> {
        let began = Instant::now();
        let mut attempts = 1;
        let mut why = format!("no answer within {}", spoken(limit));
        while let Some(left) = limit.checked_sub(began.elapsed()) {
            let bench = Bench::new(self.subject.clone(), self.facts.clone());
            match timeout(left, bench.session()).await {
                Ok(Ok(_session)) => return Ok(attempts),
                Ok(Err(finding)) => why = reason(finding),
                Err(_late) => break,
            }
            attempts += 1;
            sleep(PAUSE).await;
        }
        Err(why)
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
        let ended = timeout(limit, task.join_next()).await;
        let seconds = began.elapsed().as_secs_f64();
        let verdict = match ended {
            Ok(Some(Ok(verdict))) => verdict,
            // Whatever the target did: a mistake of the suite is no violation, and must be seen.
            Ok(ended) => {
                let panic = ended
                    .and_then(Result::err)
                    .and_then(|ended| ended.try_into_panic().ok());
                Err(Finding::Broken(
                    panic.as_deref().map(said).unwrap_or_default(),
                ))
            }
            Err(_late) if is_all_that_is_left => return None,
            Err(_late) => {
                let bound = format!("not over after {}", spoken(limit));
                Err(Finding::Violation(bound))
            }
        };
        Some(Judged::of(&check.rule, verdict, &bench.transcript, seconds))
    }
}

/// The message of a panic.
pub(crate) fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or_default().to_owned()
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
const OUR_FAULT: &str = "the suite itself failed here, which says nothing about the other end";
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
    use iscsi_target::{Export, Target, TargetOptions, Unit, UnitIdentity};
    use tokio::net::TcpListener;
    use tokio_util::sync::{CancellationToken, DropGuard};
    use vmthunder_volume::testing::MemVolume;
    use vmthunder_volume::{BlockSize, Geometry};

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

    const NAME: &str = "iqn.2013-07.org.vmthunder:sound";

    fn subject(listener: &TcpListener) -> Subject {
        Subject {
            address: listener.local_addr().unwrap().to_string(),
            target: NAME.to_owned(),
            lun: 0,
            initiator: "iqn.2013-07.org.vmthunder:conformance".to_owned(),
            chap: None,
            mutual: None,
            patience: Duration::from_secs(10),
        }
    }

    async fn listen() -> TcpListener {
        TcpListener::bind("127.0.0.1:0").await.unwrap()
    }

    /// A sound target, until what is returned is dropped.
    fn serve(listener: TcpListener) -> DropGuard {
        let geometry = Geometry::of_bytes(BlockSize::B512, 4096);
        let identity = UnitIdentity::locally_assigned(1, "sound");
        let unit = Unit::new(0, MemVolume::zeroed(geometry), identity);
        let target = Target::new(TargetOptions::default());
        let export = Export::new(NAME.parse().unwrap(), vec![unit]);
        target.export(export).unwrap();
        let stop = CancellationToken::new();
        tokio::spawn(target.serve(listener, stop.clone()));
        stop.drop_guard()
    }

    async fn outcomes(
        subject: &Subject,
        order: &[usize],
        check_limit: Duration,
        limit: Duration,
    ) -> Vec<String> {
        let checks: &'static [Check; 4] = &CHECKS;
        let facts = Facts::default();
        let run = Run {
            check_limit,
            limit,
            ..Run::new(subject, &facts)
        };
        let checks: Vec<_> = order.iter().map(|at| &checks[*at]).collect();
        let report = run.judge(&checks, std::future::pending(), |_| {}).await;
        let shown = report.judged.iter().map(|judged| {
            let rule = judged.rule.name;
            format!("{rule} {} {}", judged.outcome.word(), judged.detail)
        });
        shown.collect()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn a_script_that_panics_or_never_gives_way_does_not_end_the_run() {
        let listener = listen().await;
        let subject = subject(&listener);
        let _ends = serve(listener);
        let limit = Duration::from_secs(1);
        let said = outcomes(&subject, &[1, 0, 2, 3], limit, Duration::MAX).await;
        assert_eq!(
            said,
            [
                "b error the suite itself failed here, which says nothing about the other end: a mistake",
                "a passed ",
                "c failed not over after 1 s",
                "d failed not over after 1 s",
            ]
        );
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn what_the_limit_of_the_run_leaves_out_is_skipped() {
        let listener = listen().await;
        let subject = subject(&listener);
        let _ends = serve(listener);
        let limit = Duration::from_secs(1);
        let order = [0, 3, 0, 1];
        let said = outcomes(&subject, &order, Duration::from_secs(60), limit).await;
        let over = "skipped the limit of 1 s for the whole run, which --limit sets, was over";
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

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn a_target_that_is_gone_is_no_fault_of_the_check_that_comes_next() {
        let listener = listen().await;
        let subject = subject(&listener);
        drop(listener);
        let limit = Duration::from_secs(1);
        let said = outcomes(&subject, &[0, 0, 3], limit, Duration::MAX).await;
        let [first, others @ ..] = &said[..] else {
            panic!("{said:?}");
        };
        assert_eq!(
            first,
            "a passed afterwards the target lets no ordinary initiator in any more"
        );
        for other in others {
            let why = "skipped the target stopped answering after a, and lets no ordinary initiator in any more: cannot connect to";
            assert!(other.contains(why), "{other}");
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn a_target_that_comes_back_is_judged_further() {
        let listener = listen().await;
        let subject = subject(&listener);
        let serving = tokio::spawn(async move {
            let (first, _) = listener.accept().await.unwrap();
            drop(first);
            serve(listener)
        });
        let limit = Duration::from_secs(60);
        let said = outcomes(&subject, &[0, 0], limit, Duration::MAX).await;
        let [first, second] = &said[..] else {
            panic!("{said:?}");
        };
        let away = "a passed afterwards the target let no ordinary initiator in for";
        assert!(first.starts_with(away), "{first}");
        assert_eq!(second, "a passed ");
        serving.await.unwrap();
    }
}
