//! What a check is: a rule, and a script that finds out whether a target keeps it.

use std::future::Future;
use std::pin::Pin;

use crate::bench::Bench;

/// A rule of a standard, and how it is looked into.
#[derive(Debug)]
pub struct Rule {
    /// What the rule is called: `family.subject.point`, unique in the suite.
    pub name: &'static str,
    /// Where it is written: `RFC 7143 §6.2`, `SPC-4 §6.4.2`.
    pub section: &'static str,
    /// How binding it is.
    pub level: Level,
    /// What is sent, in a few words.
    pub sends: &'static str,
    /// What a conforming peer does.
    pub expects: &'static str,
}

/// How binding a rule is (RFC 2119).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// MUST, SHALL, or mandatory in a SCSI standard.
    Must,
    /// SHOULD.
    Should,
}

impl Level {
    /// The word of RFC 2119.
    pub fn word(self) -> &'static str {
        match self {
            Self::Must => "MUST",
            Self::Should => "SHOULD",
        }
    }
}

/// What a check does to the logical unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing that anybody else notices.
    Reads,
    /// Changes what is on the medium, or disturbs whoever else uses the unit: writes, reservations, resets.
    Writes,
}

/// A rule and the script that judges a target by it.
#[derive(Debug)]
pub struct Check {
    /// The rule.
    pub rule: Rule,
    /// What the script does to the unit.
    pub effect: Effect,
    pub(crate) script: Script,
}

/// Plays a check against the target of a bench.
pub(crate) type Script =
    for<'a> fn(&'a Bench) -> Pin<Box<dyn Future<Output = Verdict> + Send + 'a>>;

/// What a script found.
pub(crate) type Verdict = Result<(), Finding>;

/// Why a check did not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// The target broke the rule; in what way.
    Violation(String),
    /// The rule does not apply to this target, or what it takes was not given; why.
    NotApplicable(String),
    /// The target cannot be reached, or refuses an ordinary login.
    Unreachable(String),
    /// The script itself ended in a panic; what it said.
    Broken(String),
}

/// Declares `CHECKS`: the checks of one family.
///
/// `"name", "section", Level, Effect, "sends" => "expects", script;`
macro_rules! checks {
    ($($name:literal, $section:literal, $level:ident, $effect:ident, $sends:literal => $expects:literal, $script:path;)*) => {
        /// The checks of this family.
        pub(crate) const CHECKS: &[crate::check::Check] = &[
            $(crate::check::Check {
                rule: crate::check::Rule {
                    name: $name,
                    section: $section,
                    level: crate::check::Level::$level,
                    sends: $sends,
                    expects: $expects,
                },
                effect: crate::check::Effect::$effect,
                script: |bench| Box::pin($script(bench)),
            },)*
        ];
    };
}

/// Ends a script with a violation unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err(crate::check::Finding::Violation(format!($($message)+)));
        }
    };
}

/// Ends a script with a violation.
macro_rules! violation {
    ($($message:tt)+) => {
        return Err(crate::check::Finding::Violation(format!($($message)+)))
    };
}

/// Ends a script whose rule does not apply.
macro_rules! skip {
    ($($message:tt)+) => {
        return Err(crate::check::Finding::NotApplicable(format!($($message)+)))
    };
}

pub(crate) use {checks, ensure, skip, violation};
