//! What a drill is: a rule for initiators, and a script that a target follows to find out whether one keeps it.

use std::future::Future;
use std::pin::Pin;

use crate::check::{Rule, Verdict};
use crate::initiator::stage::Stage;

/// A rule for initiators and the script that judges one by it.
#[derive(Debug)]
pub struct Drill {
    /// The rule.
    pub rule: Rule,
    /// What kind of session it takes.
    pub session: SessionKind,
    /// How the initiator's user fares when all goes as it should.
    pub ends: Ends,
    pub(crate) script: Script,
}

/// What kind of session a drill takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionKind {
    /// A session with the drill's own target.
    Normal,
    /// A session with the drill's own target by CHAP, with the accounts of the invitation.
    Chap,
    /// A discovery session.
    Discovery,
}

/// How the initiator's user fares when all goes as it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// It gets what it wants: the target does nothing that an initiator need not bear.
    Succeeds,
    /// It may get an error.
    Either,
}

/// Plays a drill.
pub(crate) type Script =
    for<'a> fn(&'a mut Stage) -> Pin<Box<dyn Future<Output = Verdict> + Send + 'a>>;

/// Declares `DRILLS`: the drills of one family.
///
/// `"name", "section", Level, SessionKind, Ends, "what the target does" => "what the initiator does", script;`
macro_rules! drills {
    ($($name:literal, $section:literal, $level:ident, $session:ident, $ends:ident, $sends:literal => $expects:literal, $script:path;)*) => {
        /// The drills of this family.
        pub(crate) const DRILLS: &[crate::initiator::drill::Drill] = &[
            $(crate::initiator::drill::Drill {
                rule: crate::check::Rule {
                    name: $name,
                    section: $section,
                    level: crate::check::Level::$level,
                    sends: $sends,
                    expects: $expects,
                },
                session: crate::initiator::drill::SessionKind::$session,
                ends: crate::initiator::drill::Ends::$ends,
                script: |stage| Box::pin($script(stage)),
            },)*
        ];
    };
}

pub(crate) use drills;
