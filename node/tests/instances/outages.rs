//! The origin is away: what guests see, and what a node that starts meanwhile serves.

use std::time::Duration;

use vmthunder_volume::{Class, Error, Span, Volume};

use crate::harness::{EXTENT, PATIENCE, attach, succeed};
use crate::stage::{Away, read, write};

/// The bytes of an extent of the image.
fn extent(away: &Away, index: usize) -> &[u8] {
    &away.image[index * EXTENT..(index + 1) * EXTENT]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guests_wait_or_fail_as_their_policy_says() {
    let mut away = Away::new(16, true, "");
    let waiting = attach(&away.create("waiting", &[])).await;
    let failing = attach(&away.create("failing", &["--outage", "1s"])).await;
    assert_eq!(read(&failing, 0, EXTENT).await.unwrap(), extent(&away, 0));
    away.origin.take().unwrap().kill();
    let told = |read: &Result<_, Error>| {
        matches!(
            read,
            Err(Error::Device {
                key: 4,
                asc: 8,
                ascq: 0
            })
        )
    };
    let late = read(&failing, 3 * EXTENT, EXTENT).await;
    assert!(told(&late), "{late:?}");
    assert_eq!(
        read(&failing, 0, EXTENT).await.unwrap(),
        extent(&away, 0),
        "what is cached"
    );
    write(&failing, 3 * EXTENT, vec![7; EXTENT])
        .await
        .expect("no write needs the image");
    assert_eq!(
        read(&failing, 3 * EXTENT, EXTENT).await.unwrap(),
        vec![7; EXTENT]
    );

    // One waits, is given up by its guest, and asked for again: the next joins what is under way.
    let span = Span::new(5 * EXTENT as u64, EXTENT as u64);
    let given_up = tokio::time::timeout(
        Duration::from_millis(500),
        waiting.read(span, Class::Demand),
    );
    assert!(given_up.await.is_err(), "it waits");
    write(&waiting, 0, vec![1; 512])
        .await
        .expect("the session goes on");
    let again = read(&waiting, 5 * EXTENT, EXTENT);
    let back = async {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        away.start_origin();
    };
    let (again, ()) = tokio::join!(again, back);
    assert_eq!(again.unwrap(), extent(&away, 5));
    assert_eq!(
        read(&failing, 6 * EXTENT, EXTENT).await.unwrap(),
        extent(&away, 6)
    );

    let config = away.config.clone();
    let change = [
        "instance", "change", "waiting", "--outage", "1s", "--config", &config,
    ];
    succeed(&change);
    away.origin.take().unwrap().kill();
    let late = read(&waiting, 9 * EXTENT, EXTENT).await;
    assert!(told(&late), "{late:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_has_a_policy_of_its_own() {
    let mut away = Away::new(8, true, "outage = \"1s\"\n");
    let disk = attach(&away.create("vm", &[])).await;
    let shown = ["instance", "show", "vm", "--json", "--config", &away.config];
    let shown: serde_json::Value = serde_json::from_str(&succeed(&shown)).unwrap();
    assert_eq!(shown["outage"], "1s");
    away.origin.take().unwrap().kill();
    let late = read(&disk, 0, EXTENT).await;
    assert!(
        matches!(
            late,
            Err(Error::Device {
                key: 4,
                asc: 8,
                ascq: 0
            })
        ),
        "{late:?}"
    );
}

async fn a_restart_without_the_origin(sealed: bool) {
    let mut away = Away::new(16, sealed, "");
    let disk = attach(&away.create("vm", &[])).await;
    for index in 0..8 {
        assert_eq!(
            read(&disk, index * EXTENT, EXTENT).await.unwrap(),
            extent(&away, index)
        );
    }
    write(&disk, 4096, vec![3; 8192]).await.unwrap();
    away.filled(8 + u64::from(sealed)).await;
    away.origin.take().unwrap().kill();
    away.node.take().unwrap().kill();
    let node = away.serve();
    node.url();
    away.node = Some(node);
    assert_eq!(away.status()["images"][0]["origin"]["state"], "away");
    let first = read(&disk, 0, EXTENT).await.unwrap();
    assert_eq!(first[4096..12288], [3; 8192]);
    assert_eq!(first[12288..], extent(&away, 0)[12288..]);
    for index in 1..8 {
        assert_eq!(
            read(&disk, index * EXTENT, EXTENT).await.unwrap(),
            extent(&away, index)
        );
    }
    let from_afar = read(&disk, 12 * EXTENT, EXTENT);
    let back = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        away.start_origin();
    };
    let (from_afar, ()) = tokio::join!(from_afar, back);
    assert_eq!(from_afar.unwrap(), extent(&away, 12));
    assert_eq!(away.status()["images"][0]["origin"]["state"], "here");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_starts_without_its_origin_serves_what_it_has() {
    a_restart_without_the_origin(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_without_a_manifest() {
    a_restart_without_the_origin(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_was_never_seen_keeps_no_other_from_being_served() {
    let mut away = Away::without_node(4, true, "[[image]]\nname = \"here\"\nfile = \"disk.raw\"\n");
    away.origin.take().unwrap().kill();
    let node = away.serve();
    assert!(node.url().ends_with(":image.here/0"));
    let status = away.status();
    assert_eq!(status["awaited"][0]["name"], "disk");
    let config = away.config.clone();
    let create = [
        "instance", "create", "vm", "--image", "disk", "--config", &config,
    ];
    let refused = crate::harness::refuse(&create);
    assert!(refused.contains("`disk` is not there yet"), "{refused}");
    away.start_origin();
    assert!(
        node.url().ends_with(":image.disk/0"),
        "it comes when its origin does"
    );
    let disk = attach(&away.create("vm", &[])).await;
    assert_eq!(read(&disk, 0, EXTENT).await.unwrap(), extent(&away, 0));
    assert!(away.status()["awaited"].as_array().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_origin_that_comes_back_with_other_content_is_not_mixed_in() {
    let mut away = Away::new(8, true, "");
    let disk = attach(&away.create("vm", &["--outage", "2s"])).await;
    assert_eq!(read(&disk, 0, EXTENT).await.unwrap(), extent(&away, 0));
    away.filled(2).await;
    away.origin.take().unwrap().kill();
    away.node.take().unwrap().kill();
    let node = away.serve();
    node.url();
    let other: Vec<u8> = away.image.iter().map(|byte| !byte).collect();
    std::fs::write(away.scene.path("disk.raw"), other).unwrap();
    succeed(&["image", "import", &away.scene.arg("disk.raw")]);
    away.start_origin();
    let late = read(&disk, 4 * EXTENT, EXTENT).await;
    assert!(late.is_err(), "nothing of the new content");
    assert_eq!(read(&disk, 0, EXTENT).await.unwrap(), extent(&away, 0));
    assert_eq!(away.status()["images"][0]["origin"]["state"], "away");
    drop(node);
}

/// The daemon dies under a guest that reads and writes, with its origin there or not: the guest sees no error.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deaths_of_the_daemon_are_pauses_for_its_guests() {
    let mut away = Away::new(16, true, "");
    let disk = attach(&away.create("vm", &[])).await;
    for index in 0..16 {
        read(&disk, index * EXTENT, EXTENT).await.unwrap();
    }
    away.filled(17).await;
    let guest = tokio::spawn({
        let (disk, image) = (disk.clone(), away.image.clone());
        async move {
            let mut own = [None; 16];
            for step in 0..400_usize {
                let (index, byte) = (step * 7 % 16, u8::try_from(step % 251).unwrap());
                if step % 3 == 0 {
                    write(&disk, index * EXTENT, vec![byte; EXTENT])
                        .await
                        .unwrap();
                    own[index] = Some(byte);
                } else {
                    let read = read(&disk, index * EXTENT, EXTENT).await.unwrap();
                    let right = match own[index] {
                        Some(byte) => read == vec![byte; EXTENT],
                        None => read == image[index * EXTENT..(index + 1) * EXTENT],
                    };
                    assert!(right, "extent {index} at step {step}");
                }
            }
        }
    });
    for round in 0..4 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        if round == 2 {
            away.origin.take().unwrap().kill();
        }
        away.node.take().unwrap().kill();
        let node = away.serve();
        node.url();
        away.node = Some(node);
    }
    tokio::time::timeout(2 * PATIENCE, guest)
        .await
        .expect("in time")
        .unwrap();
}
