//! Random orders of several nexuses against a model that goes through SPC-4 word by word, nexus by nexus.

use iscsi_proto::scsi::persistent::ReservationType;
use proptest::collection::vec;
use proptest::prelude::{Strategy, any, prop_assert_eq, proptest};

use super::Order;
use crate::failure::Failure;
use crate::reservations::testing::{
    Story, move_to, nexus, preempt_and_abort, register, register_and_ignore, release, reserve,
};

const NEXUSES: u8 = 4;

/// Everything by number: a nexus by its place, a key of zero for none, a type of zero for no reservation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Model {
    keys: [u64; NEXUSES as usize],
    kind: u8,
    holder: Option<usize>,
    generation: u32,
}

#[derive(Clone, Copy, Debug)]
struct Step {
    who: u8,
    action: u8,
    key: u64,
    action_key: u64,
    kind: u8,
    to: u8,
    unregister: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    /// Who is told what, by ASCQ, and whose commands are aborted.
    Good(Vec<(u8, usize)>, Vec<usize>),
    Conflict,
    Refused,
}

impl Model {
    fn holds(&self, who: usize) -> bool {
        match self.kind {
            0 => false,
            7 | 8 => self.keys[who] != 0,
            _ => self.holder == Some(who),
        }
    }

    fn registered(&self) -> Vec<usize> {
        let all = 0..self.keys.len();
        all.filter(|who| self.keys[*who] != 0).collect()
    }

    fn take(&mut self, kind: u8, who: usize) {
        self.kind = kind;
        self.holder = (kind < 7).then_some(who);
    }

    fn free(&mut self) {
        self.kind = 0;
        self.holder = None;
    }

    fn run(&mut self, step: Step) -> Outcome {
        let who = usize::from(step.who);
        let good = Outcome::Good(vec![], vec![]);
        let ignores = step.action == 6;
        if !ignores && self.keys[who] != step.key {
            return Outcome::Conflict;
        }
        if self.keys[who] == 0 && step.action != 0 && !ignores {
            return Outcome::Conflict;
        }
        match step.action {
            0 | 6 if self.keys[who] == 0 && step.action_key == 0 => good,
            0 | 6 => self.register(who, step.action_key),
            1 if self.kind == 0 => {
                self.take(step.kind, who);
                good
            }
            1 if self.holds(who) && self.kind == step.kind => good,
            1 => Outcome::Conflict,
            2 if !self.holds(who) => good,
            2 if self.kind != step.kind => Outcome::Refused,
            2 => {
                let told = self.released(who, self.kind);
                self.free();
                Outcome::Good(told, vec![])
            }
            3 => {
                self.generation += 1;
                let others = self.registered().into_iter().filter(|other| *other != who);
                let told = others.map(|other| (3, other)).collect();
                self.keys = Default::default();
                self.free();
                Outcome::Good(told, vec![])
            }
            5 => self.preempt(who, step.action_key, step.kind),
            _ => self.move_to(who, step),
        }
    }

    fn register(&mut self, who: usize, key: u64) -> Outcome {
        self.generation += 1;
        let held = self.holds(who);
        self.keys[who] = key;
        if key != 0 || !held {
            return Outcome::Good(vec![], vec![]);
        }
        if self.kind >= 7 && !self.registered().is_empty() {
            return Outcome::Good(vec![], vec![]);
        }
        let told = self.released(who, self.kind);
        self.free();
        Outcome::Good(told, vec![])
    }

    /// Whom the end of a reservation concerns.
    fn released(&self, by: usize, kind: u8) -> Vec<(u8, usize)> {
        let others = self.registered().into_iter();
        let others = others.filter(|other| *other != by && kind >= 5);
        others.map(|other| (4, other)).collect()
    }

    fn preempt(&mut self, who: usize, victims: u64, kind: u8) -> Outcome {
        let holder_key = self.holder.map(|holder| self.keys[holder]);
        let takes_over = match self.kind {
            0 => false,
            7 | 8 => victims == 0,
            _ => holder_key == Some(victims),
        };
        if !takes_over && victims == 0 {
            return Outcome::Refused;
        }
        let mut found = false;
        let (mut told, mut aborted) = (vec![], vec![]);
        for other in self.registered() {
            let meant = self.keys[other] == victims || (takes_over && self.kind >= 7);
            found |= meant;
            if meant && other != who {
                self.keys[other] = 0;
                told.push((5, other));
                aborted.push(other);
            } else if meant && !takes_over {
                self.keys[other] = 0;
            }
        }
        if !takes_over && !found {
            return Outcome::Conflict;
        }
        self.generation += 1;
        if takes_over {
            if self.kind != kind {
                let rest = self.registered().into_iter().filter(|other| *other != who);
                told.extend(rest.map(|other| (4, other)));
            }
            self.take(kind, who);
        } else if self.registered().is_empty() {
            self.free();
        }
        Outcome::Good(told, aborted)
    }

    fn move_to(&mut self, who: usize, step: Step) -> Outcome {
        let to = usize::from(step.to);
        match self.kind {
            0 => return Outcome::Refused,
            7 | 8 => return Outcome::Conflict,
            _ if self.holder != Some(who) => return Outcome::Conflict,
            _ if step.action_key == 0 || to == who => return Outcome::Refused,
            _ => {}
        }
        self.generation += 1;
        self.keys[to] = step.action_key;
        self.holder = Some(to);
        if step.unregister {
            self.keys[who] = 0;
        }
        Outcome::Good(vec![], vec![])
    }
}

fn order(step: Step) -> Order {
    let kind = ReservationType::from_code(step.kind).unwrap();
    match step.action {
        0 => register(step.key, step.action_key),
        1 => reserve(step.key, kind),
        2 => release(step.key, kind),
        3 => Order::Clear { key: step.key },
        5 => preempt_and_abort(step.key, step.action_key, kind),
        6 => register_and_ignore(step.action_key),
        _ => move_to(step.key, step.action_key, step.to, step.unregister),
    }
}

/// What our side makes of a step, in the model's terms.
fn run(story: &mut Story, step: Step) -> Outcome {
    let number = |wanted| usize::from((0..NEXUSES).find(|n| nexus(*n) == wanted).unwrap());
    match story.now.obey(&nexus(step.who), &order(step)) {
        Err(Failure::Conflict) => Outcome::Conflict,
        Err(_) => Outcome::Refused,
        Ok(None) => Outcome::Good(vec![], vec![]),
        Ok(Some(change)) => {
            story.now = change.next;
            let told = change.notices.into_iter().flat_map(|(sense, whom)| {
                assert_eq!((sense.key, sense.asc), (6, 0x2a));
                whom.into_iter()
                    .map(move |nexus| (sense.ascq, number(nexus)))
            });
            Outcome::Good(
                told.collect(),
                change.aborted.into_iter().map(number).collect(),
            )
        }
    }
}

/// Keys are few and often right, so that orders get somewhere.
fn steps() -> impl Strategy<Value = Vec<(Step, bool)>> {
    let types = ReservationType::ALL.map(ReservationType::code);
    let step = (
        (0..NEXUSES, 0..8u8, 0..3u64, 0..3u64),
        (
            proptest::sample::select(types.to_vec()),
            0..NEXUSES,
            any::<bool>(),
            any::<bool>(),
        ),
    );
    let step = step.prop_map(
        |((who, action, key, action_key), (kind, to, unregister, right))| {
            let step = Step {
                who,
                // PREEMPT is PREEMPT AND ABORT without the end.
                action: if action == 4 { 0 } else { action },
                key,
                action_key,
                kind,
                to,
                unregister,
            };
            (step, right)
        },
    );
    vec(step, 1..60)
}

proptest! {
    #[test]
    fn orders_do_what_the_standard_says(steps in steps()) {
        let (mut model, mut story) = (Model::default(), Story::default());
        for (mut step, right) in steps {
            if right {
                step.key = model.keys[usize::from(step.who)];
            }
            let expected = model.run(step);
            prop_assert_eq!(run(&mut story, step), expected, "{:?}", step);
            let numbers = [0, 1, 2, 3];
            prop_assert_eq!(story.keys(numbers), model.keys);
            prop_assert_eq!(story.now.generation, model.generation);
            let report = story.now.report();
            prop_assert_eq!(report.held.map_or(0, |held| held.kind.code()), model.kind);
            let holder_key = model.holder.map_or(0, |holder| model.keys[holder]);
            prop_assert_eq!(report.held.map_or(0, |held| held.key), holder_key);
            let status = story.now.full_status().registrants.into_iter();
            let holders: Vec<_> = status.filter(|one| one.holds.is_some()).map(|one| one.key).collect();
            let expected = (0..4).filter(|who| model.holds(*who)).map(|who| model.keys[who]);
            prop_assert_eq!(holders, expected.collect::<Vec<_>>());
            // A reservation has a holder, and a holder is registered.
            let held = (0..4).any(|who| model.holds(who) && model.keys[who] != 0);
            prop_assert_eq!(held, model.kind != 0);
        }
    }
}
