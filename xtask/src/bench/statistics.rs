//! Medians, ratios, and whether a goal is met.

use super::case::{Bound, Case, Figure, Goal, Turn};

/// A case, and what came of it: for each side its turns, in the order of the rounds.
pub(super) struct Outcome<'a> {
    pub(super) case: &'a Case,
    pub(super) turns: Vec<Vec<Turn>>,
}

/// The middle of some figures, and how far they lie apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

/// A goal, and what came of it.
pub(super) struct Answer<'a> {
    pub(super) goal: &'a Goal,
    /// Who was the best of the others.
    pub(super) against: &'static str,
    pub(super) ratio: Spread,
    pub(super) verdict: Verdict,
    /// Others took the machine's cores in most rounds, or the rounds disagree.
    pub(super) is_doubtful: bool,
}

/// What came of a goal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Met,
    Missed,
    /// There was none.
    Told,
}

impl Spread {
    /// Of figures of which there is at least one.
    pub(crate) fn of(mut figures: Vec<f64>) -> Option<Self> {
        figures.sort_by(f64::total_cmp);
        let (least, most) = (*figures.first()?, *figures.last()?);
        let middle = figures.len() / 2;
        let upper = figures.get(middle).copied()?;
        let median = match figures.len() % 2 {
            1 => upper,
            _ => f64::midpoint(*figures.get(middle.checked_sub(1)?)?, upper),
        };
        Some(Self {
            median,
            least,
            most,
        })
    }

    /// How far apart they lie, as a part of the median.
    fn width(&self) -> f64 {
        (self.most - self.least) / self.median
    }
}

impl Outcome<'_> {
    /// The figure of a side over its rounds. A turn that was disturbed counts where there is no other.
    pub(super) fn figure(&self, side: usize, figure: Figure) -> Option<Spread> {
        let turns = self.turns.get(side)?;
        let quiet: Vec<&Turn> = turns.iter().filter(|turn| !turn.is_disturbed()).collect();
        let counted = match quiet.is_empty() {
            true => turns.iter().collect(),
            false => quiet,
        };
        Spread::of(
            counted
                .into_iter()
                .filter_map(|turn| figure.of(turn))
                .collect(),
        )
    }

    /// Rounds in which no side was disturbed.
    pub(super) fn quiet_rounds(&self) -> Vec<usize> {
        let rounds = self.turns.iter().map(Vec::len).min().unwrap_or(0);
        let is_quiet = |round: &usize| {
            let mut turns = self.turns.iter().filter_map(|turns| turns.get(*round));
            turns.all(|turn| !turn.is_disturbed())
        };
        (0..rounds).filter(is_quiet).collect()
    }

    /// What came of its goals; nothing of one whose figure was not measured.
    pub(super) fn answers(&self) -> Vec<Answer<'_>> {
        let answers = self.case.goals.iter().map(|goal| self.answer(goal));
        answers.flatten().collect()
    }

    /// Ratios are of the same round, since what disturbs one side often disturbs the next.
    fn answer<'a>(&'a self, goal: &'a Goal) -> Option<Answer<'a>> {
        let place = |name: &str| self.case.sides.iter().position(|side| side.name == name);
        let ours = place(goal.of)?;
        let others = goal.against.iter().filter_map(|name| {
            let side = place(name)?;
            Some((side, *name, self.figure(side, goal.figure)?.median))
        });
        let (best, against, _) = others.min_by(|one, other| {
            let order = one.2.total_cmp(&other.2);
            if goal.figure.is_cost() {
                order
            } else {
                order.reverse()
            }
        })?;
        let rounds = self.turns.iter().map(Vec::len).min()?;
        let quiet = self.quiet_rounds();
        let is_disturbed = quiet.len() * 2 < rounds;
        let counted = if is_disturbed {
            (0..rounds).collect()
        } else {
            quiet
        };
        let ratio = |round: usize| {
            let figure = |side: usize| goal.figure.of(self.turns.get(side)?.get(round)?);
            let (one, other) = (figure(ours)?, figure(best)?);
            (other > 0.0).then(|| one / other)
        };
        let ratio = Spread::of(counted.into_iter().filter_map(ratio).collect())?;
        Some(Answer {
            goal,
            against,
            ratio,
            verdict: verdict(goal.bound, ratio.median),
            is_doubtful: is_disturbed || ratio.width() > UNSTEADY,
        })
    }
}

fn verdict(bound: Bound, ratio: f64) -> Verdict {
    let is_met = match bound {
        Bound::AtLeast(least) => ratio >= least,
        Bound::AtMost(most) => ratio <= most,
        Bound::Told => return Verdict::Told,
    };
    if is_met {
        Verdict::Met
    } else {
        Verdict::Missed
    }
}

/// Rounds whose ratios lie further apart than this part of their median disagree.
const UNSTEADY: f64 = 0.5;

#[cfg(test)]
#[path = "statistics_tests.rs"]
mod tests;
