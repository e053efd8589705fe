//! `vmthunder conformance` as users run it, against `vmthunder target`.
#![allow(clippy::unwrap_used, reason = "what a test cannot set up must end it")]

mod harness;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use harness::{Running, Scene, free_address, refuse, run, succeed};
use serde_json::Value;

/// A target with one disk; the URL of that.
fn target(scene: &Scene, more: &[&str]) -> (Running, String) {
    let disk = scene.arg("disk.raw");
    // It has much to say about what the suite does to it.
    let quiet = ["--log", "error", "--size", "16MiB"];
    Running::target(&[&[disk.as_str()], &quiet[..], more].concat())
}

/// What `--json` printed, and the exit code.
fn judged(args: &[&str]) -> (Value, Option<i32>) {
    let output = run(&[&["conformance"], args, &["--json"]].concat());
    let errors = String::from_utf8_lossy(&output.stderr);
    let report = serde_json::from_slice(&output.stdout);
    let report = report.unwrap_or_else(|error| panic!("{args:?}: {error}: {errors}"));
    (report, output.status.code())
}

/// The exit code of a run in which nothing failed; what did is named.
fn nothing_failed(report: &Value, code: Option<i32>) {
    let failed = report["checks"].as_array().unwrap().iter();
    let failed: Vec<_> = failed
        .filter(|check| check["outcome"] == "failed")
        .collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert_eq!(code, Some(0));
}

fn check<'a>(report: &'a Value, name: &str) -> &'a Value {
    let mut checks = report["checks"].as_array().unwrap().iter();
    checks.find(|check| check["name"] == name).unwrap()
}

#[test]
fn our_target_fails_nothing_and_nothing_is_written_unasked() {
    let scene = Scene::new();
    let (_target, url) = target(&scene, &[]);
    let (report, code) = judged(&[&url]);
    nothing_failed(&report, code);
    assert_eq!(report["peer"], "target");
    assert_eq!(report["subject"], url);
    assert_eq!(report["blocks"], 32768);
    assert_eq!(report["broken_off"], Value::Null);
    let checks = report["checks"].as_array().unwrap();
    let mut unasked = 0;
    for check in checks {
        for key in [
            "name", "section", "level", "outcome", "detail", "sends", "expects",
        ] {
            assert!(check[key].is_string(), "{key} of {check}");
        }
        assert!(["MUST", "SHOULD"].contains(&check["level"].as_str().unwrap()));
        assert!(
            ["passed", "skipped"].contains(&check["outcome"].as_str().unwrap()),
            "{check}"
        );
        unasked += usize::from(check["detail"] == "needs --destructive");
    }
    assert!(unasked > 0);
    let counts = &report["counts"];
    let sum: u64 = ["passed", "failed", "skipped", "waived"]
        .map(|outcome| counts[outcome].as_u64().unwrap())
        .iter()
        .sum();
    assert_eq!(sum, checks.len() as u64);
    let disk = std::fs::read(scene.path("disk.raw")).unwrap();
    assert!(disk.iter().all(|byte| *byte == 0));
}

#[test]
fn all_checks_are_played_when_that_is_said_and_a_tenth_at_most_does_not_apply() {
    let scene = Scene::new();
    let (_target, url) = target(&scene, &[]);
    let (html, junit) = (scene.arg("r.html"), scene.arg("r.xml"));
    let files = ["--html", &html, "--junit", &junit];
    let all = [&[url.as_str(), "--destructive", "--yes"], &files[..]].concat();
    let (report, code) = judged(&all);
    nothing_failed(&report, code);
    let skipped = report["counts"]["skipped"].as_u64().unwrap();
    let checks = report["checks"].as_array().unwrap().len() as u64;
    assert!(skipped * 10 <= checks, "{skipped} of {checks} skipped");
    let page = std::fs::read_to_string(html).unwrap();
    assert!(page.starts_with("<!DOCTYPE html>") && page.contains("nop.echo"));
    let xml = std::fs::read_to_string(junit).unwrap();
    assert!(xml.starts_with("<?xml") && xml.contains("name=\"nop.echo\""));
}

#[test]
fn a_disk_of_one_block_is_accused_of_nothing() {
    let scene = Scene::new();
    let disk = scene.arg("disk.raw");
    let quiet = [disk.as_str(), "--log", "error", "--size", "512"];
    let (_target, url) = Running::target(&quiet);
    let (report, code) = judged(&[&url, "--destructive", "--yes"]);
    nothing_failed(&report, code);
}

#[test]
fn checks_are_listed_and_chosen_by_name() {
    let table = succeed(&["conformance", "--list"]);
    assert!(table.contains("nop.echo") && table.contains("RFC 7143 §11.19"));
    let list = succeed(&["conformance", "--list", "--json", "--only", "login, nop"]);
    let list: Value = serde_json::from_str(&list).unwrap();
    let names = list["checks"].as_array().unwrap().iter();
    let names = names.map(|check| check["name"].as_str().unwrap());
    let names: Vec<_> = names.collect();
    assert!(names.contains(&"nop.echo"));
    assert!(
        names
            .iter()
            .all(|name| name.starts_with("login.") || name.starts_with("nop."))
    );
    assert!(check(&list, "nop.echo")["effect"] == "reads");

    let scene = Scene::new();
    let (_target, url) = target(&scene, &[]);
    let (report, _) = judged(&[
        &url, "--only", "nop", "--only", "read", "--skip", "nop.echo",
    ]);
    let checks = report["checks"].as_array().unwrap();
    assert!(!checks.is_empty());
    assert!(checks.iter().all(|check| check["name"] != "nop.echo"));
    let said = refuse(&["conformance", &url, "--only", "nop.ech"]);
    assert!(said.contains("did you mean nop.echo"), "{said}");
    for (name, part) in [
        (
            "quux",
            "no check is called quux; `vmthunder conformance --list` shows them all",
        ),
        ("nop.answered", "nop.answered is for initiators"),
    ] {
        let said = refuse(&["conformance", &url, "--skip", name]);
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn a_disk_is_not_written_without_a_word_from_its_owner() {
    let scene = Scene::new();
    let (_target, url) = target(&scene, &[]);
    let serial = judged(&[&url, "--only", "nop.echo"]).0["serial"].clone();
    let said = refuse(&["conformance", &url, "--destructive"]);
    for part in [
        serial.as_str().unwrap(),
        "16.0 MiB",
        "VMTHNDR",
        "--yes",
        &url,
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    refuse(&["conformance", &url, "--yes"]);
}

#[test]
fn why_nothing_can_be_judged_is_said() {
    let scene = Scene::new();
    let (_target, url) = target(&scene, &[]);
    let portal = url.split("/iqn").next().unwrap();
    let nobody = format!("iscsi://{}/{NAME}/0", free_address());
    let name = url.strip_suffix("/0").unwrap();
    // One file, written in two ways.
    let same = scene.arg("./x");
    let mail = TcpListener::bind("127.0.0.1:0").unwrap();
    let other = format!("iscsi://{}/{NAME}/0", mail.local_addr().unwrap());
    thread::spawn(move || {
        let (mut client, _) = mail.accept()?;
        // Whoever closes with bytes unread takes back what it wrote.
        let _request = client.read(&mut [0; 4096])?;
        client.write_all(b"220 mail.example ESMTP\r\n")
    });
    for (args, parts) in [
        (&[nobody.as_str()][..], ["cannot connect to", "listening"]),
        (
            &[portal],
            ["lacks the target's name", "iqn.2026-11.org.vmthunder:disk"],
        ),
        (
            &[&format!("{name}x")],
            ["0x0203", "iqn.2026-11.org.vmthunder:disk"],
        ),
        (&[&format!("{name}/5")], ["no such logical unit", "LUN 0"]),
        (&["http://x"], ["http://x is not an iSCSI URL", "iscsi://"]),
        (&["iscsi://alice@"], ["iscsi://...@ is not", "iscsi://"]),
        (&[], ["--list", "--initiator --listen"]),
        (
            &["--list", "--only", "nop", "--skip", "nop"],
            ["--only", "leave no check"],
        ),
        (&[&url, "--initiator"], ["--listen", "--initiator IQN"]),
        (
            &[&url, "--junit", "/nowhere/r.xml"],
            ["cannot write to /nowhere/r.xml", "cannot write to"],
        ),
        (&[&url, "--patience", "0"], ["--patience", "seconds"]),
        (&[&url, "--limit", "0"], ["--limit", "whole minutes"]),
        (
            &[&url, "--html", &scene.arg("x"), "--junit", &same],
            ["the same file", "give each its own"],
        ),
        (&[&other], ["is this an iSCSI portal", "220 mail"]),
    ] {
        let said = refuse(&[&["conformance"], args].concat());
        for part in parts {
            assert!(said.contains(part), "{args:?}: {part}: {said}");
        }
    }
    let junit = scene.arg("gone.xml");
    let (report, code) = judged(&[&nobody, "--junit", &junit]);
    assert_eq!(code, Some(2));
    assert_eq!(report["checks"], serde_json::json!([]));
    let why = report["broken_off"].as_str().unwrap();
    assert!(why.contains("cannot connect to"), "{why}");
    assert!(std::fs::read_to_string(junit).unwrap().starts_with("<?xml"));
    let (report, code) = judged(&[&url, "--only", "chap.md5"]);
    assert_eq!(code, Some(2));
    let why = report["broken_off"].as_str().unwrap();
    assert!(why.contains("--chap-secret-file"), "{why}");
}

#[test]
fn the_readme_counts_the_checks_and_the_drills() {
    let readme = include_str!("../../README.md");
    for (side, noun) in [(&[][..], "checks"), (&["--initiator"], "drills")] {
        let list = succeed(&[&["conformance", "--list", "--json"], side].concat());
        let list: Value = serde_json::from_str(&list).unwrap();
        let count = list["checks"].as_array().unwrap().len().to_string();
        let words = readme.split_whitespace();
        let mut said = words.clone().zip(words.skip(1)).filter(|(number, word)| {
            number.parse::<u32>().is_ok() && word.trim_end_matches([':', ',', '.', ';']) == noun
        });
        let (first, _) = said.next().unwrap();
        assert_eq!(first, count, "README.md and {noun}");
        assert!(said.all(|(number, _)| number == count));
    }
}

#[test]
fn chap_comes_from_a_file() {
    let scene = Scene::new();
    let secrets = scene.secret("secrets", "alice:correct horse battery\n");
    let secret = scene.secret("secret", "correct horse battery\n");
    let (_target, url) = target(&scene, &["--chap-secret-file", &secrets]);
    let alice = url.replace("iscsi://", "iscsi://alice@");
    let file = ["--chap-secret-file", &secret];
    let (report, code) = judged(&[&[alice.as_str(), "--only", "nop"], &file[..]].concat());
    nothing_failed(&report, code);
    let said = refuse(&["conformance", &url]);
    assert!(
        said.contains("0x0201") && said.contains("--chap-secret-file"),
        "{said}"
    );
    let wrong = scene.secret("wrong", "incorrect horse battery\n");
    let said = refuse(&["conformance", &alice, "--chap-secret-file", &wrong]);
    assert!(said.contains("0x0201") && said.contains("secret"), "{said}");
}

#[test]
fn the_secrets_have_to_fit_before_a_target_is_accused() {
    let scene = Scene::new();
    let secret = scene.secret("secret", "correct horse battery\n");
    let its = scene.secret("its", "a secret of the target\n");
    let chap = ["--chap-secret-file", &secret, "--chap-user", "alice"];
    let mutual = ["--mutual-user", "disks", "--mutual-secret-file", &its];
    let (_target, url) = target(&scene, &[&chap[..], &mutual].concat());
    let alice = url.replace("iscsi://", "iscsi://alice@");
    let own = [
        alice.as_str(),
        "--chap-secret-file",
        &secret,
        "--only",
        "chap.mutual",
    ];
    let (report, code) = judged(&[&own[..], &mutual].concat());
    nothing_failed(&report, code);
    assert_eq!(check(&report, "chap.mutual.response")["outcome"], "passed");

    let wrong = scene.secret("wrong", "not the target's secret\n");
    for (user, file, parts) in [
        (
            "disks",
            &wrong,
            ["its CHAP_R is made with another", "--mutual-secret-file"],
        ),
        (
            "discs",
            &its,
            ["its CHAP_N is disks", "--mutual-user disks"],
        ),
        (
            "disks",
            &secret,
            ["alice and of disks are the same", "§9.2.1"],
        ),
    ] {
        let mutual = ["--mutual-user", user, "--mutual-secret-file", file];
        let said = refuse(&[&["conformance"], &own[..], &mutual].concat());
        for part in parts {
            assert!(said.contains(part), "{part}: {said}");
        }
    }
}

#[test]
fn what_belongs_to_the_other_side_is_refused_with_the_way_out() {
    let url = format!("iscsi://{}/{NAME}/0", free_address());
    let here = ["--initiator", "--listen", "127.0.0.1:0"];
    let judging = "say --initiator --listen HOST:PORT";
    for (args, part) in [
        (&[url.as_str(), "--command", "x {url}"][..], judging),
        (&[&url, "--listen", "127.0.0.1:0"], judging),
        (&["--discovery-command", "x {url}"], judging),
        (&["--listen", "127.0.0.1:0"], judging),
        (&["--initiator", "--yes"], "--yes is for judging a target"),
        (&["--initiator", "--listen", "localhost"], "HOST:PORT"),
        (&[&url, "--yes"], "--yes answers what --destructive asks"),
        (&["--initiator"], "--listen HOST:PORT"),
    ] {
        let said = refuse(&[&["conformance"], args].concat());
        assert!(said.contains(part), "{args:?}: {said}");
    }
    let iqn = ["--initiator", NAME, "--listen", "127.0.0.1:0"];
    let said = refuse(&[&["conformance"], &iqn[..]].concat());
    assert!(said.contains("say --initiator alone"), "{said}");
    for (args, part) in [
        (
            &["--destructive"][..],
            "--destructive is for judging a target",
        ),
        (&["--chap-secret-file", "x"], "--chap-secret-file is for"),
        (&["--command", "true"], "not told where to log in"),
        (
            &["--command", "x {url}", "--discovery-command", "x {target}"],
            "{portal}",
        ),
        (&["--discovery-command", "x {portal}"], "say --command, too"),
        (&["--only", "nop.echo"], "nop.echo is for targets"),
        (
            &["--only", "quux"],
            "`vmthunder conformance --initiator --list`",
        ),
    ] {
        let said = refuse(&[&["conformance"], &here[..], args].concat());
        assert!(said.contains(part), "{args:?}: {said}");
    }
}

#[test]
fn that_a_disk_is_write_protected_is_said_once() {
    let scene = Scene::new();
    let disk = std::fs::File::create(scene.path("disk.raw")).unwrap();
    disk.set_len(1 << 24).unwrap();
    let quiet = ["--log", "error", "--read-only"];
    let (_target, url) = Running::target(&[&[scene.arg("disk.raw").as_str()], &quiet[..]].concat());
    let only = ["--only", "write,read", "--destructive", "--yes"];
    let output = run(&[&["conformance", &url], &only[..]].concat());
    let (said, table) = (output.stderr, output.stdout);
    let (said, table) = (
        String::from_utf8(said).unwrap(),
        String::from_utf8(table).unwrap(),
    );
    assert_eq!(said.matches("write protected").count(), 1, "{said}");
    assert!(table.contains("512 bytes, write protected"), "{table}");
    assert_eq!(output.status.code(), Some(0), "{said}{table}");
    let (report, _) = judged(&[&url, "--only", "nop.echo"]);
    assert_eq!(report["read_only"], true);
}

/// A name that nobody has.
const NAME: &str = "iqn.2026-11.org.example:x";

/// What stands between the suite and a sound target.
#[derive(Clone, Copy)]
enum Fault {
    /// Whoever comes after so many connections comes in vain.
    Ends(usize),
    /// The data of a ping comes back changed.
    Ping,
    /// Pings are not answered.
    NoPing,
}

/// Relays connections and breaks one thing; the URL of the broken target.
fn broken(url: &str, fault: Fault) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let here = listener.local_addr().unwrap().to_string();
    let (portal, _) = url
        .strip_prefix("iscsi://")
        .unwrap()
        .split_once('/')
        .unwrap();
    let portal = portal.to_owned();
    let broken = url.replace(&portal, &here);
    thread::spawn(move || {
        let many = match fault {
            Fault::Ends(many) => many,
            Fault::Ping | Fault::NoPing => usize::MAX,
        };
        for initiator in listener.incoming().map_while(Result::ok).take(many) {
            let Ok(target) = TcpStream::connect(&portal) else {
                return;
            };
            let (mut from, mut to) = (initiator.try_clone().unwrap(), target.try_clone().unwrap());
            thread::spawn(move || {
                let _over = std::io::copy(&mut from, &mut to);
                let _gone = to.shutdown(std::net::Shutdown::Both);
            });
            thread::spawn(move || relay(target, initiator, fault));
        }
    });
    broken
}

/// Answers of the target, without digests. The end of a connection ends it.
fn relay(mut target: TcpStream, mut initiator: TcpStream, fault: Fault) -> Option<()> {
    loop {
        let mut head = [0; 48];
        target.read_exact(&mut head).ok()?;
        let length = u32::from_be_bytes([0, head[5], head[6], head[7]]);
        let length = usize::try_from(length).unwrap().next_multiple_of(4);
        let mut data = vec![0; usize::from(head[4]) * 4 + length];
        target.read_exact(&mut data).ok()?;
        if let (0x20, Some(byte)) = (head[0], data.first_mut()) {
            match fault {
                Fault::Ping => *byte ^= 1,
                Fault::NoPing => continue,
                Fault::Ends(_) => {}
            }
        }
        initiator.write_all(&[&head[..], &data].concat()).ok()?;
    }
}

#[test]
fn a_failure_is_shown_with_its_pdus_and_can_be_waived() {
    let scene = Scene::new();
    let (_target, url) = target(&scene, &[]);
    let url = broken(&url, Fault::Ping);
    let only = ["--only", "nop.echo,read"];
    let output = run(&[&["conformance", &url], &only[..]].concat());
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    for part in [
        "FAILED nop.echo",
        "RFC 7143 §11.19 (MUST)",
        "-> NOP-Out",
        "<- NOP-In",
        "1 failed",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("--patience"), "{text}");
    let (report, code) = judged(&[&[url.as_str()], &only[..]].concat());
    assert_eq!(code, Some(1));
    let failed = check(&report, "nop.echo");
    assert_eq!(failed["outcome"], "failed");
    assert!(!failed["pdus"].as_array().unwrap().is_empty());

    let known = scene.arg("known.toml");
    let waiver = |check: &str, reason: &str| {
        format!("[[waiver]]\ncheck = \"{check}\"\nreason = \"{reason}\"\n")
    };
    let fine = check_that_passed(&report);
    let text = waiver("nop.echo", "mended in 2.1") + &waiver(&fine, "a bug of 1.0");
    std::fs::write(&known, text).unwrap();
    let with = [&[url.as_str(), "--waivers", &known], &only[..]].concat();
    let (report, code) = judged(&with);
    nothing_failed(&report, code);
    let waived = check(&report, "nop.echo");
    assert_eq!(waived["outcome"], "waived");
    assert!(
        waived["detail"]
            .as_str()
            .unwrap()
            .starts_with("mended in 2.1")
    );
    assert_eq!(report["unneeded_waivers"], serde_json::json!([fine]));
    let table = succeed(&[&["conformance"], &with[..]].concat());
    assert!(table.contains("passed this time"), "{table}");

    for (text, part) in [
        (waiver("nop.echo", ""), "has no reason"),
        (waiver("nop.ech", "x"), "did you mean nop.echo"),
        ("[[waiver]]\nname = \"nop.echo\"\n".to_owned(), "known.toml"),
    ] {
        std::fs::write(&known, text).unwrap();
        let said = refuse(&["conformance", &url, "--waivers", &known]);
        assert!(said.contains(part), "{said}");
    }
}

fn check_that_passed(report: &Value) -> String {
    let mut checks = report["checks"].as_array().unwrap().iter();
    let passed = checks.find(|check| check["outcome"] == "passed").unwrap();
    passed["name"].as_str().unwrap().to_owned()
}

#[test]
fn a_target_that_is_gone_is_said_to_be_gone_and_accused_of_nothing() {
    let scene = Scene::new();
    let (_target, url) = target(&scene, &[]);
    // One connection finds out what the disk is, the other is the check's.
    let url = broken(&url, Fault::Ends(2));
    let args = [
        "conformance",
        &url,
        "--only",
        "nop.echo,nop.empty",
        "--json",
    ];
    let output = run(&args);
    let errors = String::from_utf8(output.stderr).unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let gone = "the target stopped answering after nop.echo, and lets no ordinary initiator in any more: cannot connect to";
    assert!(
        report["broken_off"].as_str().unwrap().starts_with(gone),
        "{report:#}"
    );
    assert_eq!(check(&report, "nop.echo")["outcome"], "passed");
    assert_eq!(check(&report, "nop.empty")["outcome"], "skipped");
    assert_eq!(output.status.code(), Some(2));
    assert!(
        errors.contains("not all was judged") && errors.contains(gone),
        "{errors}"
    );
}

#[test]
fn a_silence_names_the_option_that_is_more_patient() {
    let scene = Scene::new();
    let (_target, url) = target(&scene, &[]);
    let url = broken(&url, Fault::NoPing);
    let args = ["--only", "nop.echo", "--patience", "0.3"];
    let output = run(&[&["conformance", &url], &args[..]].concat());
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("--patience gives"), "{text}");
}

#[test]
fn an_interrupted_run_says_what_it_found_so_far() {
    let scene = Scene::new();
    let (_target, url) = target(&scene, &[]);
    let url = broken(&url, Fault::NoPing);
    // The silence is waited for longer than the test takes.
    let child = Command::new(env!("CARGO_BIN_EXE_vmthunder"))
        .args([
            "conformance",
            &url,
            "--json",
            "--only",
            "login.stages,nop.echo",
        ])
        .args(["--patience", "60"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // However far it is by then: it ends as it should.
    thread::sleep(Duration::from_secs(1));
    let id = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(id, rustix::process::Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(errors.contains("interrupted"), "{errors}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["broken_off"], "interrupted");
    assert_eq!(check(&report, "nop.echo")["outcome"], "skipped");
}

#[test]
fn an_initiator_that_is_a_program_is_judged() {
    let list = succeed(&["conformance", "--initiator", "--list", "--json"]);
    let list: Value = serde_json::from_str(&list).unwrap();
    assert_eq!(check(&list, "nop.answered")["effect"], Value::Null);
    let program = env!("CARGO_BIN_EXE_vmthunder");
    let read = format!("'{program}' iscsi read {{url}} --blocks 8");
    let listen = [
        "--initiator",
        "--listen",
        "127.0.0.1:0",
        "--only",
        "nop.answered",
    ];
    let (report, code) = judged(&[&listen[..], &["--command", &read]].concat());
    nothing_failed(&report, code);
    assert_eq!(report["peer"], "initiator");
    assert_eq!(check(&report, "nop.answered")["outcome"], "passed");

    // Nobody comes of a program that does not log in, and nobody who is not there fails.
    let (report, code) = judged(&[&listen[..], &["--command", "true {url}"]].concat());
    assert_eq!(code, Some(2), "{report:#}");
    assert_eq!(check(&report, "nop.answered")["outcome"], "skipped");
    let discovery = [
        "--initiator",
        "--listen",
        "127.0.0.1:0",
        "--only",
        "discovery",
    ];
    let (report, code) = judged(&[&discovery[..], &["--command", &read]].concat());
    assert_eq!(code, Some(2), "{report:#}");
    let why = report["broken_off"].as_str().unwrap();
    assert!(why.contains("--discovery-command"), "{why}");
    refuse(&["conformance", "--initiator", "--listen", "nowhere"]);
    let quoted = ["--command", "'"];
    let said = refuse(&[&["conformance"], &listen[..], &quoted].concat());
    assert!(said.contains("quotation mark"), "{said}");
}
