//! Step `tidy`: the tests of this program, among them the house rules in `tests/tidy.rs`.

use anyhow::Result;

use crate::repo::Repo;
use crate::step::Step;
use crate::tally::Tally;
use crate::unit;

pub(crate) const STEP: Step = Step {
    name: "tidy",
    question: "are the house rules kept?",
    run,
};

fn run(repo: &Repo) -> Result<Tally> {
    unit::cargo_test(&mut repo.cargo(["test", "--quiet", "--no-fail-fast", "-p", "xtask"]))
}
