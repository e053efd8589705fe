//! `vmthunder iscsi`, as scripts call it: what it prints, what it does, and what it exits with.
#![allow(clippy::unwrap_used, reason = "what a test cannot set up must end it")]

#[path = "../harness/mod.rs"]
mod harness;

mod ask;
mod bench;
mod copy;
mod replay;
mod stall;
mod transfer;

use serde_json::Value;

use harness::run;

/// Runs a command with `--json`; its exit code and the one value that it printed.
fn json(args: &[&str]) -> (Option<i32>, Value) {
    let output = run(&[&["iscsi"], args, &["--json"]].concat());
    let errors = String::from_utf8_lossy(&output.stderr);
    let value = serde_json::from_slice(&output.stdout);
    let value = value.unwrap_or_else(|error| panic!("{args:?}: {error}: {errors}"));
    (output.status.code(), value)
}

/// Runs a command that must end with this code; what it says on standard error.
fn fails(code: i32, args: &[&str]) -> String {
    let output = run(&[&["iscsi"], args].concat());
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {errors}");
    errors
}

/// The URL of a target's portal.
fn portal(url: &str) -> String {
    url.rsplitn(3, '/').last().unwrap().to_owned()
}

/// The URL of a target without the unit.
fn target(url: &str) -> String {
    url.rsplit_once('/').unwrap().0.to_owned()
}
