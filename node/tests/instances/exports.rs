//! Instances as files, judged by QEMU where that is.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use vmthunder_volume::{Span, Volume};

use crate::harness::{EXTENT, succeed};
use crate::stage::{Away, Stage, read, write};

/// `qemu-img`, which must agree; false where there is none.
fn qemu_img(args: &[&str]) -> bool {
    match Command::new("qemu-img").args(args).output() {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            let errors = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{args:?}: {said}{errors}");
            true
        }
        Err(error) => {
            assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{error}");
            eprintln!("no qemu-img here: it judges nothing");
            false
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_becomes_a_raw_or_qcow2_file_that_says_the_same() {
    let stage = Stage::new(5);
    // Over the mapping of one L2 table (512 MiB), and not a whole number of clusters.
    let size = (600 << 20) + 4096;
    let disk = stage.create("vm", &["--size", &size.to_string()]).await;
    write(&disk, EXTENT / 2, vec![1; EXTENT]).await.unwrap();
    write(&disk, size - 4096, vec![2; 4096]).await.unwrap();
    write(&disk, 300 << 20, vec![0; EXTENT]).await.unwrap();
    disk.trim(Span::new(3 * EXTENT as u64, EXTENT as u64))
        .await
        .unwrap();
    stage.instance(&["snapshot", "vm", "then"]);
    let (raw, qcow2) = (stage.scene.arg("now.raw"), stage.scene.arg("now.qcow2"));
    let exported = stage.json(&["export", "vm", &raw]);
    // Four of the image's five extents, and the last cluster.
    assert_eq!(exported["written_bytes"], 5 * EXTENT);
    assert_eq!(exported["bytes"], size);
    stage.instance(&["export", "vm", &qcow2]);
    let odd = stage.scene.arg("raw-all-the-same.qcow2");
    stage.instance(&["export", "vm", &odd, "--format", "raw"]);
    assert_eq!(fs::metadata(&odd).unwrap().len(), size as u64);
    let found = fs::metadata(&raw).unwrap();
    assert_eq!(found.len(), size as u64);
    assert!(found.blocks() * 512 < 1 << 20, "{} blocks", found.blocks());
    let bytes = fs::read(&raw).unwrap();
    for (from, length) in [
        (0, 6 * EXTENT),
        (300 << 20, EXTENT),
        (size - EXTENT, EXTENT),
    ] {
        let read = read(&disk, from, length).await.unwrap();
        assert!(bytes[from..from + length] == read, "from {from}");
    }
    assert!(bytes[6 * EXTENT..size - 4096].iter().all(|byte| *byte == 0));
    assert!(fs::read(&qcow2).unwrap().starts_with(b"QFI\xfb"));
    if qemu_img(&["check", "-f", "qcow2", &qcow2]) {
        qemu_img(&["compare", "-f", "raw", "-F", "qcow2", &raw, &qcow2]);
        let info = Command::new("qemu-img")
            .args(["info", "--output=json", &qcow2])
            .output();
        let info: serde_json::Value = serde_json::from_slice(&info.unwrap().stdout).unwrap();
        assert_eq!(info["virtual-size"], size);
        assert_eq!(info["format-specific"]["data"]["compat"], "1.1");
    }

    write(&disk, 0, vec![9; EXTENT]).await.unwrap();
    let then = stage.scene.arg("then.raw");
    stage.instance(&["export", "vm", &then, "--snapshot", "then"]);
    assert!(fs::read(&then).unwrap() == bytes, "as it was");
    let said = stage.refused(&["export", "vm", &then]);
    assert!(said.contains("is there already"), "{said}");
    let said = stage.refused(&["export", "vm", &stage.scene.arg("no/where")]);
    assert!(said.contains("cannot write to"), "{said}");
    let said = stage.refused(&["export", "vm", &stage.scene.arg("x"), "--snapshot", "never"]);
    assert!(
        said.contains("no snapshot `never`; there are: then"),
        "{said}"
    );
    let left = fs::read_dir(stage.folder("vm")).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 3, "description, overlay, snapshots: {left:?}");
    let files = fs::read_dir(stage.scene.folder.path()).unwrap();
    let mut names = files.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(names.all(|name| !name.ends_with(".unfinished")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_is_elsewhere_is_fetched_for_an_export() {
    let away = Away::new(9, true, "");
    away.create("vm", &[]);
    let file = away.scene.arg("vm.qcow2");
    let config = away.config.clone();
    let export = [
        "instance", "export", "vm", &file, "--format", "qcow2", "--config", &config,
    ];
    assert!(succeed(&export).contains("vm.qcow2: a disk of 576.0 KiB"));
    if qemu_img(&["check", "-f", "qcow2", &file]) {
        let disk = away.scene.arg("disk.raw");
        qemu_img(&["compare", "-f", "raw", "-F", "qcow2", &disk, &file]);
    }
}

/// An instance that wrote nothing over an image of zeros: a file without data.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_of_zeros_is_a_file_of_tables() {
    let stage = Stage::zeroed(3);
    stage.create("vm", &[]).await;
    let file = stage.scene.arg("empty.qcow2");
    let exported = stage.json(&["export", "vm", &file, "--format", "qcow2"]);
    assert_eq!(exported["written_bytes"], 0);
    if qemu_img(&["check", "-f", "qcow2", &file]) {
        let disk = stage.scene.arg("disk.raw");
        qemu_img(&["compare", "-f", "raw", "-F", "qcow2", &disk, &file]);
    }
}
