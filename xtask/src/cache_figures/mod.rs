//! `cargo xtask cache-figures`: the tables of docs/cache.md, which the crate `cache` works out.

mod foyer;

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::bounded;
use crate::repo::Repo;
use crate::tally::Tally;

const PAGE: &str = "docs/cache.md";
const TABLES: [&str; 2] = ["policies", "index"];
/// Compiling, and a minute of arithmetic.
const LIMIT: Duration = Duration::from_secs(1200);

/// Prints the tables, or writes them into the page; `beside` foyer, that table alone.
pub(crate) fn run(repo: &Repo, write: bool, beside: bool) -> Result<Tally> {
    let tables = match beside {
        true => vec![("foyer", foyer::table(repo)?)],
        false => computed(repo)?,
    };
    let path = repo.root.join(PAGE);
    let mut page = fs::read_to_string(&path).context(PAGE)?;
    for (name, table) in tables {
        println!("{table}");
        page = with_table(&page, name, &table)?;
    }
    if write {
        fs::write(&path, page).context(PAGE)?;
    }
    Ok(Tally::default())
}

/// The tables that the crate works out.
fn computed(repo: &Repo) -> Result<Vec<(&'static str, String)>> {
    let said = bounded::succeed(&mut figures(repo), LIMIT)?.text();
    let table = |name| {
        let table = between(&said, &format!("BEGIN {name}\n"), &format!("END {name}"))
            .with_context(|| format!("the crate printed no table `{name}`"))?;
        Ok((name, table.to_owned()))
    };
    TABLES.into_iter().map(table).collect()
}

/// The test of the crate that prints the tables.
fn figures(repo: &Repo) -> Command {
    let mut command = repo.cargo(["test", "--quiet", "--package", "vmthunder-cache", "--lib"]);
    command
        .args([
            "--",
            "--ignored",
            "--exact",
            "figures::figures",
            "--nocapture",
        ])
        .env("CARGO_PROFILE_DEV_OPT_LEVEL", "2");
    command
}

fn between<'a>(text: &'a str, begin: &str, end: &str) -> Option<&'a str> {
    let (_, behind) = text.split_once(begin)?;
    behind.split_once(end).map(|(table, _)| table)
}

/// The page with another table between `<!-- begin NAME -->` and `<!-- end NAME -->`.
fn with_table(page: &str, name: &str, table: &str) -> Result<String> {
    let (begin, end) = (
        format!("<!-- begin {name} -->\n"),
        format!("<!-- end {name} -->"),
    );
    let old = between(page, &begin, &end)
        .with_context(|| format!("{PAGE} has no place for the table `{name}`"))?;
    let (before, after) = (format!("{begin}{old}{end}"), format!("{begin}{table}{end}"));
    ensure!(
        page.matches(&before).count() == 1,
        "{PAGE} has two places for `{name}`"
    );
    Ok(page.replace(&before, &after))
}

#[cfg(test)]
mod tests {
    use super::with_table;

    #[test]
    fn a_table_takes_the_place_of_the_old_one() {
        let page = "a\n<!-- begin x -->\n| old |\n<!-- end x -->\nb\n";
        let new = with_table(page, "x", "| new |\n").ok();
        assert_eq!(
            new.as_deref(),
            Some("a\n<!-- begin x -->\n| new |\n<!-- end x -->\nb\n")
        );
        assert!(with_table(page, "y", "").is_err());
    }
}
