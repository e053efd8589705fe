//! What the guests saw.

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use super::work::{Figures, Initiator};
use crate::tally::Tally;

/// All of a run.
pub(super) struct Report {
    seed: u64,
    pub(super) rounds: Vec<Rounds>,
    pub(super) outages: Vec<Outage>,
}

/// What a guest saw of a node that died again and again.
pub(super) struct Rounds {
    initiator: Initiator,
    rounds: u32,
    figures: Figures,
    /// Of each round.
    stalls: Vec<Duration>,
    pub(super) kernel_errors: u64,
}

/// What a guest is to see of an origin that is away.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Sees {
    /// Its reads wait.
    Nothing,
    /// Its reads fail.
    Errors,
    /// QEMU pauses it at a read that fails (`rerror=stop`): it sees no time pass.
    Pause,
}

/// What a guest saw of an origin that was away.
pub(super) struct Outage {
    pub(super) initiator: Initiator,
    pub(super) policy: &'static str,
    pub(super) sees: Sees,
    pub(super) errors: u64,
    pub(super) failed_after: Option<(Duration, Duration)>,
    pub(super) longest: Duration,
    /// Errors after the origin was back and the guest went on.
    pub(super) errors_afterwards: u64,
    pub(super) wrong: u64,
    pub(super) kernel_errors: u64,
    pub(super) from_origin: u64,
}

impl Rounds {
    pub(super) fn new(initiator: Initiator) -> Self {
        Self {
            initiator,
            rounds: 0,
            figures: Figures::default(),
            stalls: Vec::new(),
            kernel_errors: 0,
        }
    }

    pub(super) fn add(&mut self, figures: &Figures) {
        self.figures += *figures;
        self.stalls.push(figures.longest);
    }

    /// One round is over.
    pub(super) fn count(&mut self) {
        self.rounds += 1;
    }

    fn errors(&self) -> u64 {
        self.figures.errors + self.kernel_errors
    }

    fn are_good(&self) -> bool {
        self.errors() + self.figures.wrong == 0
    }

    fn median(&self) -> Duration {
        let mut stalls = self.stalls.clone();
        stalls.sort_unstable();
        stalls.get(stalls.len() / 2).copied().unwrap_or_default()
    }

    fn json(&self) -> Value {
        json!({
            "initiator": self.initiator.name(),
            "rounds": self.rounds,
            "commands": self.figures.commands,
            "guest_errors": self.figures.errors,
            "kernel_errors": self.kernel_errors,
            "wrong_bytes": self.figures.wrong,
            "median_stall_seconds": self.median().as_secs_f64(),
            "longest_stall_seconds": self.figures.longest.as_secs_f64(),
        })
    }
}

impl fmt::Display for Rounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:<6} {} rounds, {} commands, {} errors of the program, {} of the kernel, {} wrong bytes, stalls: median {:.1} s, \
             longest {:.1} s",
            self.initiator.name(),
            self.rounds,
            self.figures.commands,
            self.figures.errors,
            self.kernel_errors,
            self.figures.wrong,
            self.median().as_secs_f64(),
            self.figures.longest.as_secs_f64()
        )
    }
}

impl Outage {
    /// Errors are there if the policy wants them, and only while the origin is away.
    fn is_good(&self) -> bool {
        let all = self.errors + self.errors_afterwards;
        let as_wanted = match self.sees {
            Sees::Errors => self.errors > 0,
            Sees::Nothing | Sees::Pause => all + self.kernel_errors == 0,
        };
        as_wanted && self.errors_afterwards + self.wrong == 0
    }

    fn json(&self) -> Value {
        let seconds = self
            .failed_after
            .map(|(least, most)| [least.as_secs_f64(), most.as_secs_f64()]);
        json!({
            "initiator": self.initiator.name(),
            "policy": self.policy,
            "rerror": if self.sees == Sees::Pause { "stop" } else { "report" },
            "errors": self.errors,
            "failed_after_seconds": seconds,
            "longest_stall_seconds": self.longest.as_secs_f64(),
            "errors_afterwards": self.errors_afterwards,
            "kernel_errors": self.kernel_errors,
            "wrong_bytes": self.wrong,
            "from_origin_bytes": self.from_origin,
        })
    }
}

impl fmt::Display for Outage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let after = match self.failed_after {
            Some((least, most)) => {
                format!("{:.1} to {:.1} s", least.as_secs_f64(), most.as_secs_f64())
            }
            None => "-".to_owned(),
        };
        let policy = match self.sees {
            Sees::Pause => format!("{}, rerror=stop", self.policy),
            Sees::Nothing | Sees::Errors => self.policy.to_owned(),
        };
        write!(
            f,
            "{:<6} {policy:<17} origin away: {:>4} errors, after {after:<14} longest command {:>5.1} s; back: {} errors, {} wrong bytes",
            self.initiator.name(),
            self.errors,
            self.longest.as_secs_f64(),
            self.errors_afterwards,
            self.wrong
        )
    }
}

impl Report {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            seed,
            rounds: Vec::new(),
            outages: Vec::new(),
        }
    }

    pub(super) fn json(&self) -> Value {
        let rounds: Vec<Value> = self.rounds.iter().map(Rounds::json).collect();
        let outages: Vec<Value> = self.outages.iter().map(Outage::json).collect();
        json!({ "seed": self.seed, "rounds": rounds, "outages": outages })
    }

    pub(super) fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        let rounds = self.rounds.iter().map(Rounds::are_good);
        for good in rounds.chain(self.outages.iter().map(Outage::is_good)) {
            tally.count(good);
        }
        tally
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f)?;
        for rounds in &self.rounds {
            writeln!(f, "{rounds}")?;
        }
        for outage in &self.outages {
            let verdict = if outage.is_good() {
                ""
            } else {
                "  NOT AS IT SHOULD BE"
            };
            writeln!(f, "{outage}{verdict}")?;
        }
        let rounds: u32 = self.rounds.iter().map(|one| one.rounds).sum();
        let errors: u64 = self.rounds.iter().map(Rounds::errors).sum();
        let all = self.rounds.iter().map(|one| one.figures.wrong);
        let wrong: u64 = all.chain(self.outages.iter().map(|one| one.wrong)).sum();
        let longest = self.rounds.iter().map(|one| one.figures.longest).max();
        write!(
            f,
            "{rounds} rounds, {errors} guest errors, {wrong} wrong bytes, longest stall {:.1} s",
            longest.unwrap_or_default().as_secs_f64()
        )
    }
}
