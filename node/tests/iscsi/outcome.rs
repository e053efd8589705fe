//! The same cause has the same exit code and the same kind in all verbs; and what is said to people.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use serde_json::json as value;

use crate::harness::{EXTENT, Running, Scene, free_address, run, succeed};
use crate::{address, fails, json, portal, target};

#[test]
fn a_cause_has_one_code_and_one_kind() {
    let scene = Scene::new();
    scene.image("a.raw", 1);
    let (_target, url) = Running::target(&["--read-only", &scene.arg("a.raw")]);
    let input = scene.arg("a.raw");
    let nobody = format!("iscsi://{}/iqn.2026-11.org.example:a/0", free_address());
    let (target, portal) = (target(&url), portal(&url));
    let (no_unit, no_target) = (
        format!("{target}/7"),
        format!("{portal}/iqn.2026-11.org.example:a"),
    );
    let bench = [
        "bench",
        &url,
        "--read-percent",
        "0",
        "--destructive",
        "--yes",
    ];
    for (code, kind, args) in [
        (
            1,
            "write-protected",
            &["write", &url, "--input", &input][..],
        ),
        (1, "write-protected", &["trim", &url, "--all", "--yes"]),
        (1, "write-protected", &["copy", &input, &url, "--yes"]),
        (1, "write-protected", &bench),
        (
            1,
            "out-of-range",
            &["read", &url, "--lba", "129", "--output", "none"],
        ),
        (
            1,
            "out-of-range",
            &["trim", &url, "--lba", "1", "--blocks", "128"],
        ),
        (2, "no-such-unit", &["read", &no_unit, "--output", "none"]),
        (2, "no-such-unit", &["status", &no_unit]),
        (2, "no-such-target", &["luns", &no_target]),
        (2, "no-such-target", &["bench", &no_target]),
        (2, "unreachable", &["capacity", &nobody]),
        (2, "unreachable", &["copy", &nobody, "none"]),
        (2, "cannot", &["copy", "none", &url]),
    ] {
        let (ended, told) = json(args);
        assert_eq!(
            (ended, &told["kind"]),
            (Some(code), &value!(kind)),
            "{args:?}: {told}"
        );
        assert!(told["error"].as_str().is_some_and(|text| !text.is_empty()));
    }
    let help = succeed(&["iscsi", "--help"]);
    for kind in ["write-protected", "cache-lost", "no-such-unit", "in-doubt"] {
        assert!(help.contains(kind), "{kind}: {help}");
    }
}

#[test]
fn a_read_without_a_length_reads_all() {
    let scene = Scene::new();
    let image = scene.image("a.raw", 5);
    let (_target, url) = Running::target(&[&scene.arg("a.raw")]);
    assert!(run(&["iscsi", "read", &url]).stdout == image);
    let upper = url.replace("iscsi://", "ISCSI://");
    let rest = run(&["iscsi", "read", &upper, "--offset", "64KiB"]);
    assert!(rest.stdout == image[EXTENT..]);

    let out = scene.arg("out");
    std::fs::write(&out, "mine").unwrap();
    let own = std::fs::metadata(&out).unwrap().permissions().mode();
    // Said before anybody is asked.
    let nobody = format!("iscsi://{}/iqn.2026-11.org.example:a/0", free_address());
    let said = fails(2, &["read", &nobody, "--output", &out]);
    assert!(said.contains("--force overwrites it"), "{said}");
    assert_eq!(std::fs::read(&out).unwrap(), b"mine");
    succeed(&["iscsi", "read", &url, "--output", &out, "--force"]);
    assert!(std::fs::read(&out).unwrap() == image);
    let mode = std::fs::metadata(&out).unwrap().permissions().mode();
    assert_eq!(mode, own, "what the umask says");
}

#[test]
fn an_image_in_a_format_is_not_taken_for_a_raw_one() {
    let scene = Scene::new();
    scene.image("a.raw", 1);
    let mut image = b"QFI\xfb".to_vec();
    image.resize(EXTENT, 1);
    std::fs::write(scene.path("image"), &image).unwrap();
    let (_target, url) = Running::target(&[&scene.arg("a.raw")]);
    let to_unit = ["copy", &scene.arg("image"), &url, "--yes"];
    assert!(fails(2, &to_unit).contains("qcow2"));
    let to_file = ["copy", &url, &scene.arg("b.QCOW2")];
    assert!(fails(2, &to_file).contains("would be a raw image"));
    assert!(fails(2, &["copy", &url, "-"]).contains("iscsi read URL"));
    assert!(!scene.path("b.QCOW2").exists());
    for copy in [&to_unit[..], &to_file] {
        let (code, _) = json(&[copy, &["--raw", "--verify"]].concat());
        assert_eq!(code, Some(0));
    }
    assert!(std::fs::read(scene.path("b.QCOW2")).unwrap() == image);
}

#[test]
fn two_users_have_their_secrets_in_one_file() {
    let scene = Scene::new();
    let image = scene.image("a.raw", 1);
    scene.image("b.raw", 1);
    let (alice, bob) = ("alice:correct horse battery", "bob:staple of a battery");
    let serve = |file: &str, line: &str| {
        let secret = scene.secret(&format!("{file}.secret"), line);
        Running::target(&[&scene.arg(file), "--chap-secret-file", &secret])
    };
    let (_one, from) = serve("a.raw", alice);
    let (_other, to) = serve("b.raw", bob);
    let both = scene.secret("both", &format!("{alice}\n{bob}\n"));
    let as_user = |url: &str, user: &str| url.replace("iscsi://", &format!("iscsi://{user}@"));
    let (from, to) = (as_user(&from, "alice"), as_user(&to, "bob"));
    succeed(&[
        "iscsi",
        "copy",
        &from,
        &to,
        "--yes",
        "--chap-secret-file",
        &both,
    ]);
    assert!(std::fs::read(scene.path("b.raw")).unwrap() == image);
    let eve = as_user(&from.replace("alice@", ""), "eve");
    let said = fails(2, &["luns", &target(&eve), "--chap-secret-file", &both]);
    assert!(said.contains("no secret of `eve`"), "{said}");
    // Nobody asked the target to be able to prove anything.
    let mutual = scene.secret("mutual", "a secret of the target");
    let said = fails(
        2,
        &[
            "luns",
            &target(&from),
            "--chap-secret-file",
            &both,
            "--mutual-user",
            "target",
            "--mutual-secret-file",
            &mutual,
        ],
    );
    assert!(said.contains("--mutual-user"), "{said}");
}

#[test]
fn a_web_server_is_no_target() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut guest in listener.incoming().map_while(Result::ok) {
            let _ = guest.read(&mut [0; 48]);
            let _ =
                guest.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\n\r\n400");
        }
    });
    let said = fails(2, &["discover", &format!("iscsi://{address}")]);
    assert!(said.contains("does an iSCSI target listen there"), "{said}");
}

#[test]
fn numbers_that_are_too_large_are_answered_with_those_that_are_not() {
    for verb in [
        &["copy", "a", "b"][..],
        &["bench", "iscsi://a/iqn.2026-11.org.example:a"],
    ] {
        let said = fails(2, &[verb, &["--depth", "70000"]].concat());
        assert!(said.contains("a number from 1 to 65535"), "{said}");
    }
}

#[test]
fn digests_and_all_portals_are_there_for_who_asks() {
    let scene = Scene::new();
    scene.image("a.raw", 1);
    let listen = ["--listen", "127.0.0.1:0", &scene.arg("a.raw")];
    let (running, url) = Running::target(&listen);
    let (_, told) = json(&["status", &url, "--digests"]);
    assert_eq!(told["negotiated"]["data_digest"], true, "{told}");
    let other = running.url();
    for (here, there) in [(&url, &other), (&other, &url)] {
        let (_, told) = json(&["discover", &portal(here)]);
        let addresses = value!([
            {"address": address(here), "portal_group_tag": 1},
            {"address": address(there), "portal_group_tag": 1},
        ]);
        assert_eq!(told[0]["addresses"], addresses);
    }
}
