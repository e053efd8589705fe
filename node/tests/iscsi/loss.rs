//! Targets that go away in the middle, lose what they acknowledged, fall silent, or change.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::Value;

use crate::harness::{EXTENT, Running, Scene, free_address, succeed};
use crate::{address, begin, end, fails, interrupt, json, stall, through, until};

const MIB: usize = 1 << 20;

/// What a journal says is done.
fn noted(journal: &Path) -> u64 {
    let text = std::fs::read_to_string(journal).unwrap_or_default();
    let journal: Value = serde_json::from_str(&text).unwrap_or_default();
    journal["done"].as_u64().unwrap_or_default()
}

/// True if a file holds something else than zeros there.
fn holds(file: &File, at: u64) -> bool {
    let mut bytes = [0; 64];
    file.read_exact_at(&mut bytes, at).is_ok() && bytes != [0; 64]
}

/// A file of zeros that loses what is behind a byte, as a disk does whose cache had no time.
fn lose(file: &File, from: u64) {
    let bytes = file.metadata().unwrap().len();
    file.set_len(from).unwrap();
    file.set_len(bytes).unwrap();
}

/// SBC-3 §4.15: what was acknowledged and not flushed is gone when the target loses power.
#[test]
fn a_copy_writes_again_what_the_destination_lost() {
    let scene = Scene::new();
    let image = scene.image("a.raw", 48 * MIB / EXTENT);
    let lossy = File::create(scene.path("b.raw")).unwrap();
    lossy.set_len(48 * MIB as u64).unwrap();
    let lossy = File::options()
        .read(true)
        .write(true)
        .open(scene.path("b.raw"));
    let lossy = lossy.unwrap();
    let (_source, from) = Running::target(&[&scene.arg("a.raw")]);
    let slow = stall::slow(address(&from), Duration::from_millis(5));
    let (listen, b) = (free_address().to_string(), scene.arg("b.raw"));
    let serve = ["target", "--listen", &listen, &b];
    let destination = Running::spawn(&serve);
    let to = destination.url();
    let journal = scene.path("journal");
    let (from, noting) = (through(&from, slow), journal.display().to_string());
    let copy = begin(&[
        "copy",
        &from,
        &to,
        "--yes",
        "--json",
        "--depth",
        "4",
        "--journal",
        &noting,
    ]);
    until("a first note", || noted(&journal) > 0);
    // At most four pieces are under way: those before are acknowledged.
    let ahead = noted(&journal) + 8 * MIB as u64;
    until("more than is noted", || holds(&lossy, ahead));
    destination.kill();
    // A note that was under way is there then.
    std::thread::sleep(Duration::from_millis(300));
    lose(&lossy, noted(&journal));
    let _destination = Running::spawn(&serve);
    let (code, told, said) = end(copy);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        std::fs::read(scene.path("b.raw")).unwrap() == image,
        "{said}"
    );
    let told: Value = serde_json::from_str(&told).unwrap();
    assert!(told["cache_losses"].as_u64() >= Some(1), "{told}");
    assert!(said.contains("written again from"), "{said}");
}

#[test]
fn a_write_that_was_lost_is_no_success() {
    let scene = Scene::new();
    let file = File::create(scene.path("b.raw")).unwrap();
    file.set_len(16 * MIB as u64).unwrap();
    let file = File::open(scene.path("b.raw")).unwrap();
    let (listen, b) = (free_address().to_string(), scene.arg("b.raw"));
    let serve = ["target", "--listen", &listen, &b];
    let target = Running::spawn(&serve);
    let mut write = begin(&["write", &target.url(), "--json"]);
    let mut input = write.stdin.take().unwrap();
    input.write_all(&vec![7; 4 * MIB]).unwrap();
    until("all of it", || {
        (0..4).all(|part| holds(&file, part * MIB as u64))
    });
    // Time to acknowledge it.
    std::thread::sleep(Duration::from_millis(300));
    target.kill();
    let _target = Running::spawn(&serve);
    input.write_all(&vec![8; MIB]).unwrap();
    drop(input);
    let (code, told, said) = end(write);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("may be lost"), "{said}");
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["kind"], "cache-lost");
    assert!(told["error"].as_str().unwrap().contains("may be lost"));
}

#[test]
fn patience_ends_when_it_is_said_to_and_what_is_waited_for_is_told() {
    for (outage, waits) in [("fail", false), ("7s", true)] {
        let scene = Scene::new();
        let file = File::create(scene.path("b.raw")).unwrap();
        file.set_len(16 * MIB as u64).unwrap();
        let file = File::open(scene.path("b.raw")).unwrap();
        let (target, url) = Running::target(&[&scene.arg("b.raw")]);
        let mut write = begin(&["write", &url, "--json", "--outage", outage]);
        let mut input = write.stdin.take().unwrap();
        input.write_all(&vec![7; MIB]).unwrap();
        until("the first part", || holds(&file, 0));
        target.kill();
        // It may have ended already.
        let _ = input.write_all(&vec![8; MIB]);
        drop(input);
        let (code, told, said) = end(write);
        assert_eq!(code, Some(2), "{said}");
        let told: Value = serde_json::from_str(&told).unwrap();
        let kind = told["kind"].as_str().unwrap();
        assert!(["unreachable", "in-doubt"].contains(&kind), "{told}");
        assert_eq!(said.contains("waiting for iscsi://"), waits, "{said}");
    }
}

#[test]
fn what_a_silent_target_does_not_answer_is_measured_too() {
    let scene = Scene::new();
    scene.image("a.raw", 32);
    let (_target, url) = Running::target(&[&scene.arg("a.raw")]);
    let silent = through(&url, stall::portal(address(&url), MIB));
    let bench = ["bench", &silent, "--warm-up", "0", "--seconds", "1"];
    let (code, told) = json(&[&bench[..], &["--depth", "8"]].concat());
    assert_eq!(code, Some(2), "{told}");
    assert_eq!(
        (&told["unfinished"], &told["errors"]),
        (&8.into(), &0.into())
    );
    let buckets = told["reads"]["latency_us"]["buckets"].as_array().unwrap();
    let counted: u64 = buckets.iter().map(|one| one["ops"].as_u64().unwrap()).sum();
    assert_eq!(Some(counted), told["ops"].as_u64().map(|ops| ops + 8));
    let last = buckets.last().unwrap();
    assert_eq!(last["ops"], 8, "the longest: {told}");
}

#[test]
fn what_was_measured_until_an_interruption_is_shown() {
    let scene = Scene::new();
    scene.image("a.raw", 32);
    let (_target, url) = Running::target(&[&scene.arg("a.raw")]);
    let (portal, left) = stall::counted(address(&url), MIB, Duration::ZERO);
    let silent = through(&url, portal);
    let bench = [
        "bench",
        &silent,
        "--warm-up",
        "0",
        "--seconds",
        "600",
        "--json",
    ];
    let bench = begin(&bench);
    until("silence", || left.load(Ordering::Relaxed) == 0);
    interrupt(&bench);
    let (code, told, said) = end(bench);
    assert_eq!(code, Some(2), "{said}");
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["ended_by"], "interrupted");
    assert!(told["ops"].as_u64() > Some(0), "{told}");
    assert_eq!(told["unfinished"], 32);
}

/// SBC-3 §4.7.
#[test]
fn a_copy_of_a_unit_that_grows_says_so() {
    let scene = Scene::new();
    scene.image("a.raw", 48 * MIB / EXTENT);
    let control = scene.arg("socket");
    let (_target, url) = Running::target(&["--control", &control, &scene.arg("a.raw")]);
    let slow = stall::slow(address(&url), Duration::from_millis(5));
    let (slow, out) = (through(&url, slow), scene.arg("out"));
    let copy = begin(&["copy", &slow, &out, "--json"]);
    until("a first note", || noted(&scene.path("out.copying")) > 0);
    succeed(&["lun", "resize", "a/0", "64MiB", "--control", &control]);
    let (code, told, said) = end(copy);
    assert_eq!(code, Some(1), "{said}");
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["kind"], "changed");
    let text = format!("was resized from {} bytes to {}", 48 * MIB, 64 * MIB);
    assert!(said.contains(&text) && said.contains("--force"), "{said}");
    // The advice works.
    std::fs::remove_file(scene.path("out.copying")).unwrap();
    fails(2, &["copy", &url, &out]);
    let (code, told) = json(&["copy", &url, &out, "--force", "--verify"]);
    assert_eq!((code, &told["verified"]), (Some(0), &true.into()));
    assert_eq!(told["bytes"], 64 * MIB);
}

#[test]
fn an_interrupted_read_leaves_no_file() {
    let scene = Scene::new();
    scene.image("a.raw", 64);
    let (_target, url) = Running::target(&[&scene.arg("a.raw")]);
    let (portal, left) = stall::counted(address(&url), MIB, Duration::ZERO);
    let folder = scene.path("out");
    std::fs::create_dir(&folder).unwrap();
    let out = folder.join("out").display().to_string();
    let read = begin(&["read", &through(&url, portal), "--output", &out, "--json"]);
    until("silence", || left.load(Ordering::Relaxed) == 0);
    assert_eq!(folder.read_dir().unwrap().count(), 1);
    interrupt(&read);
    let (code, told, said) = end(read);
    assert_eq!(code, Some(2), "{said}");
    assert!(told.contains("\"interrupted\""), "{told}");
    assert_eq!(folder.read_dir().unwrap().count(), 0);
}
