//! Who may log in, and who is sent elsewhere.

use iscsi_initiator::Error;
use vmthunder_volume::{Class, Volume};

use crate::harness::{Running, Scene, attach, connect, refuse, succeed};

const SECRET: &str = "correct horse battery";

/// A URL with a user and a secret.
fn with(url: &str, user: &str) -> String {
    url.replace("iscsi://", &format!("iscsi://{user}@"))
}

fn portal(url: &str) -> &str {
    url.rsplitn(3, '/').last().unwrap()
}

async fn refused(url: &str) -> (u8, u8) {
    match connect(url).await {
        Err(Error::Refused(status)) => (status.class, status.detail),
        other => panic!("{url}: {other:?}"),
    }
}

#[tokio::test]
async fn who_knows_the_secret_gets_in_and_nobody_else() {
    let scene = Scene::new();
    let image = scene.image("disk.raw", 1);
    let secret = scene.secret("secret", SECRET);
    let (_target, url) = Running::target(&[
        &scene.arg("disk.raw"),
        "--chap-user",
        "alice",
        "--chap-secret-file",
        &secret,
    ]);
    let disk = attach(&with(&url, &format!("alice%{SECRET}"))).await;
    let whole = disk.geometry().whole();
    assert!(disk.read(whole, Class::Demand).await.unwrap() == image);

    // Class 2, detail 1: the initiator could not be authenticated (RFC 7143 §11.13.5).
    for user in ["alice%correct horse batter", &format!("bob%{SECRET}")] {
        assert_eq!(refused(&with(&url, user)).await, (2, 1));
    }
    connect(&url).await.unwrap_err();
    // Without --discovery-chap anybody may ask.
    assert!(succeed(&["iscsi", "discover", portal(&url)]).contains("vmthunder:disk\n"));
}

#[test]
fn secrets_come_from_files_in_both_directions() {
    let scene = Scene::new();
    scene.image("disk.raw", 1);
    let users = scene.secret(
        "users",
        "alice:correct horse battery\n\n# old\nbob:another long secret\n",
    );
    let (own, bob) = (
        scene.secret("own", "the target's own\n"),
        scene.secret("bob", "another long secret"),
    );
    let disk = scene.arg("disk.raw");
    let mut args = vec![
        disk.as_str(),
        "--chap-secret-file",
        &users,
        "--discovery-chap",
    ];
    args.extend(["--mutual-user", "gate", "--mutual-secret-file", &own]);
    args.extend(["--chap-algorithms", "sha3-256,sha256"]);
    let (_target, url) = Running::target(&args);
    let url = with(&url, "bob");
    let login = [
        "--chap-secret-file",
        &bob,
        "--mutual-user",
        "gate",
        "--mutual-secret-file",
    ];
    let ask = |mutual: &str| -> Vec<String> {
        let words = ["iscsi", "capacity", &url, "--json"]
            .into_iter()
            .chain(login)
            .chain([mutual]);
        words.map(str::to_owned).collect()
    };
    let words = ask(&own);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    assert!(succeed(&words).contains("65536"));
    let impostor = scene.secret("impostor", "not the target's own");
    let words = ask(&impostor);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    refuse(&words);

    assert!(refuse(&["iscsi", "discover", portal(&url)]).contains("--chap-secret-file"));
    let open = portal(&url).replace("bob@", "");
    refuse(&["iscsi", "discover", &open]);
    let found = succeed(&[
        "iscsi",
        "discover",
        portal(&url),
        "--chap-secret-file",
        &bob,
    ]);
    assert!(found.contains("vmthunder:disk\n"));
}

#[tokio::test]
async fn names_and_networks_choose_who_gets_in_and_who_finds_the_target() {
    let scene = Scene::new();
    scene.image("disk.raw", 1);
    let disk = scene.arg("disk.raw");
    let (_named, url) =
        Running::target(&[&disk, "--read-only", "--allow-initiator", "iqn.*:friend-?"]);
    // Class 2, detail 2: not authorized.
    assert_eq!(refused(&url).await, (2, 2));
    let friend = ["--initiator", "iqn.2026-11.org.example:friend-1"];
    let capacity = ["iscsi", "capacity", &url];
    succeed(&[&capacity[..], &friend].concat());
    let discover = ["iscsi", "discover", portal(&url)];
    assert_eq!(
        succeed(&discover),
        "",
        "who may not use it does not find it"
    );
    assert!(succeed(&[&discover[..], &friend].concat()).contains("vmthunder:disk"));

    let far = [&disk, "--read-only", "--allow-network", "192.0.2.0/24"];
    let (_far, url) = Running::target(&far);
    assert_eq!(refused(&url).await, (2, 2));
    let near = [&far[..], &["--allow-network", "127.0.0.0/8"]].concat();
    let (_near, url) = Running::target(&near);
    connect(&url).await.unwrap();
}

#[tokio::test]
async fn initiators_are_sent_to_another_portal() {
    let scene = Scene::new();
    let image = scene.image("disk.raw", 1);
    scene.image("empty.raw", 2);
    let name = "iqn.2026-11.org.example:moved";
    let (_there, there) = Running::target(&[&scene.arg("disk.raw"), "--iqn", name]);
    let address = there.split('/').nth(2).unwrap();
    let redirect = format!("{address},permanent,initiator=iqn.*:test");
    let (_here, here) = Running::target(&[
        &scene.arg("empty.raw"),
        "--iqn",
        name,
        "--redirect",
        &redirect,
    ]);
    let disk = attach(&here).await;
    let whole = disk.geometry().whole();
    assert!(disk.read(whole, Class::Demand).await.unwrap() == image);
    // Somebody else stays.
    assert!(succeed(&["iscsi", "capacity", &here, "--json"]).contains("131072"));
}
