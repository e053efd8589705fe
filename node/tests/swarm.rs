//! Nodes over an origin, as separate processes: what they read, where it comes from, and what happens when one dies,
//! lies or starts again.
#![allow(clippy::unwrap_used, reason = "what a test cannot set up must end it")]

mod harness;

use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use harness::{EXTENT, PATIENCE, Running, Scene, attach, free_address, refuse, run, succeed};
use iscsi_initiator::{IscsiUrl, Options, Remote, Session, discover};
use vmthunder_volume::{Class, Span, Volume};

const EXTENTS: usize = 256;

/// An origin and nodes over it, all running.
struct Swarm {
    scene: Scene,
    image: Vec<u8>,
    origin: Option<Running>,
    origin_config: String,
    nodes: Vec<Node>,
}

struct Node {
    config: String,
    running: Option<Running>,
}

impl Swarm {
    fn start(nodes: usize) -> Self {
        let scene = Scene::new();
        let image = scene.image("disk.raw", EXTENTS);
        succeed(&[
            "image",
            "import",
            &scene.path("disk.raw").display().to_string(),
        ]);
        let at = free_address();
        let config = scene.config(
            "origin",
            at,
            "[[image]]\nname = \"disk\"\nfile = \"disk.raw\"\n",
        );
        let origin = scene.serve(&config);
        let url = origin.url();
        let list: Vec<(String, SocketAddr)> = (1..=nodes)
            .map(|n| (format!("node-{n}"), free_address()))
            .collect();
        let rest = format!(
            "[cache]\nsize = \"64 MiB\"\n[[image]]\nname = \"disk\"\norigin = {url:?}\n{}",
            scene.swarm(&list)
        );
        let start = |(name, at): &(String, SocketAddr)| {
            let config = scene.config(name, *at, &rest).display().to_string();
            Node {
                running: Some(Running::spawn(&["serve", "--config", &config])),
                config,
            }
        };
        let nodes: Vec<Node> = list.iter().map(start).collect();
        for node in &nodes {
            node.running.as_ref().unwrap().url();
        }
        Self {
            image,
            origin: Some(origin),
            origin_config: config.display().to_string(),
            nodes,
            scene,
        }
    }

    async fn instance(&self, node: usize, name: &str) -> Remote {
        attach(&self.create(node, name)).await
    }

    fn create(&self, node: usize, name: &str) -> String {
        let config = &self.nodes[node].config;
        succeed(&[
            "instance", "create", name, "--image", "disk", "--config", config,
        ])
        .trim()
        .to_owned()
    }

    fn status(&self, node: usize) -> serde_json::Value {
        serde_json::from_str(&succeed(&[
            "status",
            "--json",
            "--config",
            &self.nodes[node].config,
        ]))
        .unwrap()
    }

    fn from(&self, node: usize, source: &str) -> u64 {
        self.status(node)["images"][0][source].as_u64().unwrap()
    }

    /// Waits until the first node says this of its origin.
    async fn origin_becomes(&self, state: &str) {
        let said = async {
            while self.status(0)["images"][0]["origin"]["state"] != state {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let said = tokio::time::timeout(PATIENCE, said).await;
        assert!(said.is_ok(), "{}", self.status(0)["images"]);
    }

    fn restart(&mut self, node: usize) {
        let node = &mut self.nodes[node];
        let running = Running::spawn(&["serve", "--config", &node.config]);
        running.url();
        node.running = Some(running);
    }

    /// Reads the whole image extent by extent and compares it.
    async fn read_all(&self, disk: &Remote) {
        self.read(disk, 0..EXTENTS).await;
    }

    /// Reads some extents of the image and compares them.
    async fn read(&self, disk: &Remote, extents: Range<usize>) {
        for index in extents {
            let span = Span::new((index * EXTENT) as u64, EXTENT as u64);
            let read = tokio::time::timeout(PATIENCE, disk.read(span, Class::Demand))
                .await
                .expect("in time")
                .unwrap();
            assert!(
                read == self.image[index * EXTENT..(index + 1) * EXTENT],
                "extent {index} is wrong"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_take_from_each_other_what_the_origin_sent_once() {
    let swarm = Swarm::start(4);
    let mut disks = Vec::new();
    for node in 0..4 {
        disks.push(swarm.instance(node, &format!("vm-{node}")).await);
    }
    futures::future::join_all(disks.iter().map(|disk| swarm.read_all(disk))).await;
    let whole = (EXTENTS * EXTENT) as u64;
    let from_origin: u64 = (0..4).map(|node| swarm.from(node, "from_origin")).sum();
    let from_peers: u64 = (0..4).map(|node| swarm.from(node, "from_peers")).sum();
    // Alone they would take four; a slow peer is passed now and then.
    assert!(
        from_origin <= whole + whole / 10,
        "the origin sent {from_origin} for {whole}"
    );
    assert!(from_origin + from_peers >= 4 * whole);

    for disk in &disks {
        swarm.read_all(disk).await;
    }
    let again: u64 = (0..4)
        .map(|node| swarm.from(node, "from_origin") + swarm.from(node, "from_peers"))
        .sum();
    assert_eq!(
        again,
        from_origin + from_peers,
        "the second time everything comes from the caches"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_killed_in_the_middle_costs_the_others_nothing() {
    let mut swarm = Swarm::start(4);
    let mut disks = Vec::new();
    for node in 0..4 {
        disks.push(swarm.instance(node, &format!("vm-{node}")).await);
    }
    let victim = swarm.nodes[1].running.take().unwrap();
    let kill = async {
        tokio::time::sleep(Duration::from_millis(150)).await;
        victim.kill();
    };
    let survivors = [&disks[0], &disks[2], &disks[3]];
    tokio::join!(
        kill,
        futures::future::join_all(survivors.map(|disk| swarm.read_all(disk)))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_a_rotten_cache_misleads_nobody() {
    let mut swarm = Swarm::start(2);
    let disk = swarm.instance(0, "vm-0").await;
    swarm.read_all(&disk).await;
    drop(disk);
    for node in &mut swarm.nodes {
        node.running.take().unwrap().stop();
    }
    std::fs::remove_dir_all(swarm.scene.path("node-2.data")).unwrap();
    let cache = swarm.scene.path("node-1.data/cache");
    let mut bytes = std::fs::read(&cache).unwrap();
    let mut rotten = 0;
    for index in 0..EXTENTS {
        let extent = &swarm.image[index * EXTENT..index * EXTENT + 32];
        if let Some(at) = memchr::memmem::find(&bytes, extent) {
            bytes[at] ^= 0xff;
            rotten += 1;
        }
    }
    assert!(
        rotten > EXTENTS / 2,
        "the cache holds what was read: {rotten}"
    );
    std::fs::write(&cache, bytes).unwrap();
    swarm.restart(0);
    swarm.restart(1);

    let disk = swarm.instance(1, "vm-1").await;
    swarm.read_all(&disk).await;
    // Either node-1 hashed what came from media and fetched it again, or node-2 hashed what came from the page cache.
    let found = swarm.from(1, "corrupt") + swarm.from(0, "from_origin");
    assert!(found > 0, "somebody saw the rot");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_keep_their_writes_over_kill_and_restart_and_share_nothing() {
    let mut swarm = Swarm::start(2);
    let (one, other) = (
        swarm.instance(0, "one").await,
        swarm.instance(0, "other").await,
    );
    one.write(4096, vec![1; 8192].into()).await.unwrap();
    other.write(8192, vec![2; 512].into()).await.unwrap();
    swarm.nodes[0].running.take().unwrap().kill();
    swarm.restart(0);
    let read = one.read(Span::new(0, 16384), Class::Demand).await.unwrap();
    assert_eq!(read[..4096], swarm.image[..4096]);
    assert_eq!(read[4096..12288], [1; 8192]);
    assert_eq!(read[12288..], swarm.image[12288..16384]);
    let read = other
        .read(Span::new(4096, 8192), Class::Demand)
        .await
        .unwrap();
    assert_eq!(read[..4096], swarm.image[4096..8192]);
    assert_eq!(read[4096..4608], [2; 512]);

    let config = &swarm.nodes[0].config;
    let listed = succeed(&["instance", "list", "--config", config]);
    assert!(
        listed.contains("one") && listed.contains("other"),
        "{listed}"
    );
    let twice = run(&[
        "instance", "create", "one", "--image", "disk", "--config", config,
    ]);
    assert_eq!(twice.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&twice.stderr).contains("already"));
    let outside = run(&["instance", "remove", "../one", "--config", config]);
    assert_eq!(outside.status.code(), Some(2));
    let said = String::from_utf8_lossy(&outside.stderr);
    assert!(said.contains("use 1 to 63 of a-z"), "{said}");

    let used = run(&["instance", "remove", "one", "--config", config]);
    assert_eq!(used.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&used.stderr).contains("is in use by"));
    succeed(&["instance", "remove", "one", "--force", "--config", config]);
    assert!(!succeed(&["instance", "list", "--config", config]).contains("one "));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_origin_whose_image_changed_is_not_mixed_in_and_is_used_again_when_it_is_mended() {
    let swarm = Swarm::start(1);
    let disk = swarm.instance(0, "vm").await;
    swarm.read(&disk, 0..1).await;
    let mut changed = swarm.image.clone();
    changed[EXTENT..2 * EXTENT].fill(0x55);
    let path = swarm.scene.path("disk.raw");
    std::fs::write(&path, changed).unwrap();
    let mend = async {
        swarm.origin_becomes("wrong").await;
        swarm.read(&disk, 0..1).await;
        swarm.read(&disk, 2..EXTENTS).await;
        std::fs::write(&path, &swarm.image).unwrap();
    };
    tokio::join!(swarm.read(&disk, 1..2), mend);
    swarm.origin_becomes("here").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_image_in_the_place_of_the_old_is_not_mixed_in_and_the_old_one_is_used_again() {
    let mut swarm = Swarm::start(1);
    let disk = swarm.instance(0, "vm").await;
    swarm.read(&disk, 0..1).await;
    let changed: Vec<u8> = swarm.image.iter().map(|byte| !byte).collect();
    for (content, state) in [(&changed, "away"), (&swarm.image, "here")] {
        swarm.origin.take().unwrap().stop();
        let path = swarm.scene.path("disk.raw");
        std::fs::write(&path, content).unwrap();
        succeed(&["image", "import", &path.display().to_string()]);
        let origin = Running::spawn(&["serve", "--config", &swarm.origin_config]);
        origin.url();
        swarm.origin = Some(origin);
        let waiting = disk.read(Span::new(EXTENT as u64, 512), Class::Demand);
        let waited = tokio::time::timeout(Duration::from_secs(2), waiting).await;
        assert!(state == "here" || waited.is_err(), "{waited:?}");
        swarm.read(&disk, 0..1).await;
        swarm.origin_becomes(state).await;
    }
    swarm.read_all(&disk).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_origin_is_waited_for() {
    let mut swarm = Swarm::start(1);
    let disk = swarm.instance(0, "vm").await;
    swarm.origin.take().unwrap().kill();
    let config = swarm.origin_config.clone();
    let back = async {
        swarm.origin_becomes("away").await;
        Running::spawn(&["serve", "--config", &config])
    };
    let read = disk.read(Span::new(0, EXTENT as u64), Class::Demand);
    let (origin, read) = tokio::join!(back, tokio::time::timeout(PATIENCE, read));
    assert_eq!(read.expect("in time").unwrap(), swarm.image[..EXTENT]);
    drop(origin);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_released_its_image_still_serves_its_peers() {
    let mut swarm = Swarm::start(2);
    let config = swarm.nodes[0].config.clone();
    succeed(&["image", "release", "disk", "--config", &config]);
    let disk = swarm.instance(1, "vm").await;
    swarm.origin.take().unwrap().kill();
    swarm.read_all(&disk).await;
    let whole = (EXTENTS * EXTENT) as u64;
    // The rest came to the other one when it was asked for it by the first.
    assert!(swarm.from(1, "from_peers") >= whole / 4);
}

#[test]
fn a_damaged_manifest_is_found_before_nodes_meet_it() {
    let scene = Scene::new();
    scene.image("disk.raw", 3);
    succeed(&[
        "image",
        "import",
        &scene.path("disk.raw").display().to_string(),
    ]);
    let manifest = scene.path("disk.raw.manifest");
    let mut bytes = std::fs::read(&manifest).unwrap();
    assert_eq!(bytes.len(), 2 * EXTENT, "a header and one page");
    bytes[EXTENT + 40] ^= 1;
    std::fs::write(&manifest, bytes).unwrap();
    let image = "[[image]]\nname = \"disk\"\nfile = \"disk.raw\"\n";
    let config = scene.config("origin", free_address(), image);
    let output = run(&["serve", "--config", &config.display().to_string()]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{errors}");
    assert!(
        errors.contains("disk.raw.manifest is damaged; run"),
        "{errors}"
    );
}

#[test]
fn a_manifest_that_is_named_must_be_there() {
    let scene = Scene::new();
    scene.image("disk.raw", 3);
    let image = "[[image]]\nname = \"disk\"\nfile = \"disk.raw\"\nmanifest = \"other\"\n";
    let config = scene.config("origin", free_address(), image);
    let output = run(&["serve", "--config", &config.display().to_string()]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{errors}");
    assert!(errors.contains("other is not there; make it"), "{errors}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_the_key_takes_nothing_from_peers_until_it_has_it() {
    let mut swarm = Swarm::start(2);
    let stranger = Options::new("iqn.2026-11.org.vmthunder:node.node-9".parse().unwrap());
    let url: IscsiUrl = swarm.create(0, "probe").parse().unwrap();
    let target = "iqn.2026-11.org.vmthunder:swarm.node-1".parse().unwrap();
    let login = Session::connect_to(&url.address(), &target, stranger).await;
    let refused = login.unwrap_err();
    let guest = Options::new("iqn.2026-11.org.example:guest".parse().unwrap());
    let found = discover(&url.address(), &guest).await.unwrap();
    assert!(
        found
            .iter()
            .any(|record| record.name.as_str().ends_with("image.disk"))
    );
    assert!(
        !found
            .iter()
            .any(|record| record.name.as_str().contains("swarm"))
    );
    assert!(
        format!("{refused}").contains("refused the login"),
        "{refused}"
    );

    // node-2 starts again with a key of its own.
    swarm.nodes[1].running.take().unwrap().stop();
    let own = swarm.scene.secret("own.key", &succeed(&["swarm", "key"]));
    let config = swarm.nodes[1].config.clone();
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("swarm.key", "own.key")).unwrap();
    swarm.restart(1);
    let first = swarm.instance(0, "vm-1").await;
    swarm.read_all(&first).await;
    let second = swarm.instance(1, "vm-2").await;
    swarm.read(&second, 0..EXTENTS / 2).await;
    assert_eq!(
        swarm.from(1, "from_peers"),
        0,
        "everything is had from the origin"
    );

    std::fs::write(&own, "no key").unwrap();
    let said = refuse(&["swarm", "reload-keys", "--config", &config]);
    assert!(said.contains("line 1 is not `EPOCH KEY`"), "{said}");
    // The right key is put there while the node runs. Whom it has left out until now is tried again after a time.
    std::fs::copy(swarm.scene.path("swarm.key"), &own).unwrap();
    let said = succeed(&["swarm", "reload-keys", "--config", &config]);
    assert_eq!(said, "key 1 is used, no other is accepted\n");
    for index in EXTENTS / 2..EXTENTS {
        swarm.read(&second, index..index + 1).await;
        if swarm.from(1, "from_peers") > 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
    panic!("nothing comes from the peer");
}
