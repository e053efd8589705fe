//! Playing the drills: with a visitor one after the other, else all at once for whoever comes.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures::FutureExt;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{interval, sleep_until, timeout};

use crate::check::{Finding, Verdict};
use crate::initiator::drill::{Drill, Ends, SessionKind};
use crate::initiator::hall::{Door, Hall, Listener};
use crate::initiator::stage::{Attention, Scene, Stage, Visit};
use crate::initiator::visitor::{ACCOUNTS, Departure, Invitation, Visitor};
use crate::run::{Judged, Report, said};

/// How initiators are judged.
#[derive(Debug)]
pub struct Options {
    /// Who comes.
    pub visitor: Visitor,
    /// The host under which initiators see the portal, if it is another one than it has here: addresses that they are
    /// told have it.
    pub advertised: Option<String>,
    /// How long one drill may take.
    pub limit: Duration,
    /// How long an initiator may take for what it has to do at once.
    pub patience: Duration,
    /// Without a visitor of its own the run ends when nobody came for so long.
    pub idle: Duration,
    /// Without a visitor of its own a drill ends when its initiator stayed away for so long.
    pub settle: Duration,
}

impl Options {
    /// The usual times.
    pub fn new(visitor: Visitor) -> Self {
        Self {
            visitor,
            advertised: None,
            limit: Duration::from_secs(30),
            patience: Duration::from_secs(5),
            idle: Duration::from_secs(60),
            settle: Duration::from_secs(6),
        }
    }
}

/// What the names of the drills' targets begin with; the name of the drill follows.
pub const TARGET_PREFIX: &str = "iqn.2013-07.org.vmthunder:drill.";

/// Plays drills; `each` is told of every one when it is over.
pub async fn run(
    listener: &Listener,
    options: &Options,
    drills: &[&'static Drill],
    mut each: impl FnMut(&Judged),
) -> Report {
    let hall = Arc::new(Hall::default());
    let names: Vec<String> = drills.iter().copied().map(target_of).collect();
    let names = Arc::new(names);
    let (_never_over, visit) = watch::channel(Visit::UnderWay);
    let plain = format!("{TARGET_PREFIX}none");
    let plain = Scene::new(plain, Arc::clone(&names), options, visit);
    hall.receive_others_at(Arc::new(plain));
    let playing = async {
        let mut report = Report::default();
        match options.visitor {
            Visitor::Anybody => {
                open_house(options, &hall, &names, drills, |judged| {
                    each(&judged);
                    report.judged.push(judged);
                })
                .await;
            }
            _ => {
                let mut patience = Patience::default();
                for drill in drills {
                    let judged = match &report.broken_off {
                        Some(why) => Judged::skipped(&drill.rule, why),
                        None => {
                            let played = play(listener, options, &hall, &names, drill).await;
                            report.broken_off = patience.over_after(&played);
                            played.judged
                        }
                    };
                    each(&judged);
                    report.judged.push(judged);
                }
            }
        }
        report
    };
    tokio::select! {
        report = playing => report,
        () = Arc::clone(&hall).accept(&listener.socket) => Report::default(),
    }
}

fn target_of(drill: &'static Drill) -> String {
    format!("{TARGET_PREFIX}{}", drill.rule.name)
}

/// A drill whose door is open.
struct Opened {
    drill: &'static Drill,
    stage: Stage,
    scene: Arc<Scene>,
    visit: watch::Sender<Visit>,
    began: Instant,
}

fn open(options: &Options, hall: &Hall, names: &Arc<Vec<String>>, drill: &'static Drill) -> Opened {
    let (visit, seen) = watch::channel(Visit::UnderWay);
    let scene = Scene::new(target_of(drill), Arc::clone(names), options, seen);
    let scene = Arc::new(scene);
    let (entries, door) = mpsc::channel(1);
    hall.open(
        Door {
            scene: Arc::clone(&scene),
            entries,
        },
        drill.session == SessionKind::Discovery,
    );
    Opened {
        drill,
        stage: Stage::new(Arc::clone(&scene), door),
        scene,
        visit,
        began: Instant::now(),
    }
}

/// A drill that was played with a visitor.
struct Played {
    judged: Judged,
    departure: Option<Departure>,
    /// What is said of a visitor that did not end.
    late: Option<String>,
    /// Whether anybody came to its target.
    visited: bool,
}

/// How long visitors are sent that do not arrive.
#[derive(Debug, Default)]
struct Patience {
    visits: u32,
    arrived: bool,
}

impl Patience {
    /// Why nobody need be sent again, if that is so.
    fn over_after(&mut self, played: &Played) -> Option<String> {
        match &played.departure {
            Some(Departure::Impossible(why)) => return Some(why.clone()),
            Some(Departure::Nobody(_)) => return None,
            _ => {}
        }
        self.visits += 1;
        self.arrived |= played.visited;
        (!self.arrived && self.visits == MOST_FRUITLESS).then(|| {
            let said = match &played.departure {
                Some(Departure::Failed(said) | Departure::Died(said)) => format!(" ({said})"),
                _ => played
                    .late
                    .as_ref()
                    .map_or_else(String::new, |late| format!(" ({late})")),
            };
            format!("nobody logged in in the first {MOST_FRUITLESS} visits{said}")
        })
    }
}

/// Plays one drill with a visitor.
async fn play(
    listener: &Listener,
    options: &Options,
    hall: &Hall,
    names: &Arc<Vec<String>>,
    drill: &'static Drill,
) -> Played {
    let mut opened = open(options, hall, names, drill);
    let invitation = Invitation {
        portal: listener.address().to_string(),
        target: opened.scene.target.clone(),
        discovery: drill.session == SessionKind::Discovery,
        accounts: (drill.session == SessionKind::Chap).then_some(ACCOUNTS),
    };
    let (verdict, departure, late) = watch_over(options, &mut opened, invitation).await;
    hall.close(&opened.scene.target);
    let verdict = weigh(drill, &opened.scene, verdict, departure.clone());
    let mut judged = judged(&opened, verdict);
    if let Some(late) = &late {
        judged.note(late);
    }
    Played {
        judged,
        departure,
        late,
        visited: *opened.scene.visited.borrow(),
    }
}

/// Lets the script and the visitor go on together until both are done, or the time is over; the last is what is said of
/// a visitor that had to be ended, if that is no violation.
async fn watch_over(
    options: &Options,
    opened: &mut Opened,
    invitation: Invitation,
) -> (Verdict, Option<Departure>, Option<String>) {
    let scene = Arc::clone(&opened.scene);
    let script = performed(opened.drill, &mut opened.stage);
    // Dropping it sends the visitor away.
    let mut visitor = Some(Box::pin(options.visitor.visit(invitation)));
    tokio::pin!(script);
    let deadline = tokio::time::Instant::now() + options.limit;
    let (mut verdict, mut departure, mut late) = (None, None, false);
    while verdict.is_none() || departure.is_none() {
        tokio::select! {
            biased;
            found = &mut script, if verdict.is_none() => {
                scene.script.send_replace(Attention::Ended);
                let broken = found.is_err();
                verdict = Some(found);
                // Nothing that the visitor does yet would change it.
                if broken { break; }
            }
            left = until_it_leaves(&mut visitor), if departure.is_none() => {
                let succeeded = Some(left == Departure::Content);
                departure = Some(left);
                opened.visit.send_replace(Visit::Over { succeeded });
            }
            () = sleep_until(deadline) => {
                late = departure.is_none();
                break;
            }
        }
    }
    // What it does after its logout is none of our business.
    let left = scene.is_left();
    drop(visitor.take());
    if verdict.is_none() {
        opened.visit.send_replace(Visit::Over {
            succeeded: (!left).then_some(departure == Some(Departure::Content)),
        });
        let found = timeout(options.patience.saturating_mul(LAST_PATIENCE), script).await;
        verdict = found.ok();
    }
    let verdict = verdict.unwrap_or_else(|| {
        let why = "the drill does not come to an end".to_owned();
        Err(Finding::Violation(why))
    });
    let seconds = options.limit.as_secs();
    let (verdict, late) = match (late, *scene.visited.borrow()) {
        (false, _) => (verdict, None),
        (true, false) => {
            let late = format!("the command was still running after {seconds} s");
            (verdict, Some(late))
        }
        (true, true) if left => {
            let late = format!("the command did not end and was ended after {seconds} s");
            (verdict, Some(late))
        }
        (true, true) => (not_done(opened.drill, verdict, seconds), None),
    };
    (verdict, departure, late)
}

/// What it means that a visitor had to be sent away before it logged out.
fn not_done(drill: &Drill, verdict: Verdict, seconds: u64) -> Verdict {
    let unknown = matches!(verdict, Ok(()) | Err(Finding::NotApplicable(_)));
    let why = format!("the initiator is not done after {seconds} s");
    match drill.ends {
        Ends::Succeeds if unknown => Err(Finding::Violation(why)),
        // A user that does not know what to do about an error proves nothing.
        Ends::Either if verdict.is_ok() => Err(Finding::NotApplicable(why)),
        _ => verdict,
    }
}

async fn until_it_leaves(
    visitor: &mut Option<impl Future<Output = Departure> + Unpin>,
) -> Departure {
    match visitor {
        Some(visitor) => visitor.await,
        None => std::future::pending().await,
    }
}

/// What the script found, and how the visitor fared.
fn weigh(drill: &Drill, scene: &Scene, verdict: Verdict, departure: Option<Departure>) -> Verdict {
    let visited = *scene.visited.borrow();
    let nonsense = scene.nonsense().clone();
    match (verdict, departure) {
        (Err(Finding::Broken(panic)), _) => Err(Finding::Broken(panic)),
        (_, Some(Departure::Died(why))) => Err(Finding::Violation(why)),
        (Ok(()) | Err(Finding::NotApplicable(_)), _) if nonsense.is_some() => {
            Err(Finding::Violation(nonsense.unwrap_or_default()))
        }
        (_, Some(Departure::Nobody(why) | Departure::Impossible(why))) => {
            Err(Finding::NotApplicable(why))
        }
        (Err(Finding::NotApplicable(why)), Some(Departure::Failed(said))) if !visited => {
            Err(Finding::NotApplicable(format!("{why} ({said})")))
        }
        (Ok(()) | Err(Finding::NotApplicable(_)), Some(Departure::Failed(why)))
            if drill.ends == Ends::Succeeds =>
        {
            Err(Finding::Violation(format!(
                "the initiator's user does not get what it wants: {why}"
            )))
        }
        // What did not come may have come there.
        (Err(Finding::Violation(why)), _)
            if scene.aside.load(Ordering::Acquire)
                && scene.in_vain.load(Ordering::Acquire)
                && nonsense.is_none() =>
        {
            Err(Finding::NotApplicable(format!(
                "the initiator came with another connection while the drill was busy, so this is not certain: {why}"
            )))
        }
        (verdict, _) => verdict,
    }
}

fn judged(opened: &Opened, verdict: Verdict) -> Judged {
    let seconds = opened.began.elapsed().as_secs_f64();
    let scene = &opened.scene;
    Judged::of(&opened.drill.rule, verdict, &scene.transcript, seconds)
}

/// Plays all drills at once for whoever comes.
async fn open_house(
    options: &Options,
    hall: &Hall,
    names: &Arc<Vec<String>>,
    drills: &[&'static Drill],
    mut each: impl FnMut(Judged),
) {
    let mut playing = JoinSet::new();
    let mut doors = Vec::new();
    for drill in drills {
        let mut opened = open(options, hall, names, drill);
        doors.push((Arc::clone(&opened.scene), opened.visit.clone()));
        let limit = options.limit;
        playing.spawn(async move {
            let scene = Arc::clone(&opened.scene);
            let script = performed(opened.drill, &mut opened.stage);
            let verdict = bounded(script, &scene, limit).await;
            scene.script.send_replace(Attention::Ended);
            (opened, verdict)
        });
    }
    let mut reported = BTreeSet::new();
    let mut ticks = interval(TICK);
    let mut last_sign = Instant::now();
    while reported.len() < drills.len() {
        tokio::select! {
            Some(Ok((opened, verdict))) = playing.join_next() => {
                let verdict = weigh(opened.drill, &opened.scene, verdict, None);
                hall.close(&opened.scene.target);
                reported.insert(opened.scene.target.clone());
                let judged = judged(&opened, verdict);
                each(judged);
            }
            _ = ticks.tick() => {
                for (scene, visit) in &doors {
                    match scene.absence() {
                        Some(absence) if absence < options.settle => last_sign = Instant::now(),
                        Some(_) => { visit.send_replace(Visit::Over { succeeded: None }); }
                        None => {}
                    }
                    if scene.is_occupied() { last_sign = Instant::now(); }
                }
                if last_sign.elapsed() > options.idle {
                    for (_, visit) in &doors {
                        visit.send_replace(Visit::Over { succeeded: None });
                    }
                }
            }
        }
    }
}

/// Follows a drill's script. A panic of it is a mistake of the suite, no violation, and must be seen.
async fn performed(drill: &Drill, stage: &mut Stage) -> Verdict {
    let script = AssertUnwindSafe((drill.script)(stage));
    match script.catch_unwind().await {
        Ok(verdict) => verdict,
        Err(panic) => Err(Finding::Broken(said(&*panic))),
    }
}

/// A script for anybody: its time begins when somebody comes.
async fn bounded(script: impl Future<Output = Verdict>, scene: &Scene, limit: Duration) -> Verdict {
    let late = async {
        // The other end is the scene's own.
        let mut visited = scene.visited.subscribe();
        if visited.wait_for(|came| *came).await.is_err() {
            return;
        }
        tokio::time::sleep(limit).await;
    };
    tokio::select! {
        biased;
        verdict = script => verdict,
        () = late => Err(Finding::Violation(format!(
            "the initiator is not done after {} s",
            limit.as_secs()
        ))),
    }
}

/// So many patiences a script may take after its visitor is gone.
const LAST_PATIENCE: u32 = 3;
/// So many visits may go by in which nobody ever logs in.
const MOST_FRUITLESS: u32 = 3;
/// How often is looked who came and who left.
const TICK: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::{Listener, Options, Stage, Visitor, run};
    use crate::check::Verdict;
    use crate::initiator::drill::{Drill, drills};
    use crate::run::Outcome;

    drills! {
        "test.panics", "RFC 7143 §1", Must, Normal, Either,
        "nothing" => "nothing", a_script_that_is_mistaken;
    }

    async fn a_script_that_is_mistaken(_stage: &mut Stage) -> Verdict {
        panic!("the script is mistaken")
    }

    mod lonely {
        use super::{Stage, Verdict, drills};

        drills! {
            "test.lonely", "RFC 7143 §1", Must, Normal, Succeeds,
                "nothing" => "a login", a_script_that_waits;
        }

        async fn a_script_that_waits(stage: &mut Stage) -> Verdict {
            stage.entry().await.map(drop)
        }
    }

    #[tokio::test]
    async fn a_command_that_never_ends_is_named_when_nobody_logs_in() {
        let drill = lonely::DRILLS.first().unwrap();
        let listener = Listener::bind("127.0.0.1:0").await.unwrap();
        let mut options = Options::new(Visitor::Program {
            normal: vec!["sleep".to_owned(), "600".to_owned()],
            discovery: None,
        });
        options.limit = std::time::Duration::from_secs(1);
        let report = run(&listener, &options, &[drill; 4], |_| ()).await;
        for judged in &report.judged {
            assert_eq!(judged.outcome, Outcome::Skipped);
            assert!(judged.detail.contains("still running"), "{}", judged.detail);
        }
        let why = report.broken_off.unwrap();
        assert!(
            why.contains("nobody logged in") && why.contains("still running"),
            "{why}"
        );
    }

    #[tokio::test]
    async fn a_panic_of_a_drill_is_an_error_of_the_suite() {
        let drills: Vec<&'static Drill> = DRILLS.iter().collect();
        let visitors = [
            Visitor::Anybody,
            Visitor::Program {
                normal: vec!["true".to_owned()],
                discovery: None,
            },
        ];
        for visitor in visitors {
            let listener = Listener::bind("127.0.0.1:0").await.unwrap();
            let options = Options::new(visitor);
            let report = run(&listener, &options, &drills, |_| ()).await;
            let [judged] = report.judged.as_slice() else {
                panic!("{} verdicts", report.judged.len());
            };
            assert_eq!(judged.outcome, Outcome::Error);
            assert!(
                judged.detail.contains("the script is mistaken"),
                "{}",
                judged.detail
            );
        }
    }
}
