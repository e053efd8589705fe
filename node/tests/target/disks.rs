//! Options of disks.

use bytes::Bytes;
use iscsi_proto::scsi::Command;
use iscsi_proto::session::Transfer;
use vmthunder_volume::{BlockSize, Class, Error, Span, Volume};

use crate::harness::{EXTENT, Running, Scene, attach, connect, lun, refuse};

/// Standard INQUIRY data as it came.
async fn inquiry(url: &str) -> Bytes {
    let session = connect(url).await.unwrap();
    let command = Command::Inquiry {
        page: None,
        allocation: 96,
    };
    let transfer = Transfer::Read(96);
    let done = session.execute(lun(url), &command, transfer, Class::Demand);
    done.await.unwrap().data
}

#[tokio::test]
async fn each_file_is_served_as_its_options_say_and_else_as_all_are() {
    let scene = Scene::new();
    let images = ["a.raw", "b.raw"].map(|name| scene.image(name, 2));
    let a = format!("{},ro,lun=7,serial=DISK-7", scene.arg("a.raw"));
    let b = format!("{},block-size=512,fixed,full", scene.arg("b.raw"));
    let args = ["--block-size", "4096", "--removable", &a, &b];
    let (target, url_b) = Running::target(&args);
    let url_a = target.url();
    assert!(url_b.ends_with("vmthunder:a/1") && url_a.ends_with("vmthunder:a/7"));

    let (a, b) = (attach(&url_a).await, attach(&url_b).await);
    assert_eq!(a.geometry().block_size(), BlockSize::B4096);
    assert_eq!(b.geometry().block_size(), BlockSize::B512);
    for (disk, image) in [(&a, &images[0]), (&b, &images[1])] {
        let whole = disk.geometry().whole();
        assert!(disk.read(whole, Class::Demand).await.unwrap() == image[..]);
    }
    assert!(a.is_read_only() && !b.is_read_only());
    let zeros = Bytes::from(vec![0; 4096]);
    assert!(matches!(
        a.write(0, zeros.clone()).await,
        Err(Error::ReadOnly)
    ));
    b.write(0, zeros).await.unwrap();

    // RMB is the highest bit of byte 1 (SPC-4 §6.6.2).
    assert_eq!(inquiry(&url_a).await[1] & 0x80, 0x80, "removable");
    assert_eq!(inquiry(&url_b).await[1] & 0x80, 0, "fixed");
    let serial = connect(&url_a).await.unwrap();
    let page = serial.vital_page(lun(&url_a), 0x80).await.unwrap();
    assert_eq!(page.unwrap()[4..], b"DISK-7"[..]);
    target.stop();
}

/// An initiator with multipath would join two disks of one identity into one.
#[tokio::test]
async fn files_of_one_name_in_two_folders_are_two_disks_again_and_again() {
    let mut serials = Vec::new();
    for scene in [Scene::new(), Scene::new()] {
        scene.image("disk.raw", 1);
        for _ in 0..2 {
            let (target, url) = Running::target(&[&scene.arg("disk.raw")]);
            let session = connect(&url).await.unwrap();
            let page = session.vital_page(lun(&url), 0x80).await.unwrap();
            serials.push(page.unwrap()[4..].to_vec());
            target.stop();
        }
    }
    assert_eq!(serials[0], serials[1], "the same after a restart");
    assert_eq!(serials[2], serials[3], "the same after a restart");
    assert_ne!(serials[0], serials[2]);
}

#[tokio::test]
async fn a_thin_disk_gives_space_back_and_a_full_one_keeps_it() {
    use std::os::unix::fs::MetadataExt;
    let scene = Scene::new();
    let [thin, full] = ["thin", "full"].map(|name| format!("{},{name}", scene.arg(name)));
    let (target, url) = Running::target(&["--size", "1MiB", &thin, &full]);
    let (thin, full) = (attach(&url).await, attach(&target.url()).await);
    let taken = |name| std::fs::metadata(scene.path(name)).unwrap().blocks() * 512;
    assert_eq!(thin.geometry().bytes(), 1 << 20);
    assert!(taken("thin") < 1 << 20);
    assert!(taken("full") >= 1 << 20);
    for disk in [&thin, &full] {
        let written = disk.write(0, vec![7; EXTENT].into());
        written.await.unwrap();
    }
    let span = Span::new(0, EXTENT as u64);
    thin.trim(span).await.unwrap();
    assert!(matches!(full.trim(span).await, Err(Error::Unsupported)));
    assert_eq!(
        full.read(span, Class::Demand).await.unwrap(),
        vec![7; EXTENT]
    );
    target.stop();
    assert!(taken("full") >= 1 << 20);
}

#[tokio::test]
async fn a_missing_file_is_created_and_one_that_is_there_is_left_as_it_is() {
    let scene = Scene::new();
    let path = scene.arg("new.raw");
    let (target, url) = Running::target(&["--size", "256KiB", &path]);
    let disk = attach(&url).await;
    assert_eq!(disk.geometry().bytes(), 256 * 1024);
    disk.write(512, vec![9; 512].into()).await.unwrap();
    disk.flush().await.unwrap();
    target.stop();

    let other = ["target", "--listen", "127.0.0.1:0", &path, "--size", "1MiB"];
    let said = refuse(&other);
    assert!(
        said.contains("has 262144 bytes, not the 1048576") && said.contains("lun resize"),
        "{said}"
    );
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 256 * 1024);
    let (_target, url) = Running::target(&["--size", "256KiB", &path]);
    let disk = attach(&url).await;
    let read = disk.read(Span::new(512, 512), Class::Demand).await.unwrap();
    assert_eq!(read, vec![9; 512]);
}

#[tokio::test]
async fn a_file_has_one_writer_and_a_second_gateway_is_told() {
    let scene = Scene::new();
    scene.image("disk.raw", 1);
    let path = scene.arg("disk.raw");
    let (writer, _) = Running::target(&[&path]);
    let second = ["target", "--listen", "127.0.0.1:0", &path];
    let said = refuse(&second);
    assert!(
        said.contains(&format!("cannot open {path}: in use: another program")),
        "{said}"
    );
    let reader = ["target", "--listen", "127.0.0.1:0", &path, "--read-only"];
    let said = refuse(&reader);
    assert!(
        said.contains("another program has it open for writing"),
        "{said}"
    );
    // Whoever dies leaves no lock behind.
    writer.kill();
    let (_one, _) = Running::target(&["--read-only", &path]);
    let (_two, url) = Running::target(&["--read-only", &path]);
    attach(&url).await;
}
