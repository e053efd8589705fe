//! Known deviations of a peer, each with a reason.

use std::collections::BTreeSet;

use serde::Deserialize;

use crate::run::{Outcome, Report};
use crate::select::{UnknownCheck, unknown};

/// The waivers of one file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Waivers {
    /// In the order of the file.
    #[serde(default, rename = "waiver")]
    pub all: Vec<Waiver>,
}

/// A check that is known to fail.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Waiver {
    /// Its whole name.
    pub check: String,
    /// Why that is known and accepted.
    pub reason: String,
}

/// What is wrong with a file of waivers.
#[derive(Debug, thiserror::Error)]
pub enum WaiverError {
    /// It is not what a file of waivers looks like.
    #[error("not `[[waiver]]` with `check` and `reason`: {0}")]
    Syntax(#[from] toml::de::Error),
    /// A waiver without a reason.
    #[error("the waiver of {0} has no reason")]
    NoReason(String),
    /// Two waivers of one check.
    #[error("{0} is waived twice")]
    Twice(String),
    /// A waiver of no check.
    #[error(transparent)]
    Unknown(#[from] UnknownCheck),
}

impl Waivers {
    /// The waivers of a file; `names` are those of all checks.
    pub fn parse(text: &str, names: &[&str]) -> Result<Self, WaiverError> {
        let waivers: Self = toml::from_str(text)?;
        let mut seen = BTreeSet::new();
        for waiver in &waivers.all {
            let check = waiver.check.as_str();
            if !names.contains(&check) {
                return Err(unknown(check, names).into());
            }
            if waiver.reason.trim().is_empty() {
                return Err(WaiverError::NoReason(check.to_owned()));
            }
            if !seen.insert(check) {
                return Err(WaiverError::Twice(check.to_owned()));
            }
        }
        Ok(waivers)
    }

    /// Waives what failed; the checks whose waivers were not needed, since they passed this time.
    pub fn apply(&self, report: &mut Report) -> Vec<String> {
        let mut unneeded = Vec::new();
        for waiver in &self.all {
            let named = |judged: &&mut crate::Judged| judged.rule.name == waiver.check;
            let Some(judged) = report.judged.iter_mut().find(named) else {
                continue;
            };
            match judged.outcome {
                Outcome::Failed => {
                    judged.outcome = Outcome::Waived;
                    judged.detail = format!("{} (it failed: {})", waiver.reason, judged.detail);
                }
                Outcome::Passed => unneeded.push(waiver.check.clone()),
                Outcome::Skipped | Outcome::Waived | Outcome::Error => {}
            }
        }
        unneeded
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::report;

    const NAMES: [&str; 4] = ["login.one", "login.two", "nop.echo", "write.zero"];

    fn refused(text: &str) -> String {
        Waivers::parse(text, &NAMES).unwrap_err().to_string()
    }

    #[test]
    fn only_failures_are_waived_and_what_passed_is_told() {
        let text = "[[waiver]]\ncheck = \"login.one\"\nreason = \"gone since 2.0\"\n\
            [[waiver]]\ncheck = \"login.two\"\nreason = \"ticket 7\"\n\
            [[waiver]]\ncheck = \"nop.echo\"\nreason = \"not looked into\"\n";
        let waivers = Waivers::parse(text, &NAMES).unwrap();
        let mut report = report();
        assert_eq!(waivers.apply(&mut report), ["login.one"]);
        let outcomes: Vec<_> = report.judged.iter().map(|judged| judged.outcome).collect();
        let (passed, skipped) = (Outcome::Passed, Outcome::Skipped);
        assert_eq!(
            outcomes,
            [passed, Outcome::Waived, skipped, Outcome::Failed]
        );
        assert!(report.judged[1].detail.starts_with("ticket 7 (it failed: "));
    }

    /// The files beside the sources know only checks that there are, of targets or of initiators.
    #[test]
    fn the_known_deviations_of_peers_can_be_read() {
        let checks: Vec<_> = crate::all().iter().map(|check| check.rule.name).collect();
        let drills = crate::initiator::drills();
        let drills: Vec<_> = drills.iter().map(|drill| drill.rule.name).collect();
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/waivers");
        for file in std::fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            let (of_targets, of_initiators) = [&checks, &drills]
                .map(|names| Waivers::parse(&text, names))
                .into();
            if let (Err(one), Err(other)) = (of_targets, of_initiators) {
                panic!("{}: {one}, {other}", path.display());
            }
        }
    }

    #[test]
    fn a_file_that_hides_something_is_refused() {
        let nothing = Waivers::parse("# none yet\n", &NAMES).unwrap();
        assert!(nothing.all.is_empty());
        let no_reason = "[[waiver]]\ncheck = \"nop.echo\"\nreason = \" \"\n";
        assert_eq!(refused(no_reason), "the waiver of nop.echo has no reason");
        let once = "[[waiver]]\ncheck = \"nop.echo\"\nreason = \"x\"\n";
        assert_eq!(refused(&once.repeat(2)), "nop.echo is waived twice");
        let family = "[[waiver]]\ncheck = \"nop\"\nreason = \"x\"\n";
        assert!(refused(family).starts_with("no check is called nop"));
        assert!(refused("[[waiver]]\ncheck = \"nop.echo\"\n").contains("`reason`"));
        assert!(refused("[[waivers]]\n").contains("waivers"));
    }
}
