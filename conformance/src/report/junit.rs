//! The report as JUnit XML, which build servers read.

use std::time::Duration;

use quick_junit::{
    NonSuccessKind, Report as Document, SerializeError, TestCase, TestCaseStatus, TestSuite,
};

use crate::report::{About, Family, SUITE, time};
use crate::run::{Judged, Outcome, Report};

/// One test suite for each family of checks; what was waived counts as skipped.
pub fn junit(about: &About, report: &Report) -> Result<String, SerializeError> {
    let mut document = Document::new(SUITE);
    document.set_timestamp(time(about.started));
    document.set_time(about.took);
    document.add_test_suites(report.families().iter().map(|family| suite(about, family)));
    document.to_string()
}

fn suite(about: &About, family: &Family<'_>) -> TestSuite {
    let mut suite = TestSuite::new(family.name);
    suite.add_property((about.peer.word(), about.subject.as_str()));
    if let Some(facts) = &about.facts {
        suite.add_property(("product", facts.product.as_str()));
        suite.add_property(("serial", facts.serial.as_str()));
    }
    let seconds = family.judged.iter().map(|judged| judged.seconds).sum();
    suite.set_time(duration(seconds));
    suite.add_test_cases(family.judged.iter().map(|judged| case(family, judged)));
    suite
}

fn case(family: &Family<'_>, judged: &Judged) -> TestCase {
    let rule = judged.rule;
    let status = match judged.outcome {
        Outcome::Passed => TestCaseStatus::success(),
        Outcome::Failed | Outcome::Error => {
            let mut status = TestCaseStatus::non_success(match judged.outcome {
                Outcome::Error => NonSuccessKind::Error,
                _ => NonSuccessKind::Failure,
            });
            status.set_message(judged.detail.as_str());
            status.set_type(rule.level.word());
            let pdus = judged.transcript.join("\n");
            status.set_description(format!(
                "{} ({})\nsends: {}\nexpects: {}\n\n{pdus}",
                rule.section,
                rule.level.word(),
                rule.sends,
                rule.expects
            ));
            status
        }
        Outcome::Skipped | Outcome::Waived => {
            let mut status = TestCaseStatus::skipped();
            status.set_type(judged.outcome.word());
            status.set_message(judged.detail.as_str());
            status
        }
    };
    let mut case = TestCase::new(rule.name, status);
    case.set_classname(family.name);
    case.set_time(duration(judged.seconds));
    case.add_property(("section", rule.section));
    case.add_property(("level", rule.level.word()));
    case
}

fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}
