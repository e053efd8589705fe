//! docs/storm.md: made of docs/storm.json, which holds what storms came to, and of the notes that somebody wrote.

use std::fmt::Write as _;
use std::fs;
use std::io::ErrorKind;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::{median, predict};
use crate::bench::page::{BEGIN, END, notes};
use crate::bench::plot::{self, Bar, Group};
use crate::bench::statistics::Spread;
use crate::bounded;
use crate::repo::Repo;

const FIGURES: &str = "docs/storm.json";
const PAGE: &str = "docs/storm.md";
const TIMES: &str = "storm-times.svg";
const STALLS: &str = "storm-stalls.svg";
const LIMIT: Duration = Duration::from_secs(30);
/// What makes two runs of the lab the same storm; the later one counts.
const SAME: [&str; 6] = [
    "nodes",
    "rate_mbit",
    "origin_rate_mbit",
    "trace",
    "pace",
    "spread_seconds",
];
/// Goals for a swarm: copies, last node and median node.
const GOALS: [(&str, &str, f64); 3] = [
    ("origin copies", "origin_copies", 1.1),
    ("last node over the bound", "last_over_bound", 1.5),
    ("median node over the bound", "median_over_bound", 1.3),
];

const HEAD: &str = "\
# The storm: real nodes boot at once

Each node is a `vmthunder serve` of its own on a host of its own: a network namespace, whose link to a bridge is limited in
both directions (tbf, a burst of a millisecond). The origin is one of these hosts. All nodes know each other, nothing is
attached and every cache is cold when the guests begin. Each guest logs in to an instance at its node, on the same host,
and does what a recorded guest did: the next read after the answer to the last and the time that the recorded guest took
for itself, which is scaled; it writes what that one wrote, and compares every byte that it reads. A figure is the median of
the runs, with the least and the most. A run during which the processors were more than 90 % busy is void: it is repeated,
and its times count only where all runs of a kind are void, which is said then. Its errors and wrong bytes always count.

* **W** is what a boot reads, in whole extents of 64 KiB, **B** the rate of a link, **B0** that of the origin's, **T_cpu** the
  guest's own time; the bound is max(W/B, W/B0, T_cpu). A byte of an image is 1.0463 bytes on the link, which W/B and all ratios
  of bytes have in them: 48 bytes of a Data-In PDU for 64 KiB, and frames of 1,514 bytes with 1,448 of a segment in them.
* **Copies** are bytes that left the origin over W, **upload** is what the busiest node sent over W. Limiters count both, with
  all that is on the link: hashes, logins, repeated segments, and for nodes the acknowledgements of what they received.
* **Stall** is the longest that any guest waited for one read or write.
* A **star** is the same with every node reading from the origin alone, once; **alone** is one guest in an idle star.

```
cargo xtask lab storm --nodes 16 --rate 80Mbit --star --alone --write     # as root
cargo xtask lab storm --nodes 16 --rate 80Mbit --runs 0 --faults kill,restart-origin,partition,corrupt,slow --write
```

";

/// Adds these figures to those that are there, and writes the page and its plots anew.
pub(super) fn write(repo: &Repo, told: &Value) -> Result<()> {
    let path = repo.root.join(FIGURES);
    let mut all: Vec<Value> = match fs::read_to_string(&path) {
        Ok(text) => serde_json::from_str(&text).context(FIGURES)?,
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error).context(FIGURES),
    };
    let mut told = told.clone();
    told["machine"] = machine(repo)?;
    merge(&mut all, told);
    let docs = repo.root.join("docs");
    fs::write(&path, serde_json::to_string_pretty(&all)? + "\n").context(FIGURES)?;
    let old = fs::read_to_string(repo.root.join(PAGE)).unwrap_or_default();
    fs::write(repo.root.join(PAGE), page(&old, &all)).context(PAGE)?;
    let title = "Last and median node over the bound";
    fs::write(docs.join(TIMES), plot::bars(title, &times(&all))).context(TIMES)?;
    let title = "Longest stall of any guest, seconds";
    fs::write(docs.join(STALLS), plot::bars(title, &stalls(&all))).context(STALLS)
}

/// Puts new figures in the place of those of the same storm and kind.
fn merge(all: &mut Vec<Value>, told: Value) {
    let same = |one: &&mut Value| SAME.iter().all(|name| one[name] == told[name]);
    let Some(old) = all.iter_mut().find(same) else {
        all.push(told);
        all.sort_by_key(|one| (one["nodes"].as_u64(), one["rate_mbit"].as_u64()));
        return;
    };
    let kept = old["storms"].as_array().cloned().unwrap_or_default();
    let mut storms = told["storms"].as_array().cloned().unwrap_or_default();
    let is_new = |one: &Value| !storms.iter().any(|storm| storm["kind"] == one["kind"]);
    let kept: Vec<Value> = kept.into_iter().filter(is_new).collect();
    storms.splice(0..0, kept);
    *old = told;
    old["storms"] = Value::Array(storms);
}

fn page(old: &str, all: &[Value]) -> String {
    let mut page = format!(
        "{HEAD}![Times]({TIMES})\n\n![Stalls]({STALLS})\n\n## What stands behind the figures\n\n{BEGIN}{}{END}",
        notes(old)
    );
    for one in all {
        page += &section(one);
    }
    page
}

fn section(one: &Value) -> String {
    let figure = |name: &str| one[name].as_f64().unwrap_or(f64::NAN);
    let spread = match figure("spread_seconds") {
        0.0 => String::new(),
        seconds => format!(", begun within {seconds} s"),
    };
    let mut text = format!(
        "\n## {}{spread}\n\nOrigin {} Mbit/s · {} · W {:.1} MB · W/B {:.2} s · T_cpu {:.2} s, {:.3} of what was recorded · bound {:.2} s · {}\n\n\
         | storm | runs (void) | last node, s | / bound | median node, s | / bound | copies | upload / W | stall, s | errors | wrong bytes | busy |\n\
         |---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
        title(one),
        one["origin_rate_mbit"],
        one["trace"].as_str().unwrap_or_default(),
        figure("working_set_bytes") / 1e6,
        figure("link_seconds"),
        figure("own_seconds"),
        figure("pace"),
        figure("bound_seconds"),
        one["machine"].as_str().unwrap_or_default(),
    );
    let storms = storms(one);
    for storm in storms {
        let _ = writeln!(text, "{}", row(storm));
    }
    text.push('\n');
    let remarks: String = storms.iter().map(remarks).collect();
    if !remarks.is_empty() {
        text += &remarks;
        text.push('\n');
    }
    if let Some(swarm) = kind(one, "swarm") {
        let goals = GOALS.map(|(what, name, goal)| {
            let is = median(swarm, name);
            let verdict = if is <= goal { "met" } else { "missed" };
            format!("{what} {is:.2}, at most {goal}: {verdict}")
        });
        let _ = writeln!(text, "Goals: {}.", goals.join("; "));
    }
    if let Some(line) = predict::line(one) {
        let _ = writeln!(text, "\n{line}");
    }
    text
}

fn row(storm: &Value) -> String {
    let ranged = |name: &str| {
        let [median, least, most] =
            ["median", "least", "most"].map(|part| storm[name][part].as_f64().unwrap_or(f64::NAN));
        match least < most {
            true => format!("{median:.2} ({least:.2} - {most:.2})"),
            false => format!("{median:.2}"),
        }
    };
    format!(
        "| {} | {} ({}) | {} | {} | {} | {} | {} | {} | {} | {} | {} | {:.0} % |",
        storm["kind"].as_str().unwrap_or_default(),
        storm["runs"],
        storm["void"],
        ranged("last_seconds"),
        ranged("last_over_bound"),
        ranged("median_seconds"),
        ranged("median_over_bound"),
        ranged("origin_copies"),
        ranged("max_upload_over_working_set"),
        ranged("longest_stall_seconds"),
        storm["errors"],
        storm["wrong_bytes"],
        median(storm, "busy") * 100.0
    )
}

/// What a row has no place for.
fn remarks(storm: &Value) -> String {
    let name = storm["kind"].as_str().unwrap_or_default();
    let mut text = String::new();
    if storm["runs"] == storm["void"] {
        let _ = writeln!(
            text,
            "* {name}: VOID, the processors were busy in every run."
        );
    }
    if let Some(seconds) = storm["slow_node_seconds"].as_f64() {
        let _ = writeln!(
            text,
            "* {name}: the slow node's own guest, which the row leaves out: {seconds:.1} s."
        );
    }
    if let Some(trouble) = storm["first_trouble"].as_str() {
        let _ = writeln!(text, "* {name}: {}", trouble.replace('\n', " "));
    }
    if let Some(noticed @ 1..) = storm["wrong_answers_noticed"].as_u64() {
        let _ = writeln!(text, "* {name}: rot was noticed {noticed} times.");
    }
    text
}

fn title(one: &Value) -> String {
    format!("{} nodes at {} Mbit/s", one["nodes"], one["rate_mbit"])
}

fn storms(one: &Value) -> &[Value] {
    one["storms"].as_array().map_or(&[], Vec::as_slice)
}

fn kind<'a>(one: &'a Value, kind: &str) -> Option<&'a Value> {
    storms(one).iter().find(|storm| storm["kind"] == kind)
}

fn spread(storm: &Value, name: &str) -> Option<Spread> {
    let part = |part: &str| storm[name][part].as_f64();
    Some(Spread {
        median: part("median")?,
        least: part("least")?,
        most: part("most")?,
    })
}

fn times(all: &[Value]) -> Vec<Group> {
    const BARS: [(&str, &str, &str); 4] = [
        ("swarm", "last_over_bound", "swarm, last node"),
        ("swarm", "median_over_bound", "swarm, median node"),
        ("alone", "last_over_bound", "one node alone"),
        ("star", "last_over_bound", "star, last node"),
    ];
    let bar = |one: &Value, (storm, name, title): (&str, &str, &'static str)| {
        let value = spread(kind(one, storm)?, name)?;
        Some(Bar { title, value })
    };
    let group = |one: &Value| Group {
        title: title(one),
        bars: BARS.into_iter().filter_map(|of| bar(one, of)).collect(),
    };
    all.iter().map(group).collect()
}

fn stalls(all: &[Value]) -> Vec<Group> {
    const BARS: [(&str, &str); 6] = [
        ("swarm", "nothing goes wrong"),
        ("kill", "one node in ten loses power"),
        ("restart-origin", "the origin is away for 5 s"),
        ("partition", "half are cut off for 10 s"),
        ("corrupt", "a node's cache rots"),
        ("slow", "a node has a tenth of the rate"),
    ];
    let bar = |one: &Value, (storm, title): (&str, &'static str)| {
        let value = spread(kind(one, storm)?, "longest_stall_seconds")?;
        Some(Bar { title, value })
    };
    let group = |one: &Value| Group {
        title: title(one),
        bars: BARS.into_iter().filter_map(|of| bar(one, of)).collect(),
    };
    all.iter().map(group).collect()
}

/// On what it was measured.
fn machine(repo: &Repo) -> Result<Value> {
    let say = |program: &str, args: &[&str]| -> Result<String> {
        let mut command: Command = repo.command(program);
        let said = bounded::succeed(command.args(args), LIMIT)?;
        Ok(said.text().trim().to_owned())
    };
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    Ok(json!(format!(
        "{} cores, Linux {}, commit {}, {}",
        std::thread::available_parallelism()?,
        kernel.trim(),
        say("git", &["rev-parse", "--short=12", "HEAD"])?,
        say("date", &["-u", "+%F"])?
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn storm(kind: &str, last: f64) -> Value {
        let one = |value: f64| json!({ "median": value, "least": value, "most": value });
        json!({
            "kind": kind, "runs": 1, "void": 0, "errors": 0, "wrong_bytes": 0, "wrong_answers_noticed": 0,
            "first_trouble": null, "slow_node_seconds": null, "busy": one(0.5),
            "last_seconds": one(last), "last_over_bound": one(last / 2.0),
            "median_seconds": one(last), "median_over_bound": one(last / 2.0),
            "origin_copies": one(1.0), "max_upload_over_working_set": one(1.0), "longest_stall_seconds": one(0.1),
        })
    }

    fn told(nodes: u64, storms: &[Value]) -> Value {
        json!({ "nodes": nodes, "rate_mbit": 80, "trace": "a", "spread_seconds": 0.0, "storms": storms })
    }

    #[test]
    fn later_figures_replace_those_of_their_kind_only() {
        let mut all = Vec::new();
        merge(
            &mut all,
            told(16, &[storm("swarm", 9.0), storm("star", 30.0)]),
        );
        merge(&mut all, told(4, &[storm("swarm", 7.0)]));
        merge(
            &mut all,
            told(16, &[storm("swarm", 8.0), storm("kill", 10.0)]),
        );
        let nodes: Vec<_> = all.iter().map(|one| one["nodes"].clone()).collect();
        assert_eq!(nodes, [4, 16]);
        let kinds: Vec<_> = storms(&all[1]).iter().map(|one| &one["kind"]).collect();
        assert_eq!(kinds, ["star", "swarm", "kill"]);
        assert_eq!(median(kind(&all[1], "swarm").unwrap(), "last_seconds"), 8.0);
    }

    #[test]
    fn the_page_has_a_row_for_each_storm_and_keeps_its_notes() {
        let all = [told(16, &[storm("swarm", 2.5), storm("kill", 4.0)])];
        let old = format!("{BEGIN}Kept.\n{END}");
        let page = page(&old, &all);
        assert!(page.contains("Kept.\n<!-- end notes -->"));
        assert!(page.contains("\n## 16 nodes at 80 Mbit/s\n"));
        assert!(page.contains("| swarm | 1 (0) | 2.50 | 1.25 |"));
        assert!(page.contains("| kill | 1 (0) | 4.00 | 2.00 |"));
        assert!(page.contains("last node over the bound 1.25, at most 1.5: met"));
        assert_eq!(times(&all)[0].bars.len(), 2);
        assert_eq!(stalls(&all)[0].bars.len(), 2);
    }
}
