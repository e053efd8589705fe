//! docs/performance.md: generated but for the notes, which stay as somebody wrote them.

use std::fs;

use anyhow::{Context as _, Result};

use super::case::{Bound, Figure, Work};
use super::conditions::Conditions;
use super::plot::{self, Bar, Group, Mark};
use super::statistics::{Outcome, Verdict};
use super::table;
use crate::repo::Repo;

const PAGE: &str = "docs/performance.md";
const RATIOS: &str = "performance-ratios.svg";
const COSTS: &str = "performance-cpu.svg";
pub(crate) const BEGIN: &str = "<!-- begin notes -->\n";
pub(crate) const END: &str = "<!-- end notes -->\n";

const HEAD: &str = "\
# Performance

Ratios, never absolute times: everybody takes turns on one machine (A B A B), a figure is the median over the rounds with
the least and the most beside it, and a ratio is of the same round. What was read or written in a turn was compared, byte
by byte, else there is no figure. CPU time is that of the whole server, or of the whole driver, from `/proc`. Disks lie in
memory, so that no disk is measured. A turn during which others used more than 0.3 cores is repeated; a ratio that is still
marked *disturbed* was measured in such company in half of the rounds or more, or its rounds disagree.

```
cargo xtask bench                      # everything below
cargo xtask bench copy initiator       # cases whose names begin like that; --list names them all
cargo xtask bench --quick              # two short rounds
cargo xtask bench --write              # this page (but for the notes) and its plots
```

It needs cc and Debian's tgt, libiscsi-bin, libiscsi-dev, qemu-utils and qemu-block-extra, and 6 GiB of memory. Drivers:
`lab/load`, a generator over libiscsi that keeps so many reads or writes under way and knows what every block should hold;
libiscsi's `iscsi-perf`; `vmthunder iscsi bench`. One thread of libiscsi does some 130,000 reads of 4 KiB in a second.

";

/// Writes the page and its plots.
pub(super) fn write(repo: &Repo, conditions: &Conditions, outcomes: &[Outcome<'_>]) -> Result<()> {
    let path = repo.root.join(PAGE);
    let old = match fs::read_to_string(&path) {
        Ok(old) => old,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).context(PAGE),
    };
    let docs = repo.root.join("docs");
    fs::write(&path, page(&old, conditions, outcomes)).context(PAGE)?;
    fs::write(docs.join(RATIOS), plot::ratios(&marks(outcomes))).context(RATIOS)?;
    fs::write(
        docs.join(COSTS),
        plot::bars("CPU seconds for 100,000 reads or writes", &costs(outcomes)),
    )
    .context(COSTS)
}

fn page(old: &str, conditions: &Conditions, outcomes: &[Outcome<'_>]) -> String {
    let mut page = format!(
        "{HEAD}{conditions}\n\n{}.\n\n![Ratios and goals]({RATIOS})\n\n![CPU time]({COSTS})\n\n",
        table::sum(outcomes)
    );
    page += &format!(
        "## What stands behind the figures\n\n{BEGIN}{}{END}\n## Cases\n\n",
        notes(old)
    );
    let cases: Vec<String> = outcomes.iter().map(table::case).collect();
    page + &cases.join("\n")
}

/// What somebody wrote between the marks.
pub(crate) fn notes(page: &str) -> &str {
    let notes = page
        .split_once(BEGIN)
        .and_then(|(_, behind)| behind.split_once(END));
    notes.map_or("", |(notes, _)| notes)
}

/// Every goal as a row of the first plot.
fn marks(outcomes: &[Outcome<'_>]) -> Vec<Mark> {
    let mut marks = Vec::new();
    for outcome in outcomes {
        for answer in outcome.answers() {
            let goal = match answer.goal.bound {
                Bound::AtLeast(goal) | Bound::AtMost(goal) => goal,
                Bound::Told => continue,
            };
            marks.push(Mark {
                title: format!(
                    "{}: {} against {}",
                    outcome.case.name,
                    answer.goal.figure.title(),
                    answer.against
                ),
                ratio: answer.ratio,
                goal,
                is_met: answer.verdict == Verdict::Met,
                is_doubtful: answer.is_doubtful,
            });
        }
    }
    marks
}

/// What a read or write costs each side: the server where servers differ, else the driver.
fn costs(outcomes: &[Outcome<'_>]) -> Vec<Group> {
    let mut groups = Vec::new();
    for outcome in outcomes {
        let Work::Load(_) = outcome.case.work else {
            continue;
        };
        let first = outcome.case.sides.first().map(|side| side.server);
        let are_alike = outcome
            .case
            .sides
            .iter()
            .all(|side| Some(side.server) == first);
        let (figure, who) = match are_alike {
            true => (Figure::DriverCpu, "driver"),
            false => (Figure::ServerCpu, "server"),
        };
        let bars = outcome
            .case
            .sides
            .iter()
            .enumerate()
            .filter_map(|(at, side)| {
                Some(Bar {
                    title: side.name,
                    value: outcome.figure(at, figure)?,
                })
            });
        groups.push(Group {
            title: format!("{} ({who})", outcome.case.title),
            bars: bars.collect(),
        });
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::{BEGIN, END, notes};

    #[test]
    fn notes_are_kept() {
        let page = format!("# Old\n{BEGIN}Kept.\n{END}\n## Cases\n");
        assert_eq!(notes(&page), "Kept.\n");
        assert_eq!(notes("# New\n"), "");
    }
}
