//! `vmthunder target`, `vmthunder iscsi` and `vmthunder image`, as users call them.
#![allow(clippy::unwrap_used, reason = "what a test cannot set up must end it")]

mod harness;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use harness::{EXTENT, PATIENCE, Running, Scene, attach, run, succeed};
use vmthunder_volume::{Class, Error, Span, Volume};

#[tokio::test]
async fn a_file_is_served_read_and_written() {
    let scene = Scene::new();
    let image = scene.image("disk.raw", 4);
    let path = scene.path("disk.raw").display().to_string();
    let target = Running::spawn(&["target", &path, "--listen", "127.0.0.1:0"]);
    let url = target.url();
    assert!(url.ends_with("/iqn.2026-11.org.vmthunder:disk/0"), "{url}");

    let disk = attach(&url).await;
    let whole = disk.geometry().whole();
    assert_eq!(disk.read(whole, Class::Demand).await.unwrap(), image);
    disk.write(1024, vec![7; 512].into()).await.unwrap();
    disk.flush().await.unwrap();
    assert_eq!(
        disk.read(Span::new(512, 1536), Class::Demand)
            .await
            .unwrap()[..],
        {
            let mut should = image[512..2048].to_vec();
            should[512..1024].fill(7);
            should
        }
    );
    disk.trim(Span::new(EXTENT as u64, EXTENT as u64))
        .await
        .unwrap();
    target.stop();
    let file = std::fs::read(scene.path("disk.raw")).unwrap();
    assert_eq!(file[1024..1536], [7; 512]);
    assert!(
        file[EXTENT..2 * EXTENT].iter().all(|byte| *byte == 0),
        "UNMAP punched a hole"
    );
    assert_eq!(file[2 * EXTENT..], image[2 * EXTENT..]);
}

#[tokio::test]
async fn several_files_are_several_units_and_read_only_is_refused_politely() {
    let scene = Scene::new();
    let images = [scene.image("a.raw", 1), scene.image("b.raw", 2)];
    let paths = ["a.raw", "b.raw"].map(|name| scene.path(name).display().to_string());
    let iqn = "iqn.2026-11.org.example:two";
    let target = Running::spawn(&[
        "target",
        &paths[0],
        &paths[1],
        "--iqn",
        iqn,
        "--read-only",
        "--listen",
        "127.0.0.1:0",
    ]);
    for image in images {
        let disk = attach(&target.url()).await;
        assert_eq!(
            disk.read(disk.geometry().whole(), Class::Demand)
                .await
                .unwrap(),
            image
        );
        assert!(disk.is_read_only());
        assert!(matches!(
            disk.write(0, vec![0; 512].into()).await,
            Err(Error::ReadOnly)
        ));
    }
    target.stop();
}

#[test]
fn the_initiator_s_commands_work_against_the_gateway() {
    let scene = Scene::new();
    let image = scene.image("disk.raw", 3);
    let path = scene.path("disk.raw").display().to_string();
    let target = Running::spawn(&["target", &path, "--listen", "127.0.0.1:0"]);
    let url = target.url();
    let portal = url.rsplitn(3, '/').last().unwrap().to_owned();

    assert!(
        succeed(&["iscsi", "discover", &portal]).starts_with("iqn.2026-11.org.vmthunder:disk\n")
    );
    assert!(succeed(&["iscsi", "inquiry", &url]).contains("gateway"));
    let capacity: serde_json::Value =
        serde_json::from_str(&succeed(&["iscsi", "capacity", &url, "--json"])).unwrap();
    assert_eq!(capacity["bytes"], 3 * EXTENT);
    let read = run(&["iscsi", "read", &url, "--lba", "8", "--blocks", "2"]);
    assert_eq!(read.stdout, &image[4096..5120]);
    let copy = scene.path("copy.raw");
    succeed(&["iscsi", "copy", &url, &copy.display().to_string()]);
    assert_eq!(std::fs::read(copy).unwrap(), image);
}

#[test]
fn what_cannot_run_says_why_and_exits_with_2() {
    let scene = Scene::new();
    let missing = scene.path("missing.raw").display().to_string();
    let folder = scene.folder.path().display().to_string();
    let secret = format!("iscsi://me%hush@{}", harness::free_address());
    let nobody = format!(
        "iscsi://{}/iqn.2026-11.org.example:x/0",
        harness::free_address()
    );
    for (args, cause) in [
        (vec!["target", &missing], "cannot open"),
        (vec!["iscsi", "read", "http://x"], "iscsi://"),
        (vec!["iscsi", "capacity", &nobody], "cannot log in"),
        (vec!["status", "--config", &missing], "cannot read"),
        (vec!["target", &folder, "--read-only"], "neither a file"),
        (vec!["--log", "loud", "status"], "[possible values: error,"),
        (vec!["iscsi", "discover", &secret], "iscsi://me@127"),
        (vec!["iscsi", "discover", "iscsi://me%hush@:0"], "port"),
    ] {
        let output = run(&args);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {errors}");
        assert!(errors.contains(cause), "{args:?}: {errors}");
        assert!(!errors.contains("hush"), "a secret was told: {errors}");
    }
}

#[test]
fn an_image_is_imported_and_a_changed_one_is_found_out() {
    let scene = Scene::new();
    let mut image = scene.image("disk.raw", 40);
    let path = scene.path("disk.raw").display().to_string();
    let root = succeed(&["image", "import", &path]);
    assert_eq!(root.split(' ').next().unwrap().len(), 64);
    assert!(succeed(&["image", "verify", &path]).contains(root.split(' ').next().unwrap()));

    image[5 * EXTENT + 17] ^= 1;
    std::fs::write(&path, &image).unwrap();
    let output = run(&["image", "verify", &path]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stdout).unwrap();
    std::fs::write(&path, &image[..EXTENT]).unwrap();
    assert_eq!(run(&["image", "verify", &path]).status.code(), Some(1));
    assert!(
        said.contains("extent 5") && said.contains(": 1 of "),
        "{said}"
    );
}

#[test]
fn the_log_says_why_a_connection_was_dropped_and_what_a_disk_lacks() {
    let scene = Scene::new();
    scene.image("disk.raw", 2);
    let path = scene.path("disk.raw");
    let log = scene.path("log");
    let mut target = Command::new(env!("CARGO_BIN_EXE_vmthunder"))
        .args(["target", "--listen", "127.0.0.1:0"])
        .arg(&path)
        .env_remove("RUST_LOG")
        .stdout(Stdio::piped())
        .stderr(std::fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let mut ready = String::new();
    let out = target.stdout.take().unwrap();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut ready).unwrap();
    let url = ready.trim().strip_prefix("ready ").unwrap().to_owned();
    let at = url.split('/').nth(2).unwrap().to_owned();

    // A Login Request of 16 MiB less one byte, and then one that has no data but is none.
    let mut long = [0; 48];
    (long[0], long[1]) = (0x43, 0x87);
    long[5..8].copy_from_slice(&[0xff, 0xff, 0xff]);
    for pdu in [long, [0; 48]] {
        let mut stream = TcpStream::connect(&at).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&pdu).unwrap();
        assert_eq!(stream.read(&mut [0; 48]).unwrap(), 0, "nothing is answered");
    }
    std::fs::File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(EXTENT as u64)
        .unwrap();
    let lost = run(&["iscsi", "read", &url, "--lba", "128"]);
    target.kill().unwrap();
    target.wait().unwrap();

    assert_eq!(lost.status.code(), Some(1), "the unit answered");
    let said = std::fs::read_to_string(&log).unwrap();
    for cause in [
        "a data segment of 16777215 bytes is longer than the 8192 declared",
        "its first PDU is no Login Request",
        "the volume fails",
    ] {
        assert!(said.contains(cause), "{said}");
    }
}
