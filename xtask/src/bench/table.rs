//! Outcomes as text, for people and programs.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::case::{Bound, Case, Figure, Turn, Work};
use super::conditions::Conditions;
use super::statistics::{Answer, Outcome, Spread, Verdict};

/// The names of the cases, and who takes part.
pub(super) fn list(cases: &[&Case]) -> String {
    let mut text = String::new();
    for case in cases {
        let sides: Vec<&str> = case.sides.iter().map(|side| side.name).collect();
        let _ = writeln!(
            text,
            "{:<24} {}: {}",
            case.name,
            case.title,
            sides.join(", ")
        );
    }
    text
}

/// A turn as one line.
pub(super) fn turn(work: Work, turn: &Turn) -> String {
    let figures = work.figures().iter().filter_map(|figure| {
        let value = figure.of(turn)?;
        Some(format!("{} {}", number(*figure, value), figure.title()))
    });
    let mut text: Vec<String> = figures.collect();
    if turn.is_disturbed() {
        text.push(format!("disturbed: others used {:.1} cores", turn.others));
    }
    text.join(", ")
}

fn number(figure: Figure, value: f64) -> String {
    format!("{value:.*}", figure.digits())
}

/// A median, and from where to where the figures go.
pub(super) fn spread(figure: Figure, spread: &Spread) -> String {
    format!(
        "{} ({}–{})",
        number(figure, spread.median),
        number(figure, spread.least),
        number(figure, spread.most)
    )
}

/// A case as a table of Markdown, which is as good for people at a terminal.
pub(super) fn case(outcome: &Outcome<'_>) -> String {
    let figures = outcome.case.work.figures();
    let titles: Vec<&str> = figures.iter().map(|figure| figure.title()).collect();
    let mut text = format!(
        "### {}\n\n`{}`{}\n\n| | {} |\n|---|{}\n",
        outcome.case.title,
        outcome.case.name,
        remark(outcome),
        titles.join(" | "),
        "--:|".repeat(titles.len())
    );
    for (at, side) in outcome.case.sides.iter().enumerate() {
        let cells = figures.iter().map(|figure| {
            let figures = outcome.figure(at, *figure);
            figures.map_or_else(|| "–".to_owned(), |known| spread(*figure, &known))
        });
        let cells: Vec<String> = cells.collect();
        let _ = writeln!(text, "| {} | {} |", side.name, cells.join(" | "));
    }
    text += "\n| ratio | against | median (range) | goal | |\n|---|---|--:|--:|---|\n";
    for answer in outcome.answers() {
        text += &row(&answer);
    }
    text
}

/// How disturbed it was, if it was.
fn remark(outcome: &Outcome<'_>) -> String {
    let rounds = outcome.turns.iter().map(Vec::len).min().unwrap_or(0);
    let quiet = outcome.quiet_rounds().len();
    if quiet == rounds {
        return String::new();
    }
    format!(" · disturbed in {} of {rounds} rounds", rounds - quiet)
}

fn row(answer: &Answer<'_>) -> String {
    format!(
        "| {} of {} | {} | {:.2}x ({:.2}–{:.2}) | {} | {} |\n",
        answer.goal.figure.title(),
        answer.goal.of,
        answer.against,
        answer.ratio.median,
        answer.ratio.least,
        answer.ratio.most,
        bound(answer.goal.bound),
        verdict(answer)
    )
}

/// A goal as it is written.
pub(super) fn bound(bound: Bound) -> String {
    match bound {
        Bound::AtLeast(least) => format!("≥ {least}x"),
        Bound::AtMost(most) => format!("≤ {most}x"),
        Bound::Told => "–".to_owned(),
    }
}

/// What came of it, in words.
pub(super) fn verdict(answer: &Answer<'_>) -> String {
    let verdict = match answer.verdict {
        Verdict::Met => "met",
        Verdict::Missed => "**missed**",
        Verdict::Told => "",
    };
    match (answer.is_doubtful, verdict) {
        (false, verdict) => verdict.to_owned(),
        (true, "") => "disturbed".to_owned(),
        (true, verdict) => format!("{verdict}, but disturbed"),
    }
}

/// The last line: how many goals were met.
pub(super) fn sum(outcomes: &[Outcome<'_>]) -> String {
    let answers: Vec<Answer<'_>> = outcomes.iter().flat_map(Outcome::answers).collect();
    let count = |verdict| {
        let alike = answers.iter().filter(|answer| answer.verdict == verdict);
        alike.count()
    };
    let doubtful = answers
        .iter()
        .filter(|answer| answer.is_doubtful && answer.verdict != Verdict::Told)
        .count();
    format!(
        "{} cases: {} goals met, {} missed; {doubtful} of these disturbed",
        outcomes.len(),
        count(Verdict::Met),
        count(Verdict::Missed)
    )
}

/// Everything, for programs.
pub(super) fn json(conditions: &Conditions, outcomes: &[Outcome<'_>], failed: &[&str]) -> Value {
    let cases: Vec<Value> = outcomes.iter().map(case_json).collect();
    json!({ "conditions": conditions.json(), "cases": cases, "failed": failed })
}

fn case_json(outcome: &Outcome<'_>) -> Value {
    let sides = outcome.case.sides.iter().zip(&outcome.turns).enumerate();
    let sides = sides.map(|(at, (side, turns))| {
        let mut figures = Map::new();
        for figure in outcome.case.work.figures() {
            let known = outcome.figure(at, *figure);
            figures.insert(figure.key().to_owned(), known.map_or(Value::Null, spread_json));
        }
        json!({ "name": side.name, "figures": figures, "turns": turns.iter().map(|turn| turn_json(outcome.case.work, turn)).collect::<Vec<_>>() })
    });
    let answers = outcome.answers();
    let answers = answers.iter().map(|answer| {
        json!({
            "figure": answer.goal.figure.key(),
            "of": answer.goal.of,
            "against": answer.against,
            "ratio": spread_json(answer.ratio),
            "goal": match answer.goal.bound {
                Bound::AtLeast(least) => json!({ "at_least": least }),
                Bound::AtMost(most) => json!({ "at_most": most }),
                Bound::Told => Value::Null,
            },
            "met": match answer.verdict {
                Verdict::Met => json!(true),
                Verdict::Missed => json!(false),
                Verdict::Told => Value::Null,
            },
            "disturbed": answer.is_doubtful,
        })
    });
    json!({
        "name": outcome.case.name,
        "title": outcome.case.title,
        "sides": sides.collect::<Vec<_>>(),
        "ratios": answers.collect::<Vec<_>>(),
    })
}

fn spread_json(spread: Spread) -> Value {
    json!({ "median": spread.median, "least": spread.least, "most": spread.most })
}

fn turn_json(work: Work, turn: &Turn) -> Value {
    let mut figures = Map::new();
    for figure in work.figures() {
        figures.insert(figure.key().to_owned(), json!(figure.of(turn)));
    }
    figures.insert("other_cores".to_owned(), json!(turn.others));
    Value::Object(figures)
}
