//! Which path the next command takes. Pure: what is known of the paths is an argument.

use std::time::Duration;

/// How commands are spread over the paths of a unit that are equally good to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PathPolicy {
    /// Where the fewest commands are under way.
    #[default]
    QueueLength,
    /// Where the next command should end first: the time that commands took lately, times those under way.
    Latency,
}

/// A path that could take a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// Where it stands among the paths.
    pub(crate) place: usize,
    /// Its port group reaches the unit by the short way (active/optimized).
    pub(crate) optimized: bool,
    /// It was lost again and again, and has to wait before it is used like others.
    pub(crate) shunned: bool,
    /// Commands under way.
    pub(crate) in_flight: usize,
    /// How long commands took lately.
    pub(crate) service_time: Option<Duration>,
    /// For how long the oldest command has been under way.
    pub(crate) oldest: Option<Duration>,
}

/// The place of the path to take; `None` if there is none. Paths that are neither shunned nor silent come first, then
/// those that are optimized, then what the policy says; of equals, those behind `turn` come first.
pub(crate) fn choose(candidates: &[Candidate], policy: PathPolicy, turn: usize) -> Option<usize> {
    let rank = |candidate: &Candidate| (drawback(candidate, candidates), cost(candidate, policy));
    let best = candidates.iter().map(rank).min()?;
    let equals = || {
        candidates
            .iter()
            .filter(|candidate| rank(candidate) == best)
    };
    let behind = equals().find(|candidate| candidate.place > turn);
    behind
        .or_else(|| equals().next())
        .map(|candidate| candidate.place)
}

/// The places of the paths over which commands are spread at the moment.
pub(crate) fn in_use(candidates: &[Candidate]) -> Vec<usize> {
    let drawback = |candidate: &Candidate| drawback(candidate, candidates);
    let least = candidates.iter().map(drawback).min();
    let best = candidates
        .iter()
        .filter(|candidate| Some(drawback(candidate)) == least);
    best.map(|candidate| candidate.place).collect()
}

/// What speaks against a path, more of it against greater ones.
fn drawback(candidate: &Candidate, candidates: &[Candidate]) -> (bool, bool) {
    let troubled = candidate.shunned || is_silent(candidate, candidates);
    (troubled, !candidate.optimized)
}

fn cost(candidate: &Candidate, policy: PathPolicy) -> u128 {
    let waiting = candidate.in_flight as u128 + 1;
    match policy {
        PathPolicy::QueueLength => waiting,
        // One that nobody knows yet is tried.
        PathPolicy::Latency => candidate
            .service_time
            .map_or(0, |time| time.as_nanos().max(1))
            .saturating_mul(waiting),
    }
}

/// True if a path's oldest command takes so much longer than commands take elsewhere that the path may be dead, whatever
/// TCP says. The session's pings tell for sure, later.
fn is_silent(candidate: &Candidate, candidates: &[Candidate]) -> bool {
    let others = candidates
        .iter()
        .filter(|other| other.place != candidate.place);
    let Some(elsewhere) = others.filter_map(|other| other.service_time).min() else {
        return false;
    };
    candidate
        .oldest
        .is_some_and(|oldest| oldest > (elsewhere * SILENCE_FACTOR).max(SHORTEST_SILENCE))
}

/// How many times what a command takes elsewhere is silence.
const SILENCE_FACTOR: u32 = 16;

/// Less is no silence, however fast the others are.
const SHORTEST_SILENCE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Candidate, PathPolicy, choose};

    fn ms(milliseconds: u64) -> Option<Duration> {
        Some(Duration::from_millis(milliseconds))
    }

    fn idle(place: usize) -> Candidate {
        Candidate {
            place,
            optimized: true,
            shunned: false,
            in_flight: 0,
            service_time: None,
            oldest: None,
        }
    }

    fn by_length(candidates: &[Candidate], turn: usize) -> Option<usize> {
        choose(candidates, PathPolicy::QueueLength, turn)
    }

    fn by_latency(candidates: &[Candidate]) -> Option<usize> {
        choose(candidates, PathPolicy::Latency, 0)
    }

    #[test]
    fn the_shortest_queue_is_taken_and_equals_take_turns() {
        assert_eq!(by_length(&[], 0), None);
        let busy = Candidate {
            in_flight: 3,
            ..idle(0)
        };
        assert_eq!(by_length(&[busy, idle(1), idle(4)], 0), Some(1));
        assert_eq!(by_length(&[busy, idle(1), idle(4)], 1), Some(4));
        assert_eq!(by_length(&[busy, idle(1), idle(4)], 4), Some(1));
    }

    #[test]
    fn latency_is_weighed_by_what_is_under_way() {
        let path = |place, milliseconds, in_flight| Candidate {
            in_flight,
            service_time: ms(milliseconds),
            ..idle(place)
        };
        assert_eq!(by_latency(&[path(0, 2, 0), path(1, 5, 0)]), Some(0));
        assert_eq!(by_latency(&[path(0, 2, 2), path(1, 5, 0)]), Some(1));
        assert_eq!(by_latency(&[path(0, 2, 1), path(1, 5, 0)]), Some(0));
        assert_eq!(
            by_latency(&[path(0, 2, 0), idle(1)]),
            Some(1),
            "unknown yet"
        );
        assert_eq!(by_length(&[path(0, 2, 2), path(1, 500, 1)], 0), Some(1));
    }

    /// SPC-4 §5.15.2.2 and §5.15.2.3: the non-optimized way serves, but only while there is no other.
    #[test]
    fn the_short_way_comes_first_however_long_its_queue() {
        let long_way = Candidate {
            optimized: false,
            ..idle(1)
        };
        let busy = Candidate {
            in_flight: 100,
            ..idle(0)
        };
        assert_eq!(by_length(&[busy, long_way], 0), Some(0));
        assert_eq!(by_length(&[long_way], 0), Some(1));
    }

    #[test]
    fn a_shunned_path_is_better_than_none() {
        let shunned = Candidate {
            shunned: true,
            ..idle(0)
        };
        let long_way = Candidate {
            optimized: false,
            ..idle(1)
        };
        assert_eq!(by_length(&[shunned, long_way], 1), Some(1));
        assert_eq!(by_length(&[shunned], 1), Some(0));
    }

    #[test]
    fn a_silent_path_is_avoided_while_others_answer() {
        let path = |place, oldest| Candidate {
            in_flight: 1,
            service_time: ms(10),
            oldest,
            ..idle(place)
        };
        let busy = Candidate {
            in_flight: 9,
            ..path(1, ms(12))
        };
        assert_eq!(by_length(&[path(0, ms(160)), busy], 1), Some(0));
        assert_eq!(by_length(&[path(0, ms(161)), busy], 1), Some(1));
        assert_eq!(by_length(&[path(0, ms(161))], 1), Some(0), "no other");
        let both = [path(0, ms(500)), path(1, ms(500))];
        assert_eq!(by_length(&both, 0), Some(1), "all are slow");
    }
}
