//! Step `clippy`.

use std::time::Duration;

use anyhow::Result;

use crate::bounded;
use crate::repo::Repo;
use crate::step::Step;
use crate::tally::Tally;

pub(crate) const STEP: Step = Step {
    name: "clippy",
    question: "does no lint object?",
    run,
};

fn run(repo: &Repo) -> Result<Tally> {
    let args = [
        "clippy",
        "--quiet",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ];
    bounded::show(&mut repo.cargo(args), Duration::from_secs(900))?;
    Ok(Tally::default())
}
