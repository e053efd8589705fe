//! The page docs/libiscsi-suite.md: counts, families, and what remains.

use std::fmt::Write as _;

use crate::suite::{Configuration, Counts, Test, Verdict, remaining};

/// What the suite said about one configuration.
pub(crate) struct Column {
    pub(crate) configuration: Configuration,
    pub(crate) tests: Vec<Test>,
    pub(crate) seconds: f64,
}

impl Column {
    /// The verdict about a test, if it was asked.
    fn verdict(&self, name: &str) -> Option<&Verdict> {
        let found = self.tests.iter().find(|test| test.name == name);
        found.map(|test| &test.verdict)
    }

    /// The tests that are not excused: all that passed, and all others without a reason of their own.
    pub(crate) fn counted(&self) -> impl Iterator<Item = &Test> {
        let excused = |test: &Test| remaining(self.configuration, &test.name).is_some();
        self.tests
            .iter()
            .filter(move |test| test.verdict == Verdict::Passed || !excused(test))
    }

    /// True if it is about our target.
    pub(crate) fn is_ours(&self) -> bool {
        Configuration::OURS.contains(&self.configuration)
    }
}

/// The names of all tests of which `columns` know, in the order of the suite.
fn names(columns: &[Column]) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for test in columns.iter().flat_map(|column| &column.tests) {
        if !names.contains(&test.name.as_str()) {
            names.push(&test.name);
        }
    }
    names
}

/// The tests that pass in at least one configuration of ours.
pub(crate) fn union(columns: &[Column]) -> usize {
    let passes = |name: &&str| {
        let mut ours = columns.iter().filter(|column| column.is_ours());
        ours.any(|column| column.verdict(name) == Some(&Verdict::Passed))
    };
    names(columns).iter().filter(|name| passes(name)).count()
}

/// The whole page.
pub(crate) fn page(versions: &[String], columns: &[Column]) -> String {
    let mut page = format!(
        "# libiscsi's suite\n\n\
         libiscsi's test suite `iscsi-test-cu`, family ALL, destructive, sanitize allowed, one process per family. The suite\n\
         counts a test that it skips as passed; here a skip is a skip. *Partial* is a test that passed but for an aside that it\n\
         skipped. Made by `cargo xtask lab suite`, never by hand.\n\n\
         {}\n\n",
        versions.join(" · ")
    );
    page += &counts(columns);
    let _ = write!(
        page,
        "\n{} of {} tests pass in at least one configuration of vmthunder.\n\n## Families\n\nTests passed of tests asked.\n\n",
        union(columns),
        names(columns).len()
    );
    page += &families(columns);
    page += "\n## What does not pass\n\n";
    page += &rest(columns);
    page
}

/// One row per configuration.
pub(crate) fn counts(columns: &[Column]) -> String {
    let mut text = "| configuration | tests | passed | skipped | partial | failed | no verdict |\n|---|--:|--:|--:|--:|--:|--:|\n".to_owned();
    for column in columns {
        let counts = Counts::of(&column.tests);
        let who = if column.is_ours() { "vmthunder, " } else { "" };
        let _ = writeln!(
            text,
            "| {who}{} | {} | {} | {} | {} | {} | {} |",
            column.configuration.title(),
            counts.total(),
            counts.passed,
            counts.skipped,
            counts.partial,
            counts.failed,
            counts.missing
        );
    }
    text
}

fn families(columns: &[Column]) -> String {
    let family_of = |name: &str| name.split('.').next().unwrap_or_default().to_owned();
    let mut families: Vec<String> = names(columns).into_iter().map(family_of).collect();
    families.dedup();
    let titles: Vec<&str> = columns
        .iter()
        .map(|column| column.configuration.title())
        .collect();
    let mut text = format!(
        "| family | {} |\n|---|{}\n",
        titles.join(" | "),
        "--:|".repeat(columns.len())
    );
    for family in families {
        let cell = |column: &Column| {
            let tests = column
                .tests
                .iter()
                .filter(|test| family_of(&test.name) == family);
            let counts = Counts::of(tests);
            match counts.total() {
                0 => String::new(),
                total => format!("{}/{total}", counts.passed),
            }
        };
        let cells: Vec<String> = columns.iter().map(cell).collect();
        let _ = writeln!(text, "| {family} | {} |", cells.join(" | "));
    }
    text
}

/// The tests that pass nowhere, and those that fail anywhere, with the reason. A skip is nothing if the test passes in
/// another configuration, for which it is meant.
fn rest(columns: &[Column]) -> String {
    let mut text = "| test | configurations | verdict | reason |\n|---|---|---|---|\n".to_owned();
    let ours: Vec<&Column> = columns.iter().filter(|column| column.is_ours()).collect();
    for name in names(columns) {
        let verdicts: Vec<(Configuration, &Verdict)> = ours
            .iter()
            .filter_map(|column| Some((column.configuration, column.verdict(name)?)))
            .collect();
        let passes = verdicts
            .iter()
            .any(|(_, verdict)| **verdict == Verdict::Passed);
        // Configurations that share a verdict and its reason share a row.
        let mut rows: Vec<(String, Vec<&str>)> = Vec::new();
        for (configuration, verdict) in verdicts {
            let Some(said) = remark(name, configuration, verdict, passes) else {
                continue;
            };
            match rows.iter_mut().find(|(known, _)| *known == said) {
                Some((_, titles)) => titles.push(configuration.title()),
                None => rows.push((said, vec![configuration.title()])),
            }
        }
        for (said, titles) in rows {
            let _ = writeln!(text, "| {name} | {} | {said} |", titles.join(", "));
        }
    }
    text
}

/// The verdict and its reason, as two cells.
fn remark(name: &str, at: Configuration, verdict: &Verdict, passes: bool) -> Option<String> {
    let (word, said) = match verdict {
        Verdict::Passed => return None,
        Verdict::Skipped(_) if passes => return None,
        Verdict::Skipped(said) => ("skipped", said.as_str()),
        Verdict::Partial(said) => ("partial", said.as_str()),
        Verdict::Failed(said) => ("failed", said.as_str()),
        Verdict::Missing => ("no verdict", "it hung or died"),
    };
    let reason = remaining(at, name).map_or_else(
        || {
            format!(
                "the suite says: {}",
                said.lines().next().unwrap_or_default()
            )
        },
        |known| known.why.to_owned(),
    );
    Some(format!("{word} | {}", reason.replace('|', "/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(configuration: Configuration, verdicts: &[(&str, Verdict)]) -> Column {
        let test = |(name, verdict): &(&str, Verdict)| Test {
            name: (*name).to_owned(),
            verdict: verdict.clone(),
        };
        Column {
            configuration,
            tests: verdicts.iter().map(test).collect(),
            seconds: 0.0,
        }
    }

    #[test]
    fn a_test_that_passes_anywhere_counts_once() {
        let skipped = Verdict::Skipped("[SKIPPED] not removable".to_owned());
        let columns = [
            column(
                Configuration::Plain,
                &[("A.One", Verdict::Passed), ("A.Two", skipped.clone())],
            ),
            column(
                Configuration::Removable,
                &[("A.One", Verdict::Passed), ("A.Two", Verdict::Passed)],
            ),
            column(
                Configuration::Tgt,
                &[("A.One", Verdict::Passed), ("A.Two", skipped)],
            ),
        ];
        assert_eq!(union(&columns), 2);
        let page = page(&["suite 1".to_owned()], &columns);
        assert!(page.contains("| vmthunder, plain LUN | 2 | 1 | 1 | 0 | 0 | 0 |"));
        assert!(page.contains("2 of 2 tests pass"));
        assert!(page.contains("| A | 1/2 | 2/2 | 1/2 |"));
        assert!(
            !page.contains("| A.Two |"),
            "it passes where it is meant to"
        );
    }

    #[test]
    fn what_passes_nowhere_is_told() {
        let skipped = Verdict::Skipped("[SKIPPED] a | b".to_owned());
        let columns = [column(Configuration::Plain, &[("A.Two", skipped)])];
        let page = page(&[], &columns);
        assert!(page.contains("| A.Two | plain LUN | skipped | the suite says: [SKIPPED] a / b |"));
    }
}
