//! `cargo xtask soak members`: the gossip of a thousand nodes under virtual time, which the crate `swarm` plays.

use std::time::Duration;

use anyhow::Result;

use crate::bounded;
use crate::repo::Repo;

/// Compiling, and a minute of arithmetic.
const LIMIT: Duration = Duration::from_secs(1800);
const TEST: &str =
    "membership::gossip::tests::a_thousand_nodes_find_each_other_and_notice_who_dies";

/// True if all find each other, notice who dies, and give nobody else up.
pub(crate) fn run(repo: &Repo) -> Result<bool> {
    let mut command = repo.cargo(["test", "--quiet", "--package", "vmthunder-swarm", "--lib"]);
    command
        .args(["--", "--ignored", "--exact", TEST, "--nocapture"])
        .env("CARGO_PROFILE_DEV_OPT_LEVEL", "2");
    let ran = bounded::output(&mut command, LIMIT)?;
    print!("{}", ran.text());
    let is_sound = ran.status.success() && ran.text().contains("1 passed");
    if !is_sound {
        eprint!("{}", ran.stderr);
    }
    Ok(is_sound)
}
