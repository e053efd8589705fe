//! Instances are turned off and on under their guests: the origin goes, the cache goes, the node dies, the disk rots.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use iscsi_initiator::Remote;
use serde_json::Value;
use vmthunder_volume::Volume;

use crate::harness::{EXTENT, PATIENCE, attach, refuse, succeed};
use crate::stage::{Away, Background, Stage, read, write};

impl Away {
    fn turn(&self, args: &[&str]) -> Value {
        let mut all = vec!["instance"];
        all.extend(args);
        all.extend(["--json", "--config", &self.config]);
        serde_json::from_str(&succeed(&all)).unwrap()
    }

    fn refused(&self, args: &[&str]) -> String {
        let mut all = vec!["instance"];
        all.extend(args);
        all.extend(["--config", &self.config]);
        let output = crate::harness::run(&all);
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// The folders of copies.
    fn copies(&self) -> Vec<PathBuf> {
        match fs::read_dir(self.scene.path("node.data/local")) {
            Ok(entries) => entries.map(|entry| entry.unwrap().path()).collect(),
            Err(_) => Vec::new(),
        }
    }

    fn restart(&mut self) {
        if let Some(node) = self.node.take() {
            node.kill();
        }
        let node = self.serve();
        node.url();
        self.node = Some(node);
    }

    /// Waits until an instance reads from its copy.
    fn is_off(&self, name: &str) -> Value {
        let started = Instant::now();
        loop {
            let now = self.turn(&["show", name]);
            if now["local"]["state"] == "complete" {
                return now;
            }
            assert!(started.elapsed() < PATIENCE, "it is not turned off: {now}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A guest that reads and writes, and knows what must come back.
struct Guest {
    disk: Remote,
    image: Vec<u8>,
    own: Vec<Option<u8>>,
}

impl Guest {
    fn new(disk: Remote, image: &[u8]) -> Self {
        Self {
            disk,
            image: image.to_owned(),
            own: vec![None; image.len() / EXTENT],
        }
    }

    async fn step(&mut self, step: usize) {
        let index = step * 7 % self.own.len();
        let byte = u8::try_from(step % 251).unwrap();
        // A part of the extents is never written: those are the image's.
        if step.is_multiple_of(3) && index.is_multiple_of(2) {
            let own = vec![byte; EXTENT];
            write(&self.disk, index * EXTENT, own).await.unwrap();
            self.own[index] = Some(byte);
        } else {
            self.check(index).await;
        }
    }

    async fn check(&self, index: usize) {
        let read = read(&self.disk, index * EXTENT, EXTENT).await.unwrap();
        let right = match self.own[index] {
            Some(byte) => read == vec![byte; EXTENT],
            None => read == self.image[index * EXTENT..(index + 1) * EXTENT],
        };
        assert!(right, "extent {index} is wrong");
    }

    async fn check_all(&self) {
        for index in 0..self.own.len() {
            self.check(index).await;
        }
    }

    /// Goes on until it is told to end.
    fn run(mut self, end: &Arc<AtomicBool>) -> tokio::task::JoinHandle<Self> {
        let end = Arc::clone(end);
        tokio::spawn(async move {
            let mut step = 0;
            while !end.load(Ordering::Relaxed) {
                self.step(step).await;
                step += 1;
            }
            self
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_goes_on_while_everything_but_its_node_goes() {
    let mut away = Away::new(64, true, "");
    let guest = Guest::new(attach(&away.create("vm", &[])).await, &away.image);
    let end = Arc::new(AtomicBool::new(false));
    let guest = guest.run(&end);

    let off = away.turn(&["turn-off", "vm"]);
    assert_eq!(off["local"]["state"], "complete", "{off}");
    assert_eq!(off["local"]["total_bytes"], 64 * EXTENT);
    let again = away.turn(&["turn-off", "vm"]);
    assert_eq!(
        again["local"]["fetched_bytes"],
        off["local"]["fetched_bytes"]
    );
    away.origin.take().unwrap().kill();
    away.node.take().unwrap().kill();
    fs::remove_file(away.scene.path("node.data/cache")).unwrap();
    fs::remove_dir_all(away.scene.path("node.data/images")).unwrap();
    away.restart();
    let shown = away.is_off("vm");
    assert_eq!(shown["state"], "served", "{shown}");
    assert!(!guest.is_finished(), "it goes on");
    tokio::time::sleep(Duration::from_millis(300)).await;

    let said = away.refused(&["turn-on", "vm"]);
    assert!(said.contains("stays turned off"), "{said}");
    away.start_origin();
    let started = Instant::now();
    while away.status()["images"].as_array().unwrap().is_empty() {
        assert!(started.elapsed() < PATIENCE, "the image does not come");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let on = away.turn(&["turn-on", "vm"]);
    assert_eq!(on["local"], Value::Null, "{on}");
    assert!(away.copies().is_empty());
    away.turn(&["turn-on", "vm"]);
    tokio::time::sleep(Duration::from_millis(300)).await;
    end.store(true, Ordering::Relaxed);
    let guest = tokio::time::timeout(PATIENCE, guest)
        .await
        .expect("in time")
        .unwrap();
    guest.check_all().await;
    let from_origin = away.status()["images"][0]["from_origin"].as_u64().unwrap();
    assert!(from_origin > 0, "it reads from the origin again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_death_at_any_point_of_turning_off_loses_nothing_and_fetches_nothing_twice() {
    const EXTENTS: usize = 48;
    let mut away = Away::new(EXTENTS, true, "");
    let mut guest = Guest::new(attach(&away.create("vm", &[])).await, &away.image);
    let mut step = 0;
    // Killed when so many extents are there; the last when it is all there and its name is to change.
    for there in [0, 1, 12, 40, EXTENTS] {
        let rate = "4MiB";
        let config = away.config.clone();
        let command = Background::start(&[
            "instance", "turn-off", "vm", "--rate", rate, "--config", &config,
        ]);
        let started = Instant::now();
        let mut done = 0;
        let fetched = loop {
            for _ in 0..2 {
                guest.step(step).await;
                step += 1;
            }
            let local = &away.turn(&["show", "vm"])["local"];
            if let Some(now) = local["done_bytes"].as_u64() {
                done = done.max(now);
                if done >= (there * EXTENT) as u64 {
                    break local["fetched_bytes"].as_u64().unwrap();
                }
            }
            assert!(started.elapsed() < PATIENCE, "it does not go on");
        };
        away.restart();
        drop(command);
        let shown = away.is_off("vm");
        let again = shown["local"]["fetched_bytes"].as_u64().unwrap();
        let all = (EXTENTS * EXTENT) as u64;
        assert!(
            again <= all - fetched,
            "{again} were fetched after {fetched} of {all} were there"
        );
        guest.check_all().await;

        // Killed while it is turned on: it is one or the other, and both are whole.
        let command = Background::start(&["instance", "turn-on", "vm", "--config", &config]);
        tokio::time::sleep(Duration::from_millis(there as u64)).await;
        away.restart();
        drop(command);
        guest.check_all().await;
        let shown = away.turn(&["show", "vm"]);
        match shown["local"].is_null() {
            true => assert!(away.copies().is_empty()),
            false => {
                assert_eq!(shown["local"]["state"], "complete");
                away.turn(&["turn-on", "vm"]);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_share_one_copy_until_the_last_is_turned_on() {
    let mut away = Away::new(32, true, "");
    for name in ["a", "b", "c"] {
        away.create(name, &[]);
    }
    let first = away.turn(&["turn-off", "a"]);
    let second = away.turn(&["turn-off", "b"]);
    assert_eq!(
        first["local"]["fetched_bytes"],
        second["local"]["fetched_bytes"]
    );
    away.turn(&["turn-off", "c", "--no-wait"]);
    assert_eq!(away.copies().len(), 1);
    let listed = succeed(&["instance", "list", "--config", &away.config]);
    assert_eq!(listed.matches("served, off").count(), 3, "{listed}");
    away.turn(&["turn-on", "a"]);
    assert_eq!(away.copies().len(), 1, "two use it");
    // A reset changes nothing about that.
    succeed(&["instance", "reset", "b", "--config", &away.config]);
    away.restart();
    assert_eq!(away.turn(&["show", "a"])["local"], Value::Null);
    assert_eq!(away.turn(&["show", "b"])["local"]["state"], "complete");
    succeed(&["instance", "remove", "b", "--config", &away.config]);
    assert_eq!(away.copies().len(), 1, "one uses it");
    away.origin.take().unwrap().kill();
    let disk = attach(away.turn(&["show", "c"])["urls"][0].as_str().unwrap()).await;
    assert_eq!(read(&disk, 0, EXTENT).await.unwrap(), away.image[..EXTENT]);
    away.turn(&["turn-on", "c"]);
    assert!(away.copies().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_rotted_on_the_disk_is_fetched_again_and_never_answered() {
    let mut away = Away::new(16, true, "");
    let disk = attach(&away.create("vm", &["--outage", "1s"])).await;
    away.turn(&["turn-off", "vm"]);
    away.origin.take().unwrap().kill();
    away.node.take().unwrap().kill();
    fs::remove_file(away.scene.path("node.data/cache")).unwrap();
    let path = away.copies().pop().unwrap().join("image");
    let mut bytes = fs::read(&path).unwrap();
    bytes[5 * EXTENT + 99] ^= 4;
    fs::write(&path, &bytes).unwrap();
    away.restart();
    let extent = |index: usize| index * EXTENT..(index + 1) * EXTENT;
    let rotten = read(&disk, 5 * EXTENT, 4096).await;
    assert!(rotten.is_err(), "nobody has it, and what is here is wrong");
    assert_eq!(
        read(&disk, 4 * EXTENT, EXTENT).await.unwrap(),
        away.image[extent(4)]
    );
    away.start_origin();
    let started = Instant::now();
    while read(&disk, 5 * EXTENT, EXTENT).await.is_err() {
        assert!(started.elapsed() < PATIENCE, "the origin is back");
    }
    assert_eq!(
        read(&disk, 5 * EXTENT, EXTENT).await.unwrap(),
        away.image[extent(5)]
    );
    assert_eq!(away.turn(&["show", "vm"])["local"]["rotten_extents"], 1);
    assert_eq!(fs::read(&path).unwrap(), away.image, "it is put right");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_turned_off_is_refused_with_the_reason() {
    let stage = Stage::new(2);
    stage.create("vm", &[]).await.flush().await.unwrap();
    let said = stage.refused(&["turn-off", "vm"]);
    assert!(said.contains("is a file of this node"), "{said}");
    let said = stage.refused(&["turn-off", "none"]);
    assert!(said.contains("there is no instance `none`"), "{said}");

    let away = Away::new(2, false, "");
    away.create("vm", &[]);
    let said = away.refused(&["turn-off", "vm"]);
    assert!(
        said.contains("has no manifest") && said.contains("image import"),
        "{said}"
    );
    let said = away.refused(&["turn-off", "vm", "--rate", "100"]);
    assert!(said.contains("too few"), "{said}");
    assert!(away.copies().is_empty());
}

/// A manifest of a disk that fits nowhere: every extent has the same hash.
fn manifest_of(bytes: u64) -> Vec<u8> {
    let pages = bytes.div_ceil(2048 * EXTENT as u64);
    let page = [7; EXTENT];
    let mut head = b"VMTHUNDR\x01\0\0\0\0\x02\0\0".to_vec();
    head.extend(bytes.to_le_bytes());
    head.extend(65_536_u32.to_le_bytes());
    head.extend(u32::try_from(pages).unwrap().to_le_bytes());
    let hashes = blake3::hash(&page)
        .as_bytes()
        .repeat(usize::try_from(pages).unwrap());
    let root = blake3::hash(&[head.as_slice(), &hashes].concat());
    head.extend(root.as_bytes());
    head.extend(hashes);
    head.resize(head.len().next_multiple_of(EXTENT), 0);
    (0..pages).for_each(|_| head.extend(page));
    head
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_without_room_is_found_before_anything_is_changed() {
    let away = Away::over(|scene| {
        let free = rustix::fs::statvfs(scene.folder.path()).unwrap();
        let bytes = (free.f_bavail * free.f_frsize + (1 << 30)).next_multiple_of(1 << 27);
        let disk = fs::File::create(scene.path("disk.raw")).unwrap();
        disk.set_len(bytes).unwrap();
        fs::write(scene.path("disk.raw.manifest"), manifest_of(bytes)).unwrap();
        Vec::new()
    });
    let url = away.create("vm", &[]);
    let said = away.refused(&["turn-off", "vm"]);
    assert!(
        said.contains("`vm` was not turned off") && said.contains("no room"),
        "{said}"
    );
    assert!(away.copies().is_empty(), "nothing is left");
    assert_eq!(away.turn(&["show", "vm"])["local"], Value::Null);
    let disk = attach(&url).await;
    write(&disk, 0, vec![1; 4096]).await.unwrap();
    assert_eq!(read(&disk, 0, 4096).await.unwrap(), vec![1; 4096]);
    let config = away.config.clone();
    let said = refuse(&["instance", "turn-off", "vm", "--config", &config]);
    assert!(said.contains("no room"), "{said}");
}
