//! `read`, `write` and `trim`.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::json as value;

use crate::harness::{EXTENT, Running, Scene, run, succeed};
use crate::{fails, json};

/// Runs `iscsi write` with this input; its exit code, and what it says on standard error.
fn write(args: &[&str], input: &[u8]) -> (Option<i32>, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_vmthunder"))
        .args(["iscsi", "write"])
        .args(args)
        .env_remove("RUST_LOG")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may refuse before it has read all.
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), errors)
}

#[test]
fn blocks_and_bytes_name_the_same_places() {
    let scene = Scene::new();
    let image = scene.image("a.raw", 40);
    let (_target, url) = Running::target(&[&scene.arg("a.raw")]);
    for args in [
        ["--lba", "8", "--blocks", "5000"],
        ["--offset", "4KiB", "--length", "2500KiB"],
        ["--lba", "8", "--length", "2560000"],
    ] {
        let read = run(&[&["iscsi", "read", &url], &args[..]].concat());
        assert!(read.status.success());
        assert!(read.stdout == image[4096..4096 + 2_560_000], "{args:?}");
    }
    let out = scene.arg("out");
    let args = [
        "read", &url, "--offset", "64KiB", "--length", "1MiB", "--output", &out,
    ];
    let (code, told) = json(&args);
    assert_eq!(
        (code, told),
        (Some(0), value!({"offset": 65_536, "bytes": 1_048_576}))
    );
    assert!(std::fs::read(&out).unwrap() == image[EXTENT..17 * EXTENT]);
    fails(2, &args);
    for (code, wrong) in [
        (2, &["--offset", "100"][..]),
        (2, &["--length", "1000"]),
        (1, &["--lba", "5121"]),
        (1, &["--lba", "5119", "--blocks", "2"]),
        (1, &["--blocks", "18446744073709551615"]),
        (2, &["--offset", "8EiB"]),
        (2, &["--lba", "1", "--offset", "512"]),
        (2, &["--json"]),
    ] {
        let said = fails(code, &[&["read", &url], wrong].concat());
        assert!(!said.contains("panicked"), "{wrong:?}: {said}");
    }
}

#[test]
fn what_is_written_is_read_back_and_nothing_is_written_in_part() {
    let scene = Scene::new();
    let mut image = scene.image("a.raw", 40);
    let (_target, url) = Running::target(&[&scene.arg("a.raw")]);
    let input = scene.image("input", 20);
    let (code, told) = json(&[
        "write",
        &url,
        "--offset",
        "64KiB",
        "--input",
        &scene.arg("input"),
        "--verify",
    ]);
    assert_eq!(code, Some(0));
    let should =
        value!({"offset": 65_536, "bytes": 20 * EXTENT, "verified": true, "differing": []});
    assert_eq!(told, should);
    image[EXTENT..21 * EXTENT].copy_from_slice(&input);
    let now = || std::fs::read(scene.path("a.raw")).unwrap();
    assert!(now() == image);

    let block = [7; 1024];
    assert_eq!(write(&[&url, "--lba", "2"], &block).0, Some(0));
    image[1024..2048].copy_from_slice(&block);
    assert_eq!(write(&[&url, "--blocks", "1"], &block).0, Some(0));
    image[..512].copy_from_slice(&block[..512]);
    assert!(now() == image, "no more than --blocks is taken");

    let (code, said) = write(&[&url, "--lba", "4"], &[1; 100]);
    assert_eq!(code, Some(2));
    assert!(
        said.contains("not a whole number of blocks of 512"),
        "{said}"
    );
    let (code, said) = write(&[&url, "--lba", "5119"], &[7; 1024]);
    assert_eq!(code, Some(2));
    assert!(said.contains("longer than the room"), "{said}");
    image[5119 * 512..].copy_from_slice(&block[..512]);
    assert!(now() == image);
    std::fs::write(scene.path("input"), [1; 700]).unwrap();
    fails(2, &["write", &url, "--input", &scene.arg("input")]);
    scene.image("large", 41);
    let said = fails(2, &["write", &url, "--input", &scene.arg("large")]);
    assert!(said.contains("has room for"), "{said}");
    assert!(now() == image);
}

#[test]
fn a_write_protected_unit_says_so() {
    let scene = Scene::new();
    let image = scene.image("a.raw", 1);
    let (_target, url) = Running::target(&["--read-only", &scene.arg("a.raw")]);
    let input = scene.arg("a.raw");
    for args in [
        &["write", &url, "--input", &input][..],
        &["trim", &url, "--all", "--yes"],
        &[
            "bench",
            &url,
            "--read-percent",
            "0",
            "--destructive",
            "--yes",
        ],
    ] {
        let said = fails(1, args);
        assert!(
            said.contains("the unit is write-protected"),
            "{args:?}: {said}"
        );
    }
    assert!(std::fs::read(scene.path("a.raw")).unwrap() == image);
}

#[test]
fn space_is_given_back_to_who_means_it() {
    let scene = Scene::new();
    let mut image = scene.image("a.raw", 4);
    let (_target, url) = Running::target(&[&scene.arg("a.raw")]);
    let trim = ["trim", &url, "--offset", "64KiB", "--length", "64KiB"];
    let said = fails(2, &trim);
    assert!(said.contains("no terminal to ask on: say --yes"), "{said}");
    assert!(fails(2, &["trim", &url, "--yes"]).contains("--all"));
    assert!(std::fs::read(scene.path("a.raw")).unwrap() == image);
    let (code, told) = json(&[&trim[..], &["--yes"]].concat());
    assert_eq!(
        (code, told),
        (Some(0), value!({"offset": EXTENT, "bytes": EXTENT}))
    );
    image[EXTENT..2 * EXTENT].fill(0);
    assert!(std::fs::read(scene.path("a.raw")).unwrap() == image);
    succeed(&["iscsi", "trim", &url, "--all", "--yes"]);
    let now = std::fs::read(scene.path("a.raw")).unwrap();
    assert!(now.len() == image.len() && now.iter().all(|byte| *byte == 0));

    // A disk that takes its space at once has none to give back.
    let full = format!("{},full", scene.arg("full.raw"));
    let (_target, url) = Running::target(&["--size", "64KiB", &full]);
    let said = fails(1, &["trim", &url, "--all", "--yes"]);
    assert!(said.contains("no UNMAP"), "{said}");
}
