//! What is wrong is said before anybody can connect: what, where, and what to do.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use crate::harness::{Scene, refuse};

/// Words of the command line, and what is said about them. `DISK` is a file that is there, `NONE` one that is not,
/// and `FOLDER` is where both are.
type Case<'a> = (&'a [&'a str], &'a [&'a str]);

fn check(scene: &Scene, cases: &[Case<'_>]) {
    scene.image("disk.raw", 1);
    let folder = scene.folder.path().display().to_string();
    for (words, causes) in cases {
        let args: Vec<String> = words
            .iter()
            .map(|word| word.replace("DISK", "FOLDER/disk.raw"))
            .map(|word| word.replace("NONE", "FOLDER/none"))
            .map(|word| word.replace("FOLDER", &folder))
            .collect();
        let mut all = vec!["target", "--listen", "127.0.0.1:0"];
        all.extend(args.iter().map(String::as_str));
        let said = refuse(&all);
        for cause in *causes {
            assert!(said.contains(cause), "{args:?} lacks {cause:?}: {said}");
        }
        for secret in ["correct horse", "tooshort", "another long"] {
            assert!(!said.contains(secret), "a secret was told: {said}");
        }
        assert!(!scene.path("none").exists());
    }
}

#[test]
fn bad_disks_are_refused_with_the_cause_and_a_way_out() {
    let cases: &[Case<'_>] = &[
        (
            &["DISK", "--block-size", "1024"],
            &["--block-size", "512 or 4096"],
        ),
        (
            &["DISK,block-size=520"],
            &["disk.raw,block-size=520", "512 or 4096"],
        ),
        (
            &["DISK,readonly"],
            &["`readonly`", "did you mean `read-only`?"],
        ),
        (&["DISK,ro,rw"], &["`rw` contradicts"]),
        (
            &["DISK,size=1000"],
            &["size of 1000 bytes", "one block or more of 512"],
        ),
        (
            &["NONE"],
            &["cannot open", "no such file; a size would create it"],
        ),
        (
            &["NONE", "--size", "1MiB", "--read-only"],
            &["created for reading only"],
        ),
        (
            &["DISK", "--size", "much"],
            &["--size", "for example 20GiB"],
        ),
        (
            &["DISK", "--size", "1MiB"],
            &["has 65536 bytes, not the 1048576"],
        ),
        (
            &["NONE,size=1MiB", "DISK,size=2MiB"],
            &["has 65536 bytes, not the 2097152"],
        ),
        (&["DISK", "DISK"], &["is listed twice"]),
        (
            &["DISK,lun=3", "NONE", "DISK,lun=256"],
            &["LUN 256", "0 to 255"],
        ),
        (&["DISK,lun=1", "NONE"], &["there are two LUNs 1"]),
        (&["DISK,serial=a b"], &["serial number \"a b\""]),
        (
            &["DISK,ro,serial=a", "NONE,serial=a"],
            &["two files have the serial number a"],
        ),
        (&["DISK", "--iqn", "iqn.no good"], &["iqn.no good"]),
        (&["FOLDER"], &["neither a file nor a block device"]),
        (&["FOLDER/no/disk,size=1MiB"], &["cannot create", "no/disk"]),
    ];
    check(&Scene::new(), cases);
}

#[test]
fn bad_rules_and_limits_are_refused_with_the_cause_and_a_way_out() {
    let cases: &[Case<'_>] = &[
        (
            &["DISK", "--allow-network", "10.0.0.0/33"],
            &["--allow-network", "at most 32 bits"],
        ),
        (
            &["DISK", "--allow-network", "10.1.0.0/8"],
            &["did you mean 10.0.0.0/8?"],
        ),
        (
            &["DISK", "--allow-initiator", "iqn a"],
            &["--allow-initiator", "' '"],
        ),
        (
            &["DISK", "--redirect", "host:0"],
            &["--redirect", "host:0", "1 to 65535"],
        ),
        (
            &["DISK", "--redirect", "host,forever"],
            &["`forever`", "permanent"],
        ),
        (
            &["DISK", "--max-sessions", "0"],
            &["limit of sessions is 0", "1 to 65535"],
        ),
        (
            &["DISK", "--max-logins", "0"],
            &["limit of logins is 0", "1 to 65535"],
        ),
        (
            &["DISK", "--max-commands", "100000"],
            &["limit of commands", "1 to 4096"],
        ),
        (
            &["DISK", "--max-memory", "1KiB"],
            &["limit of memory", "the least is 16"],
        ),
        (&["DISK", "--login-timeout", "0"], &["login", "1 to 3600"]),
    ];
    check(&Scene::new(), cases);
}

#[test]
fn bad_secrets_are_refused_with_the_cause_and_a_way_out() {
    let scene = Scene::new();
    for (name, text) in [
        ("long", &*"x".repeat(300)),
        ("short", "tooshort\n"),
        ("good", "correct horse battery\n"),
        ("same", "correct horse battery\n"),
        ("lines", "# who\nalice:correct horse battery\nbob\n"),
        (
            "twice",
            "alice:correct horse battery\nalice:another long secret\n",
        ),
        ("empty", "\n"),
        ("named", "alice:correct horse battery\n"),
    ] {
        scene.secret(name, text);
    }
    let file = "--chap-secret-file";
    let alice = ["DISK", "--chap-user", "alice", file];
    let of_alice = |secret| [&alice[..], &[secret]].concat();
    let [short, long, empty, lines, named, good] = [
        "FOLDER/short",
        "FOLDER/long",
        "FOLDER/empty",
        "FOLDER/lines",
        "FOLDER/named",
        "FOLDER/good",
    ]
    .map(of_alice);
    let both = [
        &good[..],
        &["--mutual-user", "t", "--mutual-secret-file", "FOLDER/same"],
    ]
    .concat();
    let half = [&good[..], &["--mutual-user", "t"]].concat();
    let hash = [&good[..], &["--chap-algorithms", "md5,md4"]].concat();
    let cases: &[Case<'_>] = &[
        (&["DISK", "--chap-user", "alice"], &["--chap-secret-file"]),
        (&["DISK", "--discovery-chap"], &["--chap-secret-file"]),
        (
            &["DISK", file, "FOLDER/good"],
            &["good:1", "not USER:SECRET"],
        ),
        (
            &["DISK", file, "FOLDER/lines"],
            &["lines:3", "not USER:SECRET"],
        ),
        (&["DISK", file, "FOLDER/twice"], &["two accounts", "alice"]),
        (&["DISK", file, "NONE"], &["cannot open", "none"]),
        (&short, &["short:1", "alice", "8 bytes", "at least 12"]),
        (&long, &["long:1", "300 bytes", "at most 255"]),
        (&empty, &["holds no secret"]),
        (&lines, &["lines:2", "second line"]),
        (&named, &["named:1", "part of the secret"]),
        (&both, &["each direction"]),
        (&half, &["--mutual-secret-file"]),
        (&hash, &["`md4` is no hash of CHAP", "sha3-256"]),
    ];
    check(&scene, cases);
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
