//! Step `doc`.

use std::time::Duration;

use anyhow::Result;

use crate::bounded;
use crate::repo::Repo;
use crate::step::Step;
use crate::tally::Tally;

pub(crate) const STEP: Step = Step {
    name: "doc",
    question: "does the documentation build, with no dead link?",
    run,
};

fn run(repo: &Repo) -> Result<Tally> {
    let mut doc = repo.cargo([
        "doc",
        "--quiet",
        "--no-deps",
        "--workspace",
        "--document-private-items",
    ]);
    doc.env("RUSTDOCFLAGS", "-D warnings");
    bounded::show(&mut doc, Duration::from_secs(600))?;
    Ok(Tally::default())
}
