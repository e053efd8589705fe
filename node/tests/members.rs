//! Nodes that find each other by gossip, as separate processes: joining, dying, coming back, leaving.
#![allow(clippy::unwrap_used, reason = "what a test cannot set up must end it")]

mod harness;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use harness::{EXTENT, PATIENCE, Running, Scene, attach, free_address, refuse, succeed};
use iscsi_initiator::{Class, Remote, Span, Volume as _};
use serde_json::Value;

const EXTENTS: usize = 64;

struct Stage {
    scene: Scene,
    image: Vec<u8>,
    origin: Running,
    url: String,
}

impl Stage {
    fn new() -> Self {
        let scene = Scene::new();
        let image = scene.image("disk.raw", EXTENTS);
        succeed(&["image", "import", &scene.arg("disk.raw")]);
        scene.secret("swarm.key", &succeed(&["swarm", "key"]));
        let text = "[[image]]\nname = \"disk\"\nfile = \"disk.raw\"\n";
        let config = scene.config("origin", free_address(), text);
        let origin = scene.serve(&config);
        let url = origin.url();
        Self {
            scene,
            image,
            origin,
            url,
        }
    }

    /// The configuration of a node; the file is called like the node, or otherwise.
    fn config(&self, file: &str, name: &str, at: SocketAddr, seeds: &[SocketAddr]) -> String {
        let seeds: Vec<String> = seeds.iter().map(|seed| format!("\"{seed}\"")).collect();
        let rest = format!(
            "[cache]\nsize = \"32 MiB\"\n[swarm]\nkey-file = \"swarm.key\"\nseeds = [{}]\n\
             [[image]]\nname = \"disk\"\norigin = \"{}\"\n",
            seeds.join(", "),
            self.url
        );
        let path = self.scene.config(file, at, &rest);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(
            &path,
            text.replacen(
                &format!("name = \"{file}\""),
                &format!("name = \"{name}\""),
                1,
            ),
        )
        .unwrap();
        path.display().to_string()
    }

    /// The configuration of a node whose image has this origin.
    fn config_from(&self, name: &str, at: SocketAddr, seed: SocketAddr, origin: &str) -> String {
        let config = self.config(name, name, at, &[seed]);
        let text = std::fs::read_to_string(&config).unwrap();
        std::fs::write(&config, text.replace(&self.url, origin)).unwrap();
        config
    }

    fn start(&self, config: &str) -> Running {
        let running = Running::spawn(&["serve", "--config", config]);
        running.url();
        running
    }

    async fn read_all(&self, config: &str, instance: &str) {
        let url = succeed(&[
            "instance", "create", instance, "--image", "disk", "--config", config,
        ]);
        let disk: Remote = attach(url.trim()).await;
        for index in 0..EXTENTS {
            let span = Span::new((index * EXTENT) as u64, EXTENT as u64);
            let read = tokio::time::timeout(PATIENCE, disk.read(span, Class::Demand)).await;
            let read = read.expect("in time").unwrap();
            assert!(
                read == self.image[index * EXTENT..(index + 1) * EXTENT],
                "extent {index}"
            );
        }
    }
}

fn members(config: &str) -> Vec<Value> {
    let text = succeed(&["swarm", "members", "--json", "--config", config]);
    serde_json::from_str(&text).unwrap()
}

/// Waits until a node knows another so.
fn until(config: &str, name: &str, what: &str, so: impl Fn(&Value) -> bool) -> Value {
    let start = Instant::now();
    loop {
        let members = members(config);
        let found = members.iter().find(|member| member["name"] == name);
        if let Some(found) = found.filter(|found| so(found)) {
            return found.clone();
        }
        assert!(
            start.elapsed() < PATIENCE,
            "{config}: {name} is not {what}: {members:?}"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Waits until a node has written down that another is there.
fn until_remembered(scene: &Scene, node: &str, other: &str) {
    let path = scene.path(&format!("{node}.data/members.json"));
    let start = Instant::now();
    while !std::fs::read_to_string(&path).is_ok_and(|text| text.contains(other)) {
        assert!(start.elapsed() < PATIENCE, "{other} is not in {path:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn until_state(config: &str, name: &str, state: &str) -> Value {
    until(config, name, state, |member| member["state"] == state)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_join_die_come_back_elsewhere_without_their_seed_and_leave() {
    let stage = Stage::new();
    let at = [free_address(), free_address(), free_address()];
    let first = stage.config("node-1", "node-1", at[0], &[]);
    let second = stage.config("node-2", "node-2", at[1], &at[..1]);
    let third = stage.config("node-3", "node-3", at[2], &at[..1]);
    let configs = [&first, &second, &third];
    let mut nodes: Vec<Option<Running>> = configs.map(|config| Some(stage.start(config))).into();
    for (index, config) in configs.iter().enumerate() {
        for other in (1..=3).filter(|other| *other != index + 1) {
            let known = until_state(config, &format!("node-{other}"), "alive");
            assert_eq!(known["address"], at[other - 1].to_string());
            assert_eq!(known["through"], "gossip");
        }
    }
    stage.read_all(&first, "vm-1").await;
    stage.read_all(&second, "vm-2").await;
    stage.read_all(&third, "vm-3").await;
    let taken = |config: &str| -> u64 {
        members(config)
            .iter()
            .map(|one| one["taken_bytes"].as_u64().unwrap())
            .sum()
    };
    assert!(
        configs.iter().any(|config| taken(config) > 0),
        "they take from each other"
    );

    // The third dies; the others notice. Then the only seed leaves for good.
    let before = until_state(&second, "node-3", "alive")["generation"].as_u64();
    until_remembered(&stage.scene, "node-3", "node-2");
    nodes[2].take().unwrap().kill();
    until_state(&second, "node-3", "left");
    nodes[0].take().unwrap().stop();
    until_state(&second, "node-1", "left");

    // It comes back under another address, and what it remembers leads it to the second.
    let elsewhere = free_address();
    let third = stage.config("node-3", "node-3", elsewhere, &at[..1]);
    nodes[2] = Some(stage.start(&third));
    let known = until(&second, "node-3", "back", |member| {
        member["state"] == "alive" && member["address"] == elsewhere.to_string()
    });
    assert!(known["generation"].as_u64() > before);
    until_state(&third, "node-2", "alive");
    let status: Value =
        serde_json::from_str(&succeed(&["status", "--json", "--config", &third])).unwrap();
    assert_eq!(status["swarm"]["members"][0]["name"], "node-2", "{status}");
    let text = succeed(&["swarm", "members", "--config", &third]);
    assert!(text.contains("node-2") && text.contains("alive"), "{text}");
    drop(stage.origin);
}

#[test]
fn a_second_node_of_a_name_does_not_start_and_the_first_one_stays() {
    let stage = Stage::new();
    let at = [free_address(), free_address(), free_address()];
    let first = stage.config("node-1", "node-1", at[0], &[]);
    let second = stage.config("node-2", "node-2", at[1], &at[..1]);
    let _running = [stage.start(&first), stage.start(&second)];
    until_state(&first, "node-2", "alive");
    let again = stage.config("other", "node-2", at[2], &at[..1]);
    let said = refuse(&["serve", "--config", &again]);
    let expected = format!("another node named `node-2` lives at {}", at[1]);
    assert!(said.contains(&expected), "{said}");
    let known = until_state(&first, "node-2", "alive");
    assert_eq!(known["address"], at[1].to_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_not_attached_to_an_image_is_not_asked_for_it_until_it_is() {
    let stage = Stage::new();
    let at = [free_address(), free_address(), free_address()];
    let first = stage.config("node-1", "node-1", at[0], &[]);
    let second = stage.config("node-2", "node-2", at[1], &at[..1]);
    // The third one's way to the image begins where nobody is yet.
    let elsewhere = free_address();
    let away = stage.url.replace(
        &stage.url[8..stage.url[8..].find('/').unwrap() + 8],
        &elsewhere.to_string(),
    );
    let third = stage.config_from("node-3", at[2], at[0], &away);
    let third = Running::spawn(&["serve", "--config", &third]);
    let _nodes = [stage.start(&first), stage.start(&second)];
    until(&first, "node-2", "attached", |member| {
        member["images"] == serde_json::json!(["disk"])
    });
    until(&second, "node-1", "attached", |member| {
        member["images"] == serde_json::json!(["disk"])
    });
    for config in [&first, &second] {
        until(config, "node-3", "attached to nothing", |member| {
            member["images"] == serde_json::json!([])
        });
    }
    stage.read_all(&first, "vm-1").await;
    stage.read_all(&second, "vm-2").await;
    for config in [&first, &second] {
        let third = until_state(config, "node-3", "alive");
        assert_eq!(third["failures"], 0, "it was asked: {third}");
    }
    let text = succeed(&["swarm", "members", "--config", &first]);
    assert!(text.contains("disk"), "{text}");

    let late = "[[image]]\nname = \"disk\"\nfile = \"disk.raw\"\n";
    let late = stage.scene.config("late-origin", elsewhere, late);
    let _late = stage.start(&late.display().to_string());
    for config in [&first, &second] {
        until(config, "node-3", "attached", |member| {
            member["images"] == serde_json::json!(["disk"])
        });
    }
    drop(third);
}
