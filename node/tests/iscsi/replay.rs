//! `replay`.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use crate::harness::{Running, Scene};
use crate::{fails, json};

/// Two extents are read, of one of them a part that was written before, and a place that is written afterwards.
const TRACE: &str = "t_us,op,lba,blocks\n\
    0,R,0,64\n\
    1000,W,130,4\n\
    2000,R,128,8\n\
    3000,W,0,1\n";

/// A disk, a copy of it that is served, and a trace.
fn scene() -> (Scene, Running, String) {
    let scene = Scene::new();
    scene.image("disk.raw", 4);
    std::fs::copy(scene.path("disk.raw"), scene.path("served.raw")).unwrap();
    std::fs::write(scene.path("boot.csv"), TRACE).unwrap();
    let (target, url) = Running::target(&[&scene.arg("served.raw")]);
    (scene, target, url)
}

#[test]
fn every_byte_is_compared_and_nothing_is_written_unasked() {
    let (scene, _target, url) = scene();
    let (trace, image) = (scene.arg("boot.csv"), scene.arg("disk.raw"));
    let replay = ["replay", &url, "--trace", &trace, "--image", &image];
    let (code, told) = json(&replay);
    assert_eq!(code, Some(0), "{told}");
    assert_eq!((&told["reads"], &told["writes"]), (&2.into(), &0.into()));
    assert_eq!(told["read_bytes"], 72 * 512);
    assert_eq!(
        (&told["wrong_bytes"], &told["errors"]),
        (&0.into(), &0.into())
    );
    let original = std::fs::read(scene.path("disk.raw")).unwrap();
    assert!(std::fs::read(scene.path("served.raw")).unwrap() == original);

    let mut other = original;
    other[130 * 512] ^= 1;
    std::fs::write(scene.path("disk.raw"), other).unwrap();
    let (code, told) = json(&replay);
    assert_eq!((code, &told["wrong_bytes"]), (Some(1), &1.into()));
    assert!(told["first_trouble"].as_str().unwrap().contains("1 bytes"));
}

#[test]
fn writes_want_consent_and_reads_must_find_them() {
    let (scene, _target, url) = scene();
    let (trace, image) = (scene.arg("boot.csv"), scene.arg("disk.raw"));
    let replay = ["replay", &url, "--trace", &trace, "--image", &image];
    let said = fails(2, &[&replay[..], &["--destructive"]].concat());
    assert!(said.contains("no terminal to ask on: say --yes"), "{said}");
    let paced = ["--destructive", "--yes", "--pace", "10"];
    let (code, told) = json(&[&replay[..], &paced].concat());
    assert_eq!((code, &told["writes"]), (Some(0), &2.into()), "{told}");
    assert_eq!(told["own_seconds"], 0.03);
    let (was, is) = (
        std::fs::read(scene.path("disk.raw")).unwrap(),
        std::fs::read(scene.path("served.raw")).unwrap(),
    );
    let changed = (0..was.len() / 512).filter(|block| {
        let block = block * 512..(block + 1) * 512;
        was[block.clone()] != is[block]
    });
    assert_eq!(changed.collect::<Vec<_>>(), [0, 130, 131, 132, 133]);
    // Block 0 is no longer what the image says, and is read before this replay writes it; the others are read afterwards.
    let (code, told) = json(&[&replay[..], &["--destructive", "--yes"]].concat());
    let wrong = told["wrong_bytes"].as_u64().unwrap();
    assert_eq!(code, Some(1), "{told}");
    assert!((1..=512).contains(&wrong), "{told}");
}

#[test]
fn a_trace_of_another_disk_is_refused() {
    let (scene, _target, url) = scene();
    let trace = scene.arg("far.csv");
    std::fs::write(&trace, "t_us,op,lba,blocks\n0,R,0,1\n5,W,512,1\n").unwrap();
    let said = fails(2, &["replay", &url, "--trace", &trace]);
    assert!(said.contains("it is of another disk"), "{said}");
    let image = scene.arg("disk.raw");
    std::fs::write(&trace, "t_us,op,lba,blocks\n0,R,512,1\n").unwrap();
    let said = fails(2, &["replay", &url, "--trace", &trace, "--image", &image]);
    assert!(said.contains("has 262144 bytes"), "{said}");
}

#[test]
fn whoever_waits_logs_in_when_told_to() {
    let (scene, target, url) = scene();
    let mut child = Command::new(env!("CARGO_BIN_EXE_vmthunder"))
        .args(["iscsi", "replay", &url, "--wait", "--json"])
        .args(["--trace", &scene.arg("boot.csv")])
        .env_remove("RUST_LOG")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "\"ready\"");
    // Nobody is logged in yet, so nobody notices.
    target.stop();
    child.stdin.take().unwrap().write_all(b"boot\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot log in"));
    let failed = lines.next().unwrap().unwrap();
    let failed: serde_json::Value = serde_json::from_str(&failed).unwrap();
    assert_eq!(failed["kind"], "unreachable");
    assert!(lines.next().is_none());
}
