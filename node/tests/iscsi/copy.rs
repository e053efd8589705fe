//! `copy`: whole, in pieces, over what is there, and compared.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json as value;

use crate::harness::{EXTENT, PATIENCE, Running, Scene, free_address, run, succeed};
use crate::{fails, json, stall};

const MIB: usize = 1 << 20;

/// An image of so many MiB with content in the first and the last quarter, and one byte between.
fn holey(scene: &Scene, name: &str, mib: usize) -> Vec<u8> {
    let mut image = scene.image(name, mib * MIB / EXTENT);
    let length = image.len();
    image[length / 4..length / 4 * 3].fill(0);
    image[length / 2 + 5] = 1;
    std::fs::remove_file(scene.path(name)).unwrap();
    let file = File::create(scene.path(name)).unwrap();
    file.set_len(length as u64).unwrap();
    for part in [0..length / 4, length / 4 * 3..length] {
        file.write_all_at(&image[part.clone()], part.start as u64)
            .unwrap();
    }
    file.write_all_at(&[1], length as u64 / 2 + 5).unwrap();
    image
}

/// Bytes that a file takes on its disk.
fn space(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().blocks() * 512
}

#[test]
fn a_copy_holds_the_same_and_takes_no_more_space() {
    let scene = Scene::new();
    let image = holey(&scene, "a.raw", 32);
    // A disk that takes all its space tells nothing about holes: they are found in what is read.
    let full = format!("{},full,lun=1", scene.arg("full.raw"));
    std::fs::write(scene.path("full.raw"), &image).unwrap();
    let (target, url) = Running::target(&[&scene.arg("a.raw"), &full]);
    for (source, name) in [(&url, "copy"), (&target.url(), "other")] {
        let copy = scene.arg(name);
        let (code, told) = json(&["copy", source, &copy, "--verify", "--depth", "3"]);
        assert_eq!(code, Some(0));
        assert_eq!(told["bytes"], 32 * MIB);
        assert_eq!(told["stored_bytes"], 16 * MIB + EXTENT);
        assert_eq!(told["zero_bytes"], 16 * MIB - EXTENT);
        assert_eq!(told["verified"], true);
        assert_eq!(told["resumed_at"], 0);
        assert!(std::fs::read(&copy).unwrap() == image);
        assert!(space(Path::new(&copy)) <= 17 * MIB as u64);
        assert!(!scene.path(&format!("{name}.copying")).exists());
    }
}

#[test]
fn nothing_is_overwritten_by_mistake() {
    let scene = Scene::new();
    let image = holey(&scene, "a.raw", 4);
    scene.image("b.raw", 6 * MIB / EXTENT);
    let b = format!("{},lun=1", scene.arg("b.raw"));
    let (target, url) = Running::target(&[&scene.arg("a.raw"), &b]);
    let copy = scene.arg("copy");
    let before = scene.image("copy", 80);
    let said = fails(2, &["copy", &url, &copy]);
    assert!(said.contains("is there already; --force"), "{said}");
    fails(2, &["copy", &url, &copy, "--resume"]);
    assert!(std::fs::read(&copy).unwrap() == before);
    succeed(&["iscsi", "copy", &url, &copy, "--force", "--verify"]);
    assert!(
        std::fs::read(&copy).unwrap() == image,
        "nothing is left of what was there"
    );

    let other = target.url();
    let said = fails(2, &["copy", &copy, &other]);
    assert!(said.contains("no terminal to ask on: say --yes"), "{said}");
    let said = fails(2, &["copy", &url, &url, "--yes"]);
    assert!(said.contains("the same unit"), "{said}");
    let said = fails(2, &["copy", &other, &url, "--yes"]);
    assert!(said.contains("only room for"), "{said}");
    fails(2, &["copy", &copy, &scene.arg("elsewhere")]);
    std::fs::write(scene.path("odd"), [1; 1000]).unwrap();
    let said = fails(2, &["copy", &scene.arg("odd"), &other, "--yes"]);
    assert!(said.contains("not a whole number of blocks"), "{said}");
    let unchanged = scene.image("expected", 6 * MIB / EXTENT).len();
    assert_eq!(std::fs::read(scene.path("b.raw")).unwrap().len(), unchanged);
}

#[test]
fn a_unit_is_overwritten_from_a_file_and_from_a_unit_zeros_included() {
    let scene = Scene::new();
    let image = holey(&scene, "a.raw", 4);
    let before = scene.image("b.raw", 5 * MIB / EXTENT);
    let b = format!("{},lun=1", scene.arg("b.raw"));
    let (target, url) = Running::target(&[&scene.arg("a.raw"), &b]);
    let other = target.url();
    let copy = scene.arg("copy");
    std::fs::write(&copy, &image).unwrap();
    for source in [&copy, &url] {
        std::fs::write(scene.path("b.raw"), &before).unwrap();
        let (code, told) = json(&["copy", source, &other, "--yes", "--verify"]);
        assert_eq!((code, &told["verified"]), (Some(0), &value!(true)));
        let now = std::fs::read(scene.path("b.raw")).unwrap();
        assert!(now[..4 * MIB] == image, "{source}");
        assert!(now[4 * MIB..] == before[4 * MIB..], "{source}");
    }
    assert!(!scene.path("copy.copying").exists());
}

/// A copy through a portal that falls silent, killed when its journal tells that something is done.
fn killed_in_the_middle(scene: &Scene, url: &str, args: &[&str], journal: &str) {
    let place = url.strip_prefix("iscsi://").unwrap();
    let (address, rest) = place.split_once('/').unwrap();
    let slow = stall::portal(address, 40 * MIB);
    let slow = format!("iscsi://{slow}/{rest}");
    let args: Vec<_> = args
        .iter()
        .map(|arg| if *arg == url { &slow } else { *arg })
        .collect();
    let child = Command::new(env!("CARGO_BIN_EXE_vmthunder"))
        .args(["iscsi", "copy", "--depth", "4"])
        .args(args)
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut child = Killed(child);
    let begun = Instant::now();
    loop {
        let noted = std::fs::read_to_string(scene.path(journal)).unwrap_or_default();
        if noted.contains("\"done\"") && !noted.contains("\"done\": 0\n") {
            break;
        }
        assert!(child.0.try_wait().unwrap().is_none(), "it ended: {noted}");
        assert!(begun.elapsed() < PATIENCE, "nothing was noted: {noted}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Ends with SIGKILL, whatever becomes of the test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_copy_that_was_killed_goes_on_where_it_was() {
    let scene = Scene::new();
    let image = scene.image("a.raw", 64 * MIB / EXTENT);
    let (_target, url) = Running::target(&[&scene.arg("a.raw")]);
    let copy = scene.arg("copy");
    killed_in_the_middle(&scene, &url, &[&url, &copy], "copy.copying");

    let said = fails(2, &["copy", &url, &copy]);
    assert!(said.contains("--resume goes on"), "{said}");
    // Whoever changed what was copied already is found out.
    let file = File::options().read(true).write(true).open(&copy).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 4711).unwrap();
    file.write_all_at(&[byte[0] ^ 1], 4711).unwrap();
    let (code, told) = json(&["copy", &url, &copy, "--resume", "--verify"]);
    assert_eq!(code, Some(1));
    assert_eq!(told["verified"], false);
    assert_eq!(told["differing"], value!([{"offset": 4711, "bytes": 1}]));
    let resumed_at = told["resumed_at"].as_u64().unwrap();
    assert!(
        resumed_at >= MIB as u64 && resumed_at < 41 * MIB as u64,
        "{told}"
    );
    assert_eq!(told["stored_bytes"], 64 * MIB as u64 - resumed_at);
    file.write_all_at(&byte, 4711).unwrap();
    assert!(std::fs::read(&copy).unwrap() == image);
    assert!(!scene.path("copy.copying").exists());
}

#[test]
fn a_copy_goes_on_between_the_same_two_alone() {
    let scene = Scene::new();
    let mut image = scene.image("a.raw", 64 * MIB / EXTENT);
    scene.image("b.raw", 64 * MIB / EXTENT);
    let b = format!("{},lun=1", scene.arg("b.raw"));
    let (target, url) = Running::target(&[&scene.arg("a.raw"), &b]);
    let copy = scene.arg("copy");
    killed_in_the_middle(&scene, &url, &[&url, &copy], "copy.copying");
    let said = fails(2, &["copy", &target.url(), &copy, "--resume"]);
    assert!(said.contains("the source is not the one"), "{said}");

    // What was zeroed at the source meanwhile may have been copied behind what was noted.
    File::options()
        .write(true)
        .open(scene.path("a.raw"))
        .unwrap()
        .write_all_at(&vec![0; 24 * MIB], 40 * MIB as u64)
        .unwrap();
    image[40 * MIB..].fill(0);
    File::options()
        .write(true)
        .open(&copy)
        .unwrap()
        .write_all_at(&[9; 4096], 60 * MIB as u64)
        .unwrap();
    succeed(&["iscsi", "copy", &url, &copy, "--resume", "--verify"]);
    assert!(std::fs::read(&copy).unwrap() == image);
}

#[test]
fn a_copy_from_unit_to_unit_goes_on_with_its_journal() {
    let scene = Scene::new();
    let image = scene.image("a.raw", 64 * MIB / EXTENT);
    scene.image("b.raw", 64 * MIB / EXTENT);
    let b = format!("{},lun=1", scene.arg("b.raw"));
    let (target, url) = Running::target(&[&scene.arg("a.raw"), &b]);
    let (other, journal) = (target.url(), scene.arg("journal"));
    let ends = [&url[..], &other, "--journal", &journal];
    killed_in_the_middle(&scene, &url, &[&ends[..], &["--yes"]].concat(), "journal");
    let said = fails(2, &["copy", &url, &other, "--resume"]);
    assert!(said.contains("--journal FILE"), "{said}");
    // Who resumes has agreed already.
    let resume = [&["copy"], &ends[..], &["--resume", "--verify"]].concat();
    let (code, told) = json(&resume);
    assert_eq!((code, &told["verified"]), (Some(0), &value!(true)));
    assert!(told["resumed_at"].as_u64() >= Some(MIB as u64), "{told}");
    assert!(std::fs::read(scene.path("b.raw")).unwrap() == image);
    assert!(!Path::new(&journal).exists());
    // Without a journal it begins, and asks.
    assert!(fails(2, &resume).contains("say --yes"));
}

#[test]
fn a_file_that_was_changed_meanwhile_is_another_source() {
    let scene = Scene::new();
    scene.image("a.raw", 4);
    scene.image("b.raw", 4);
    let (_target, url) = Running::target(&[&scene.arg("b.raw")]);
    let file = scene.arg("a.raw");
    let about = std::fs::metadata(&file).unwrap();
    let (_, inquiry) = json(&["inquiry", &url]);
    let changed = about.mtime() * 1_000_000_000 + about.mtime_nsec();
    let path = scene.path("a.raw").canonicalize().unwrap();
    let journal = value!({
        "version": 1, "done": 65_536,
        "source": {"file": {"path": path, "bytes": 4 * EXTENT, "changed": changed}},
        "destination": {"unit": {"names": inquiry["designators"], "bytes": 4 * EXTENT}},
    });
    std::fs::write(scene.path("a.raw.copying"), journal.to_string()).unwrap();
    let copy = ["copy", &file, &url, "--resume"];
    let (code, told) = json(&copy);
    assert_eq!((code, &told["resumed_at"]), (Some(0), &value!(65_536)));
    std::fs::write(scene.path("a.raw.copying"), journal.to_string()).unwrap();
    File::options()
        .write(true)
        .open(&file)
        .unwrap()
        .set_modified(std::time::SystemTime::UNIX_EPOCH)
        .unwrap();
    assert!(fails(2, &copy).contains("the source is not the one"));
}

#[test]
fn a_copy_goes_on_through_another_portal() {
    let scene = Scene::new();
    let image = scene.image("a.raw", 64 * MIB / EXTENT);
    let (_target, url) = Running::target(&[&scene.arg("a.raw")]);
    let place = url.strip_prefix("iscsi://").unwrap();
    let (address, rest) = place.split_once('/').unwrap();
    let dead = free_address().to_string();
    let copy = [
        "copy",
        &url,
        &scene.arg("one"),
        "--portal",
        &dead,
        "--verify",
    ];
    let (code, told) = json(&copy);
    assert_eq!((code, &told["verified"]), (Some(0), &value!(true)));
    // One portal falls silent in the middle of the copy, and the other one does the rest.
    let slow = stall::portal(address, 20 * MIB);
    let slow = format!("iscsi://{slow}/{rest}");
    let copy = ["copy", &slow, &scene.arg("two"), "--portal", address];
    let (code, told) = json(&copy);
    assert_eq!((code, &told["resumed_at"]), (Some(0), &value!(0)));
    assert!(std::fs::read(scene.path("two")).unwrap() == image);
    // The portal of the destination is another one.
    let said = fails(2, &["copy", &url, &scene.arg("no"), "--to-portal", address]);
    assert!(said.contains("--to-portal"), "{said}");
    let (_other, to) = {
        scene.image("b.raw", 64 * MIB / EXTENT);
        Running::target(&[&scene.arg("b.raw")])
    };
    let both = [
        "copy",
        &slow,
        &to,
        "--yes",
        "--portal",
        address,
        "--to-portal",
        &dead,
    ];
    assert_eq!(json(&both).0, Some(0));
    assert!(std::fs::read(scene.path("b.raw")).unwrap() == image);
    fails(2, &["read", &url, "--portal", "[::1"]);
}

#[test]
fn an_interruption_says_how_to_go_on() {
    let scene = Scene::new();
    let image = scene.image("a.raw", 64 * MIB / EXTENT);
    let (_target, url) = Running::target(&[&scene.arg("a.raw")]);
    let place = url.strip_prefix("iscsi://").unwrap();
    let (address, rest) = place.split_once('/').unwrap();
    let slow = format!("iscsi://{}/{rest}", stall::portal(address, 40 * MIB));
    let copy = scene.arg("copy");
    let child = Command::new(env!("CARGO_BIN_EXE_vmthunder"))
        .args(["iscsi", "copy", &slow, &copy, "--depth", "4"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while space(Path::new(&copy).parent().unwrap()) == 0
        || !Path::new(&copy).exists()
        || space(Path::new(&copy)) < 8 * MIB as u64
    {
        assert!(begun.elapsed() < PATIENCE, "nothing was copied");
        std::thread::sleep(Duration::from_millis(20));
    }
    let id = i32::try_from(child.id()).unwrap();
    let id = rustix::process::Pid::from_raw(id).unwrap();
    rustix::process::kill_process(id, rustix::process::Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(output.stdout.is_empty());
    assert!(said.contains("interrupted"), "{said}");
    let line = said.lines().find(|line| line.contains("--resume")).unwrap();
    let words: Vec<_> = line.split_whitespace().skip(1).collect();
    assert_eq!(words[..2], ["iscsi", "copy"], "{said}");
    // The way there is not part of what a copy is of.
    let words: Vec<_> = words
        .iter()
        .map(|word| if *word == slow { &url } else { *word })
        .collect();
    let output = run(&words);
    assert!(output.status.success());
    assert!(std::fs::read(&copy).unwrap() == image);
}
