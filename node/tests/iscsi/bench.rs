//! `bench`.

use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::harness::{EXTENT, Running, Scene, succeed};
use crate::{fails, json};

#[test]
fn reads_are_counted_and_nothing_is_written() {
    let scene = Scene::new();
    let image = scene.image("a.raw", 32);
    let (_target, url) = Running::target(&[&scene.arg("a.raw")]);
    let (code, told) = json(&[
        "bench",
        &url,
        "--ops",
        "500",
        "--warm-up",
        "0",
        "--sessions",
        "3",
        "--threads",
        "2",
        "--depth",
        "4",
        "--block",
        "8KiB",
    ]);
    assert_eq!(code, Some(0));
    assert_eq!(told["ops"], 500);
    assert_eq!(told["reads"]["ops"], 500);
    assert_eq!(told["writes"]["ops"], 0);
    assert!(told["writes"]["latency_us"].is_null());
    assert_eq!(told["span_bytes"], 32 * EXTENT);
    let latency = &told["reads"]["latency_us"];
    let us = |name: &str| latency[name].as_f64().unwrap();
    assert!(us("min") > 0.0 && us("min") <= us("p50") && us("p99_9") <= us("max"));
    assert!(told["iops"].as_f64().unwrap() > 0.0);
    assert!(told["cpu_seconds_per_100k"].as_f64().unwrap() > 0.0);
    let (_, told) = json(&[
        "bench",
        &url,
        "--seconds",
        "0.2",
        "--warm-up",
        "0.1",
        "--pattern",
        "sequential",
    ]);
    assert!(told["ops"].as_u64().unwrap() > 0);
    let text = succeed(&["iscsi", "bench", &url, "--ops", "50", "--warm-up", "0"]);
    assert!(
        text.contains("p99.9") && text.contains("50 reads and writes"),
        "{text}"
    );
    assert!(std::fs::read(scene.path("a.raw")).unwrap() == image);
}

#[test]
fn writes_want_consent_and_reads_find_a_flipped_bit() {
    let scene = Scene::new();
    let image = scene.image("a.raw", 32);
    let (_target, url) = Running::target(&[&scene.arg("a.raw")]);
    let bench = [
        "bench",
        &url,
        "--ops",
        "400",
        "--warm-up",
        "0",
        "--span",
        "1MiB",
    ];
    let with = |more: &[&'static str]| [&bench[..], more].concat();
    assert!(fails(2, &with(&["--read-percent", "50"])).contains("--destructive"));
    let said = fails(2, &with(&["--read-percent", "50", "--destructive"]));
    assert!(said.contains("no terminal to ask on: say --yes"), "{said}");
    fails(2, &with(&["--yes"]));
    assert!(std::fs::read(scene.path("a.raw")).unwrap() == image);

    // What was there is not what should be.
    let (code, told) = json(&with(&["--verify"]));
    assert_eq!(code, Some(1));
    assert_eq!(told["wrong_reads"], 400);
    let (code, told) = json(&with(&[
        "--verify",
        "--destructive",
        "--yes",
        "--read-percent",
        "50",
    ]));
    assert_eq!((code, &told["wrong_reads"]), (Some(0), &0.into()));
    assert!(told["reads"]["ops"].as_u64() > Some(0) && told["writes"]["ops"].as_u64() > Some(0));
    let now = std::fs::read(scene.path("a.raw")).unwrap();
    assert!(
        now[16 * EXTENT..] == image[16 * EXTENT..],
        "the rest is left alone"
    );
    assert!(now[..16 * EXTENT] != image[..16 * EXTENT]);

    let sequential = with(&["--verify", "--pattern", "sequential"]);
    assert_eq!(json(&sequential).0, Some(0));
    let file = File::options()
        .write(true)
        .open(scene.path("a.raw"))
        .unwrap();
    file.write_all_at(&[now[70_000] ^ 0x10], 70_000).unwrap();
    let (code, told) = json(&sequential);
    assert_eq!(code, Some(1));
    assert_eq!(told["wrong_at"][0], 70_000);
}

#[test]
fn what_cannot_be_measured_is_refused() {
    let scene = Scene::new();
    scene.image("a.raw", 2);
    let (_target, url) = Running::target(&[&scene.arg("a.raw")]);
    for wrong in [
        &["--block", "1000"][..],
        &["--block", "0"],
        &["--block", "32MiB"],
        &["--block", "256KiB"],
        &["--span", "1GiB"],
        &["--span", "100"],
        &["--read-percent", "101"],
        &["--depth", "0"],
        &["--sessions", "1024", "--depth", "65535"],
        &["--seconds", "0"],
        &["--seconds", "NaN"],
    ] {
        let said = fails(2, &[&["bench", &url], wrong].concat());
        assert!(!said.contains("panicked"), "{wrong:?}: {said}");
    }
}
