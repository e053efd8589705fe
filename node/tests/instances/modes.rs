//! Images are used in other ways under their guests: straight from the origin, or from the node's disk alone.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{EXTENT, PATIENCE, attach, refuse, succeed};
use crate::stage::{Away, Stage, read, write};

impl Away {
    fn image(&self, args: &[&str]) -> Value {
        let mut all = vec!["image"];
        all.extend(args);
        all.extend(["--json", "--config", &self.config]);
        serde_json::from_str(&succeed(&all)).unwrap()
    }

    fn counted(&self, source: &str) -> u64 {
        self.status()["images"][0][source].as_u64().unwrap()
    }

    fn start_again(&mut self) {
        self.node.take().unwrap().kill();
        let node = self.serve();
        node.url();
        self.node = Some(node);
    }

    fn sessions_at_origin(&self) -> u64 {
        let status = succeed(&["status", "--json", "--config", &self.origin_config]);
        let status: Value = serde_json::from_str(&status).unwrap();
        status["sessions"].as_u64().unwrap()
    }
}

fn extent(away: &Away, index: usize) -> &[u8] {
    &away.image[index * EXTENT..(index + 1) * EXTENT]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passthrough_asks_the_origin_alone_and_is_kept() {
    let mut away = Away::new(16, true, "");
    let disk = attach(&away.create("vm", &[])).await;
    for index in 0..8 {
        assert_eq!(
            read(&disk, index * EXTENT, EXTENT).await.unwrap(),
            extent(&away, index)
        );
    }
    away.filled(9).await;
    assert_eq!(
        away.image(&["mode", "disk", "passthrough"])["mode"],
        "passthrough"
    );
    for round in 0..2 {
        let before = (away.counted("from_cache"), away.counted("from_origin"));
        for index in 0..16 {
            assert_eq!(
                read(&disk, index * EXTENT, EXTENT).await.unwrap(),
                extent(&away, index)
            );
        }
        let now = (away.counted("from_cache"), away.counted("from_origin"));
        assert_eq!(now.0, before.0, "the cache is not asked in round {round}");
        assert!(
            now.1 - before.1 >= 16 * EXTENT as u64,
            "everything comes from the origin"
        );
        write(&disk, 15 * EXTENT + round * 4096, vec![5; 4096])
            .await
            .unwrap();
        write(
            &disk,
            15 * EXTENT + round * 4096,
            extent(&away, 15)[round * 4096..][..4096].to_vec(),
        )
        .await
        .unwrap();
        away.start_again();
        assert_eq!(
            away.status()["images"][0]["mode"],
            "passthrough",
            "it is kept"
        );
    }
    assert_eq!(away.image(&["mode", "disk", "normal"])["mode"], "normal");
    let before = (away.counted("from_cache"), away.counted("from_origin"));
    for index in 0..8 {
        assert_eq!(
            read(&disk, index * EXTENT, EXTENT).await.unwrap(),
            extent(&away, index)
        );
    }
    let now = (away.counted("from_cache"), away.counted("from_origin"));
    assert!(
        now.0 > before.0 && now.1 == before.1,
        "what was cached is used again"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_released_image_needs_nobody_through_deaths_and_comes_back() {
    let mut away = Away::new(48, true, "");
    let disk = attach(&away.create("vm", &[])).await;
    let url = away.status()["images"][0]["urls"][0]
        .as_str()
        .unwrap()
        .to_owned();
    let image = attach(&url).await;
    write(&disk, 4096, vec![7; 4096]).await.unwrap();
    away.image(&["release", "disk", "--no-wait", "--rate", "2MiB"]);
    let started = Instant::now();
    let done = |away: &Away| away.status()["images"][0]["local"]["done_bytes"].as_u64();
    while done(&away).unwrap() < 10 * EXTENT as u64 {
        assert!(started.elapsed() < PATIENCE, "it does not begin");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    away.start_again();
    let released = away.image(&["release", "disk", "--rate", "100MiB"]);
    assert_eq!(released["local"]["state"], "complete", "{released}");
    assert!(
        released["local"]["fetched_bytes"].as_u64().unwrap() <= 38 * EXTENT as u64,
        "what was there is not fetched again: {released}"
    );
    assert_eq!(away.sessions_at_origin(), 0, "it is left");
    away.origin.take().unwrap().kill();
    away.node.take().unwrap().kill();
    fs::remove_file(away.scene.path("node.data/cache")).unwrap();
    fs::remove_dir_all(away.scene.path("node.data/images")).unwrap();
    let node = away.serve();
    node.url();
    away.node = Some(node);
    let late = attach(&away.create("late", &[])).await;
    for index in 0..48 {
        for disk in [&image, &late] {
            assert_eq!(
                read(disk, index * EXTENT, EXTENT).await.unwrap(),
                extent(&away, index)
            );
        }
    }
    let own = read(&disk, 0, EXTENT).await.unwrap();
    assert_eq!(own[4096..8192], [7; 4096]);
    assert_eq!(own[8192..], extent(&away, 0)[8192..]);
    assert_eq!(away.counted("from_cache") + away.counted("from_origin"), 0);

    away.start_origin();
    assert_eq!(
        away.image(&["mode", "disk", "normal"])["local"],
        Value::Null
    );
    let local = away.scene.path("node.data/local");
    assert_eq!(
        fs::read_dir(local).unwrap().count(),
        0,
        "the copy is removed"
    );
    assert_eq!(
        read(&disk, 9 * EXTENT, EXTENT).await.unwrap(),
        extent(&away, 9)
    );
    assert!(away.counted("from_origin") > 0);
    assert!(away.sessions_at_origin() > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_is_off_and_a_released_image_share_a_copy() {
    let away = Away::new(8, true, "");
    away.create("vm", &[]);
    let off = ["instance", "turn-off", "vm", "--config", &away.config];
    succeed(&off);
    let released = away.image(&["release", "disk"]);
    assert_eq!(
        released["local"]["fetched_bytes"],
        8 * EXTENT,
        "once for both"
    );
    let on = ["instance", "turn-on", "vm", "--config", &away.config];
    succeed(&on);
    assert_eq!(
        away.image(&["release", "disk"])["local"]["state"],
        "complete"
    );
    assert_eq!(away.sessions_at_origin(), 0);
    succeed(&off);
    away.image(&["mode", "disk", "passthrough"]);
    let shown = ["instance", "show", "vm", "--json", "--config", &away.config];
    let shown: Value = serde_json::from_str(&succeed(&shown)).unwrap();
    assert_eq!(shown["local"]["state"], "complete", "the instance keeps it");
    succeed(&on);
    assert_eq!(
        fs::read_dir(away.scene.path("node.data/local"))
            .unwrap()
            .count(),
        0
    );
}

#[test]
fn what_has_no_other_way_is_refused() {
    let stage = Stage::new(1);
    let config = &stage.config;
    let said = refuse(&["image", "mode", "disk", "passthrough", "--config", config]);
    assert!(said.contains("is a file of this node"), "{said}");
    let said = refuse(&["image", "release", "disk", "--config", config]);
    assert!(said.contains("is a file of this node"), "{said}");
    let said = refuse(&["image", "release", "none", "--config", config]);
    assert!(said.contains("there is no image `none`"), "{said}");
    let away = Away::new(1, false, "");
    let said = refuse(&["image", "release", "disk", "--config", &away.config]);
    assert!(said.contains("has no manifest"), "{said}");
    assert_eq!(away.status()["images"][0]["mode"], "normal");
}
