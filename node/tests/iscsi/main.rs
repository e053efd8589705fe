//! `vmthunder iscsi`, as scripts call it: what it prints, what it does, and what it exits with.
#![allow(clippy::unwrap_used, reason = "what a test cannot set up must end it")]

#[path = "../harness/mod.rs"]
mod harness;

mod ask;
mod bench;
mod copy;
mod loss;
mod outcome;
mod replay;
mod stall;
mod transfer;

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use harness::{PATIENCE, run};

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

/// The URL of the same unit through another portal.
fn through(url: &str, portal: SocketAddr) -> String {
    let rest = url.strip_prefix("iscsi://").unwrap();
    format!("iscsi://{portal}/{}", rest.split_once('/').unwrap().1)
}

/// Where the portal of a URL listens.
fn address(url: &str) -> &str {
    let rest = url.strip_prefix("iscsi://").unwrap();
    rest.split_once('/').unwrap().0
}

/// Begins a command; what it prints is kept for who waits for its end.
fn begin(args: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_vmthunder"))
        .arg("iscsi")
        .args(args)
        .env_remove("RUST_LOG")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Waits for the end of a command: its exit code, standard output and standard error.
fn end(child: Child) -> (Option<i32>, String, String) {
    let (done, waited) = std::sync::mpsc::channel();
    std::thread::spawn(move || done.send(child.wait_with_output()));
    let output = waited.recv_timeout(PATIENCE).expect("an end").unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

/// Sends SIGINT.
fn interrupt(child: &Child) {
    let id = i32::try_from(child.id()).unwrap();
    let id = rustix::process::Pid::from_raw(id).unwrap();
    rustix::process::kill_process(id, rustix::process::Signal::INT).unwrap();
}

/// Waits until it is so.
fn until(what: &str, so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The URL of a target's portal.
fn portal(url: &str) -> String {
    url.rsplitn(3, '/').last().unwrap().to_owned()
}

/// The URL of a target without the unit.
fn target(url: &str) -> String {
    url.rsplit_once('/').unwrap().0.to_owned()
}
