//! What is wrong is said before anybody can connect: what, where, and what to do.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use crate::harness::{Scene, refuse};

#[test]
fn bad_values_are_refused_with_the_cause_and_a_way_out() {
    let scene = Scene::new();
    scene.image("disk.raw", 1);
    let disk = scene.arg("disk.raw");
    let with = |option: &str| format!("{disk},{option}");
    let long = scene.secret("long", &"x".repeat(300));
    let short = scene.secret("short", "tooshort\n");
    let good = scene.secret("good", "correct horse battery\n");
    let same = scene.secret("same", "correct horse battery\n");
    let lines = scene.secret("lines", "# who\nalice:correct horse battery\nbob\n");
    let twice = scene.secret(
        "twice",
        "alice:correct horse battery\nalice:another long secret\n",
    );
    let empty = scene.secret("empty", "\n");
    let missing = scene.arg("missing");
    let user = |file: &str| -> Vec<String> {
        ["--chap-user", "alice", "--chap-secret-file", file]
            .map(str::to_owned)
            .to_vec()
    };
    let mut both = user(&good);
    both.extend(["--mutual-user", "t", "--mutual-secret-file", &same].map(str::to_owned));
    let one =
        |words: &[&str]| -> Vec<String> { words.iter().map(|word| (*word).to_owned()).collect() };
    let cases: Vec<(Vec<String>, &[&str])> = vec![
        (
            one(&[&disk, "--block-size", "1024"]),
            &["--block-size", "512 or 4096"],
        ),
        (
            one(&[&with("block-size=520")]),
            &["disk.raw,block-size=520", "512 or 4096"],
        ),
        (
            one(&[&with("readonly")]),
            &["`readonly`", "did you mean `read-only`?"],
        ),
        (one(&[&with("ro,rw")]), &["`rw` contradicts"]),
        (
            one(&[&with("size=1000")]),
            &["size of 1000 bytes", "one block or more of 512"],
        ),
        (
            one(&[&missing]),
            &["cannot open", "no such file; a size would create it"],
        ),
        (
            one(&[&missing, "--size", "1MiB", "--read-only"]),
            &["created for reading only"],
        ),
        (
            one(&[&disk, "--size", "much"]),
            &["--size", "for example 20GiB"],
        ),
        (one(&[&disk, &disk]), &["is listed twice"]),
        (
            one(&[&with("lun=3"), &missing, &with("lun=256")]),
            &["LUN 256", "0 to 255"],
        ),
        (one(&[&with("serial=a b")]), &["serial number \"a b\""]),
        (one(&[&disk, "--iqn", "iqn.no good"]), &["iqn.no good"]),
        (
            one(&[&disk, "--allow-network", "10.0.0.0/33"]),
            &["--allow-network", "at most 32 bits"],
        ),
        (
            one(&[&disk, "--allow-network", "10.1.0.0/8"]),
            &["did you mean 10.0.0.0/8?"],
        ),
        (
            one(&[&disk, "--allow-initiator", "iqn a"]),
            &["--allow-initiator", "' '"],
        ),
        (
            one(&[&disk, "--redirect", "host:0"]),
            &["--redirect", "host:0", "1 to 65535"],
        ),
        (
            one(&[&disk, "--redirect", "host,forever"]),
            &["`forever`", "permanent"],
        ),
        (
            one(&[&disk, "--max-sessions", "0"]),
            &["limit of sessions is 0", "1 to 65535"],
        ),
        (
            one(&[&disk, "--max-commands", "100000"]),
            &["limit of commands", "1 to 4096"],
        ),
        (
            one(&[&disk, "--max-memory", "1KiB"]),
            &["limit of memory", "the least is 16"],
        ),
        (
            one(&[&disk, "--login-timeout", "0"]),
            &["login", "1 to 3600"],
        ),
        (
            one(&[&disk, "--chap-user", "alice"]),
            &["--chap-secret-file"],
        ),
        (one(&[&disk, "--discovery-chap"]), &["--chap-secret-file"]),
        (
            one(&[&disk, "--chap-secret-file", &good]),
            &["good:1", "not USER:SECRET"],
        ),
        (
            one(&[&disk, "--chap-secret-file", &lines]),
            &["lines:3", "not USER:SECRET"],
        ),
        (
            one(&[&disk, "--chap-secret-file", &twice]),
            &["two accounts", "alice"],
        ),
        (
            one(&[&disk, "--chap-secret-file", &missing]),
            &["cannot open", "missing"],
        ),
        (
            user(&short),
            &["short:1", "alice", "8 bytes", "at least 12"],
        ),
        (user(&long), &["long:1", "300 bytes", "at most 255"]),
        (user(&empty), &["holds no secret"]),
        (user(&lines), &["lines:2", "second line"]),
        (both, &["each direction"]),
    ];
    for (mut args, causes) in cases {
        if args.first().is_none_or(|first| first.starts_with("--")) {
            args.insert(0, disk.clone());
        }
        let mut all = vec!["target", "--listen", "127.0.0.1:0"];
        all.extend(args.iter().map(String::as_str));
        let said = refuse(&all);
        for cause in causes {
            assert!(said.contains(cause), "{args:?} lacks {cause:?}: {said}");
        }
        for secret in ["correct horse", "tooshort", "another long"] {
            assert!(!said.contains(secret), "a secret was told: {said}");
        }
    }
}

#[test]
fn a_secret_that_others_can_read_is_refused_with_the_command_that_mends_it() {
    let scene = Scene::new();
    scene.image("disk.raw", 1);
    let (disk, secret) = (
        scene.arg("disk.raw"),
        scene.secret("secret", "a long enough secret"),
    );
    let args = [
        "target",
        &disk,
        "--chap-user",
        "a",
        "--chap-secret-file",
        &secret,
    ];
    for mode in [0o604, 0o644, 0o666] {
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(&secret, permissions).unwrap();
        let said = refuse(&args);
        assert!(said.contains(&format!("chmod 600 {secret}")), "{said}");
    }
}

/// Nothing is created, and no port taken, before everything else was found to be right.
#[test]
fn what_is_refused_leaves_nothing_behind() {
    let scene = Scene::new();
    let (new, short) = (scene.arg("new.raw"), scene.secret("short", "short"));
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = taken.local_addr().unwrap().to_string();
    let chap = ["--chap-user", "a", "--chap-secret-file", &short];
    let mut args = vec!["target", "--listen", &at, &new, "--size", "1MiB"];
    args.extend(chap);
    let said = refuse(&args);
    assert!(
        said.contains("at least 12 bytes"),
        "the secret before the port: {said}"
    );
    assert!(!scene.path("new.raw").exists());
}
