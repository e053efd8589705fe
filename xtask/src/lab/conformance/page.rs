//! The page docs/conformance.md.

use std::fmt::Write as _;

/// What the suite said about one target or initiator.
pub(crate) struct Column {
    /// At the head of the column.
    pub(crate) title: &'static str,
    /// What it says that it is, or its version.
    pub(crate) product: String,
    pub(crate) seconds: f64,
    pub(crate) verdicts: Vec<Verdict>,
}

/// What became of one check.
pub(crate) struct Verdict {
    pub(crate) name: String,
    pub(crate) section: String,
    pub(crate) level: String,
    pub(crate) expects: String,
    pub(crate) detail: String,
    pub(crate) outcome: Outcome,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Outcome {
    Passed,
    Failed,
    /// Failed, and the file of waivers says what the target does.
    Explained,
    Skipped,
}

impl Column {
    fn count(&self, outcome: Outcome) -> usize {
        let of = |verdict: &&Verdict| verdict.outcome == outcome;
        self.verdicts.iter().filter(of).count()
    }

    fn verdict(&self, name: &str) -> Option<&Verdict> {
        self.verdicts.iter().find(|verdict| verdict.name == name)
    }

    fn of_family<'a>(&'a self, family: &'a str) -> impl Iterator<Item = &'a Verdict> {
        let is_of = move |verdict: &&Verdict| family_of(&verdict.name) == family;
        self.verdicts.iter().filter(is_of)
    }
}

impl Verdict {
    fn deviates(&self) -> bool {
        matches!(self.outcome, Outcome::Failed | Outcome::Explained)
    }
}

/// The whole page below its introduction; `faults` is what the suite's own test says. Ours is the first column.
pub(crate) fn page(introduction: &str, columns: &[Column], faults: &str) -> String {
    let mut page = introduction.to_owned();
    let _ = write!(
        page,
        "\nThe suite itself is judged by broken peers, at least one fault for each rule: {faults}.\n\n{}",
        counts(columns)
    );
    page += "\n## Families\n\nChecks passed of those that applied.\n\n";
    page += &families(columns);
    page += "\n## Deviations\n\n";
    page += &deviations(columns);
    page += "\n## Skipped here\n\nWhat the first column is not asked, and why.\n\n";
    page += &skipped(columns);
    page
}

/// One row per column.
pub(crate) fn counts(columns: &[Column]) -> String {
    let mut text = "| peer | says it is | checks | passed | failed | skipped | seconds |\n|---|---|--:|--:|--:|--:|--:|\n".to_owned();
    for column in columns {
        let failed = column.count(Outcome::Failed) + column.count(Outcome::Explained);
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {failed} | {} | {:.0} |",
            column.title,
            column.product,
            column.verdicts.len(),
            column.count(Outcome::Passed),
            column.count(Outcome::Skipped),
            column.seconds
        );
    }
    text
}

fn family_of(name: &str) -> &str {
    name.split('.').next().unwrap_or_default()
}

fn names(columns: &[Column]) -> Vec<&str> {
    let first = columns.first().map(|column| &column.verdicts);
    let names = first
        .into_iter()
        .flatten()
        .map(|verdict| verdict.name.as_str());
    names.collect()
}

fn head(first: &str, columns: &[Column], rule: &str) -> String {
    let titles: Vec<&str> = columns.iter().map(|column| column.title).collect();
    let rules = rule.repeat(columns.len());
    format!("| {first} | {} |\n|---|{rules}\n", titles.join(" | "))
}

fn families(columns: &[Column]) -> String {
    let mut families: Vec<&str> = names(columns).into_iter().map(family_of).collect();
    families.dedup();
    let mut text = head("family", columns, "--:|");
    for family in families {
        let cell = |column: &Column| {
            let applied = |verdict: &&Verdict| verdict.outcome != Outcome::Skipped;
            let applied = column.of_family(family).filter(applied);
            let (mut passed, mut all) = (0, 0);
            for verdict in applied {
                all += 1;
                passed += usize::from(verdict.outcome == Outcome::Passed);
            }
            if all == 0 {
                String::new()
            } else {
                format!("{passed}/{all}")
            }
        };
        let cells: Vec<String> = columns.iter().map(cell).collect();
        let _ = writeln!(text, "| {family} | {} |", cells.join(" | "));
    }
    text
}

/// Each rule that somebody breaks: who, what the rule says, and what each of them does.
fn deviations(columns: &[Column]) -> String {
    let mut text = String::new();
    for name in names(columns) {
        let found = columns.iter().filter_map(|column| {
            let verdict = column.verdict(name)?;
            verdict.deviates().then_some((column.title, verdict))
        });
        let found: Vec<(&str, &Verdict)> = found.collect();
        let Some((_, rule)) = found.first() else {
            continue;
        };
        let _ = writeln!(
            text,
            "**{name}** ({}, {}). Expected: {}.",
            rule.section, rule.level, rule.expects
        );
        let mut said: Vec<(&str, Vec<&str>)> = Vec::new();
        for (title, verdict) in &found {
            match said
                .iter_mut()
                .find(|(detail, _)| *detail == verdict.detail)
            {
                Some((_, peers)) => peers.push(title),
                None => said.push((&verdict.detail, vec![title])),
            }
        }
        for (detail, peers) in said {
            let _ = writeln!(text, "- {}: {}", peers.join("; "), in_a_line(detail));
        }
        text.push('\n');
    }
    if text.is_empty() {
        text.push_str("None.\n");
    }
    text
}

fn skipped(columns: &[Column]) -> String {
    let Some(ours) = columns.first() else {
        return String::new();
    };
    let mut text = "| check | section | why |\n|---|---|---|\n".to_owned();
    let skips = |verdict: &&Verdict| verdict.outcome == Outcome::Skipped;
    for verdict in ours.verdicts.iter().filter(skips) {
        let _ = writeln!(
            text,
            "| {} | {} | {} |",
            verdict.name,
            verdict.section,
            in_a_line(&verdict.detail).replace('|', "\\|")
        );
    }
    text
}

fn in_a_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
