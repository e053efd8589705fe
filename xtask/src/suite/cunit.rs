//! What iscsi-test-cu prints, read truly: it counts a test that it skipped as passed, this does not.
//!
//! The suite skips by printing `[SKIPPED] why` and passing, so a verdict is only known together with the lines between
//! `Test: NAME ...` and it. A verdict may share its line with a log line before or behind it. What is skipped behind the
//! verdict is the suite's cleaning up, not the test.

use std::mem;

/// One test of the suite.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Test {
    pub(crate) name: String,
    pub(crate) verdict: Verdict,
}

/// How a test ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    Passed,
    /// The suite left out an aside, the look into REPORT SUPPORTED OPERATION CODES, and passed the rest.
    Partial(String),
    /// What the suite says it skipped.
    Skipped(String),
    /// What the suite says is wrong.
    Failed(String),
    /// The suite ended or hung in the middle.
    Missing,
}

/// What the suite prints when it skips nothing but the look into REPORT SUPPORTED OPERATION CODES.
const ASIDES: [&str; 3] = [
    "REPORT_SUPPORTED_OPCODES is not implemented",
    "REPORT SUPPORTED OPCODES is not implemented",
    "REPORT_SUPPORTED_OPCODES not implemented",
];

/// How much of a failed test's log is kept: one of them breaks four thousand assertions.
const LOG_LINES: usize = 14;

/// Reads the output of a run.
pub(crate) fn parse(output: &str) -> Vec<Test> {
    let mut reader = Reader::default();
    for line in output.lines() {
        reader.line(line);
    }
    reader.finish_test();
    reader.tests
}

#[derive(Default)]
struct Reader {
    suite: String,
    open: Option<Open>,
    tests: Vec<Test>,
}

/// A test whose end was not seen yet.
#[derive(Default)]
struct Open {
    name: String,
    passed: Option<bool>,
    skipped: Option<String>,
    aside: Option<String>,
    log: Vec<String>,
    unlogged: usize,
}

impl Reader {
    fn line(&mut self, line: &str) {
        if let Some(suite) = line.strip_prefix("Suite: ") {
            self.finish_test();
            suite.trim().clone_into(&mut self.suite);
        } else if let Some((test, rest)) = line
            .strip_prefix("  Test: ")
            .and_then(|line| line.split_once(" ..."))
        {
            self.finish_test();
            let mut open = Open {
                name: format!("{}.{test}", self.suite),
                ..Open::default()
            };
            open.line(rest);
            self.open = Some(open);
        } else if line.starts_with("Run Summary") {
            self.finish_test();
        } else if let Some(open) = &mut self.open {
            open.line(line);
        }
    }

    fn finish_test(&mut self) {
        self.tests.extend(self.open.take().map(|mut open| Test {
            name: mem::take(&mut open.name),
            verdict: open.verdict(),
        }));
    }
}

impl Open {
    fn line(&mut self, line: &str) {
        match verdict_in(line).filter(|_| self.passed.is_none()) {
            Some((before, passed, behind)) => {
                self.log(before);
                self.passed = Some(passed);
                self.log(behind);
            }
            None => self.log(line),
        }
    }

    fn log(&mut self, line: &str) {
        let line = line.trim();
        if line.contains("[SKIPPED]") && self.passed.is_none() {
            let is_aside = ASIDES.iter().any(|aside| line.contains(aside));
            let place = if is_aside {
                &mut self.aside
            } else {
                &mut self.skipped
            };
            place.get_or_insert_with(|| line.to_owned());
        }
        if line.is_empty() {
            return;
        }
        if self.log.len() < LOG_LINES {
            self.log.push(line.to_owned());
        } else {
            self.unlogged += 1;
        }
    }

    fn verdict(mut self) -> Verdict {
        if self.unlogged > 0 {
            self.log.push(format!("and {} lines more", self.unlogged));
        }
        match (self.passed, self.skipped, self.aside) {
            (Some(true), None, None) => Verdict::Passed,
            (Some(true), None, Some(aside)) => Verdict::Partial(aside),
            (Some(true), Some(why), _) => Verdict::Skipped(why),
            // The log lines before the verdict and the broken assertions behind it.
            (Some(false), ..) => Verdict::Failed(self.log.join("\n      ")),
            (None, ..) => Verdict::Missing,
        }
    }
}

/// The verdict at the end of a line, or at its begin with a log line behind it: what is before it, it, what is behind.
fn verdict_in(line: &str) -> Option<(&str, bool, &str)> {
    if line.trim_start().starts_with('[') {
        return None;
    }
    for (word, passed) in [("passed", true), ("FAILED", false)] {
        if let Some(before) = line.trim_end().strip_suffix(word) {
            return Some((before, passed, ""));
        }
        let behind = line.strip_prefix(word).map(str::trim_start);
        if let Some(behind) =
            behind.filter(|behind| behind.starts_with('[') || behind.starts_with("20"))
        {
            return Some(("", passed, behind));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts(output: &str) -> Vec<(String, Verdict)> {
        parse(output)
            .into_iter()
            .map(|test| (test.name, test.verdict))
            .collect()
    }

    #[test]
    fn a_skip_is_no_pass() {
        let output = "\nSuite: Read10\n  Test: Simple ...passed\n  Test: ReadProtect ...    \
                      [SKIPPED] LUN is not SBC.\npassed\n\nRun Summary:    Type  Total\n  tests  2 2 2 0 0\n";
        assert_eq!(
            verdicts(output),
            [
                ("Read10.Simple".to_owned(), Verdict::Passed),
                (
                    "Read10.ReadProtect".to_owned(),
                    Verdict::Skipped("[SKIPPED] LUN is not SBC.".to_owned())
                ),
            ]
        );
    }

    #[test]
    fn an_aside_that_was_skipped_is_partial() {
        let aside = "[SKIPPED] REPORT_SUPPORTED_OPCODES is not implemented on this target.";
        let output = format!("Suite: S\n  Test: A ...    {aside}\npassed\n  Test: B ...passed\n");
        assert_eq!(
            verdicts(&output),
            [
                ("S.A".to_owned(), Verdict::Partial(aside.to_owned())),
                ("S.B".to_owned(), Verdict::Passed)
            ]
        );
    }

    #[test]
    fn a_failure_says_why() {
        let output = "Suite: Read10\n  Test: BeyondEol ...    [FAILED] READ10 command: wrong sense\nFAILED\n    \
                      1. test_read10_beyond_eol.c:42  - ret == 0\n  Test: Simple ...passed\n";
        let why = "[FAILED] READ10 command: wrong sense\n      1. test_read10_beyond_eol.c:42  - ret == 0";
        assert_eq!(
            verdicts(output),
            [
                (
                    "Read10.BeyondEol".to_owned(),
                    Verdict::Failed(why.to_owned())
                ),
                ("Read10.Simple".to_owned(), Verdict::Passed),
            ]
        );
    }

    #[test]
    fn a_long_log_is_cut() {
        let output = "Suite: S\n  Test: A ...\n".to_owned() + &"line\n".repeat(1000) + "FAILED\n";
        let Verdict::Failed(why) = &parse(&output)[0].verdict else {
            panic!("it failed");
        };
        assert_eq!(why.lines().count(), 15);
        assert!(why.ends_with("and 986 lines more"));
    }

    #[test]
    fn a_suite_that_dies_leaves_a_test_without_verdict() {
        let output = "Suite: iSCSIcmdsn\n  Test: iSCSICmdSnTooHigh ...\n";
        assert_eq!(
            verdicts(output),
            [("iSCSIcmdsn.iSCSICmdSnTooHigh".to_owned(), Verdict::Missing)]
        );
    }

    #[test]
    fn a_skip_behind_the_verdict_is_not_the_tests() {
        let output = "Suite: S\n  Test: A ...passed    [SKIPPED] PERSISTENT RESERVE IN is not implemented.\n";
        assert_eq!(verdicts(output), [("S.A".to_owned(), Verdict::Passed)]);
    }

    #[test]
    fn a_verdict_may_share_its_line() {
        let output = "Suite: S\n  Test: A ...passed    [FAILED] late log line\n  Test: B ...some words passed\n";
        let verdicts = verdicts(output);
        assert_eq!(verdicts[0].1, Verdict::Passed);
        assert_eq!(verdicts[1].1, Verdict::Passed);
    }
}
