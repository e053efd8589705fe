//! What a running gateway can be told and asked.

use iscsi_proto::scsi::Command;
use iscsi_proto::session::Transfer;
use iscsi_proto::wire::lun::Lun;
use serde_json::Value;
use vmthunder_volume::{Class, Span, Volume};

use crate::harness::{EXTENT, Running, Scene, attach, connect, refuse, run, succeed};

#[tokio::test]
async fn a_disk_grows_under_an_initiator_which_is_told() {
    let scene = Scene::new();
    scene.image("disk.raw", 2);
    let (disk, socket) = (scene.arg("disk.raw"), scene.arg("sock"));
    let (target, url) = Running::target(&[&disk, "--control", &socket]);
    let session = connect(&url).await.unwrap();
    let lun = Lun::from_number(0);
    let before = session.read_capacity(lun).await.unwrap();
    assert_eq!(before.blocks, 256);

    let resize = |size: &str| succeed(&["lun", "resize", "disk/0", size, "--control", &socket]);
    let said = resize("256KiB");
    assert!(said.contains("262144 bytes, 512 blocks of 512"), "{said}");
    let sense = async || {
        // Our initiator repeats what a unit attention interrupts, so it is asked for.
        let command = Command::RequestSense {
            descriptor: false,
            allocation: 18,
        };
        let transfer = Transfer::Read(18);
        let done = session.execute(lun, &command, transfer, Class::Demand);
        let bytes = done.await.unwrap().data;
        (bytes[2] & 0x0f, bytes[12], bytes[13])
    };
    // UNIT ATTENTION, CAPACITY DATA HAS CHANGED (SBC-3 §4.7), and then nothing.
    assert_eq!(sense().await, (0x06, 0x2a, 0x09));
    assert_eq!(sense().await, (0, 0, 0));
    assert_eq!(session.read_capacity(lun).await.unwrap().blocks, 512);
    let larger = attach(&url).await;
    let end = Span::new(3 * EXTENT as u64, EXTENT as u64);
    larger
        .write(end.offset(), vec![5; EXTENT].into())
        .await
        .unwrap();
    assert_eq!(
        larger.read(end, Class::Demand).await.unwrap(),
        vec![5; EXTENT]
    );

    // The same size again is nothing new.
    resize("256KiB");
    assert_eq!(sense().await, (0, 0, 0));
    assert_eq!(std::fs::metadata(&disk).unwrap().len(), 256 * 1024);
    target.stop();
    assert!(!scene.path("sock").exists());
}

#[tokio::test]
async fn a_disk_shrinks_only_when_that_is_meant() {
    let scene = Scene::new();
    scene.image("disk.raw", 2);
    let (disk, socket) = (scene.arg("disk.raw"), scene.arg("sock"));
    let (_target, url) = Running::target(&[&disk, "--control", &socket]);
    let resize = ["lun", "resize", &url, "64KiB", "--control", &socket];
    let said = refuse(&resize);
    assert!(
        said.contains("65536 bytes are less than the 131072") && said.contains("--shrink"),
        "{said}"
    );
    assert_eq!(std::fs::metadata(&disk).unwrap().len(), 131_072);
    succeed(&[&resize[..], &["--shrink"]].concat());
    assert_eq!(std::fs::metadata(&disk).unwrap().len(), 65_536);
    assert_eq!(attach(&url).await.geometry().bytes(), 65_536);

    // Without a size: what others did.
    let file = std::fs::File::options().write(true).open(&disk).unwrap();
    file.set_len(196_608).unwrap();
    assert!(succeed(&["lun", "resize", "disk", "--control", &socket]).contains("196608 bytes"));
    assert_eq!(attach(&url).await.geometry().bytes(), 196_608);
    for (which, size, cause) in [
        ("disk/1", "1MiB", "has no LUN 1"),
        (
            "disc/0",
            "1MiB",
            "no target of files is named `disc`; there are: iqn.2026-11.org.vmthunder:disk",
        ),
        ("disk/x", "1MiB", "`x` is no number of a LUN"),
        ("disk/0", "1000", "not one block or more of 512"),
    ] {
        let said = refuse(&["lun", "resize", which, size, "--control", &socket]);
        assert!(said.contains(cause), "{said}");
    }
}

#[test]
fn a_size_that_was_configured_is_recalled_when_it_changes() {
    let scene = Scene::new();
    let (disk, socket) = (scene.arg("disk.raw"), scene.arg("sock"));
    let (_target, _) = Running::target(&[&disk, "--size", "64KiB", "--control", &socket]);
    let output = run(&["lun", "resize", "disk", "128KiB", "--control", &socket]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("a size of 65536 bytes: say 131072"), "{said}");
}

#[tokio::test]
async fn a_gateway_tells_what_it_serves_to_whom() {
    let scene = Scene::new();
    scene.image("a.raw", 1);
    scene.image("b.raw", 2);
    let (a, b, socket) = (
        scene.arg("a.raw"),
        format!("{},ro,removable,block-size=4096", scene.arg("b.raw")),
        scene.arg("sock"),
    );
    let (_target, url) = Running::target(&[&a, &b, "--control", &socket]);
    let _session = connect(&url).await.unwrap();
    let status: Value =
        serde_json::from_str(&succeed(&["status", "--json", "--control", &socket])).unwrap();
    assert_eq!(status["sessions"], 1);
    assert_eq!(
        status["initiators"][0]["initiator"],
        "iqn.2026-11.org.vmthunder:test"
    );
    assert_eq!(
        status["initiators"][0]["target"],
        "iqn.2026-11.org.vmthunder:a"
    );
    let luns: Value =
        serde_json::from_str(&succeed(&["lun", "list", "--json", "--control", &socket])).unwrap();
    assert_eq!(
        (&luns[0]["lun"], &luns[0]["bytes"], &luns[0]["thin"]),
        (&0.into(), &65_536.into(), &true.into())
    );
    assert_eq!(
        (
            &luns[1]["block_bytes"],
            &luns[1]["read_only"],
            &luns[1]["removable"]
        ),
        (&4096.into(), &true.into(), &true.into())
    );
    assert_eq!(luns[0]["urls"][0], url.as_str());
    let shown = succeed(&["lun", "list", "--control", &socket]);
    assert!(shown.contains("thin, read-only, removable"), "{shown}");
    assert!(succeed(&["status", "--control", &socket]).contains("iqn.2026-11.org.vmthunder:test"));
    let said = refuse(&[
        "instance",
        "create",
        "x",
        "--image",
        "y",
        "--control",
        &socket,
    ]);
    assert!(said.contains("no image `y`"), "{said}");
}

#[test]
fn who_asks_nobody_is_told_how_to_ask() {
    let scene = Scene::new();
    let socket = scene.arg("sock");
    let said = refuse(&["lun", "list", "--control", &socket]);
    assert!(
        said.contains("nobody answers") && said.contains("--control"),
        "{said}"
    );
    let said = refuse(&["lun", "list", "--config", &scene.arg("none.toml")]);
    assert!(said.contains("--control SOCKET"), "{said}");
}
