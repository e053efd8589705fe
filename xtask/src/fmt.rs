//! Step `fmt`.

use std::time::Duration;

use anyhow::Result;

use crate::bounded;
use crate::repo::Repo;
use crate::step::Step;
use crate::tally::Tally;

pub(crate) const STEP: Step = Step {
    name: "fmt",
    question: "is every file formatted?",
    run,
};

fn run(repo: &Repo) -> Result<Tally> {
    bounded::show(
        &mut repo.cargo(["fmt", "--all", "--check"]),
        Duration::from_secs(120),
    )?;
    Ok(Tally::default())
}
