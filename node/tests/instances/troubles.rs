//! What an operator is told of instances that cannot be served, and what is not done to them.

use std::fs;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

use crate::harness::{
    EXTENT, PATIENCE, Running, Scene, attach, free_address, refuse, run, succeed,
};
use crate::stage::{Away, Stage, read, write};

/// Whatever became of the control socket: it is a way to ask a node, not what keeps another one out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_has_one_node_at_a_time() {
    let mut stage = Stage::new(1);
    let disk = stage.create("vm", &[]).await;
    fs::remove_file(stage.scene.path("node.data/control.sock")).unwrap();
    let again = stage.scene.path("again.toml");
    let text = format!(
        "name = \"again\"\ndata = \"node.data\"\nlisten = [\"{}\"]\n[[image]]\nname = \"disk\"\nfile = \"disk.raw\"\n",
        free_address()
    );
    fs::write(&again, text).unwrap();
    let again = again.display().to_string();
    let said = refuse(&["serve", "--config", &again]);
    assert!(
        said.contains("node.data is in use by node node, process "),
        "{said}"
    );
    write(&disk, 0, vec![1; 4096]).await.unwrap();
    assert_eq!(read(&disk, 0, 4096).await.unwrap(), vec![1; 4096]);
    stage.kill();
    let after = Running::spawn(&["serve", "--config", &again]);
    after.url();
    after.stop();
}

#[test]
fn what_another_program_has_open_is_not_removed() {
    let mut stage = Stage::new(1);
    stage.instance(&["create", "vm", "--image", "disk"]);
    stage.node.take().unwrap().stop();
    let map = fs::File::open(stage.folder("vm").join("overlay/map")).unwrap();
    flock(&map, FlockOperation::NonBlockingLockExclusive).unwrap();
    let said = stage.start_and_listen();
    assert!(said.contains("end that program, and start"), "{said}");
    assert!(!said.contains("instance remove"), "{said}");
    assert_eq!(stage.json(&["show", "vm"])["state"], "broken");
    let said = stage.refused(&["remove", "vm", "--force"]);
    assert!(said.contains("`vm` is in use"), "{said}");
    assert!(stage.folder("vm").join("overlay/data").exists());
    drop(map);
    stage.instance(&["remove", "vm"]);
    assert!(!stage.folder("vm").exists());
}

#[test]
fn instances_without_their_image_are_one_line_that_advises_no_removal() {
    let mut stage = Stage::new(1);
    stage.instance(&["create", "vm", "--image", "disk", "--count", "5"]);
    stage.node.take().unwrap().stop();
    let config = fs::read_to_string(&stage.config).unwrap();
    let typo = config.replace("name = \"disk\"", "name = \"dsik\"");
    fs::write(&stage.config, typo).unwrap();
    let said = stage.start_and_listen();
    let lines: Vec<_> = said
        .lines()
        .filter(|line| line.contains("not served"))
        .collect();
    assert_eq!(lines.len(), 1, "{said}");
    for text in ["5 instances", "`vm-1`", "no image `disk`; it names dsik"] {
        assert!(lines[0].contains(text), "{said}");
    }
    assert!(!said.contains("instance remove"), "{said}");
    let shown = stage.instance(&["show", "vm-1"]);
    assert!(!shown.contains("no manifest"), "{shown}");

    // Several names at once; what is wrong with one keeps no other.
    let said = stage.refused(&["remove", "vm-1", "nobody", "vm-2"]);
    assert!(said.contains("there is no instance `nobody`"), "{said}");
    let left = stage.json(&["list"]);
    assert_eq!(left.as_array().unwrap().len(), 3);
}

#[test]
fn what_a_later_version_wrote_is_not_damaged_and_what_others_put_there_is_no_instance() {
    let mut stage = Stage::new(1);
    stage.instance(&["create", "vm", "--image", "disk"]);
    stage.node.take().unwrap().stop();
    let description = stage.folder("vm").join("instance.toml");
    let mut text = fs::read_to_string(&description).unwrap();
    text.insert_str(0, "colour = \"blue\"\n");
    fs::write(&description, text).unwrap();
    fs::create_dir_all(stage.folder("old-backups").join("vm")).unwrap();
    let said = stage.start_and_listen();
    assert!(
        said.contains("`colour`") && said.contains("the version of this program that wrote it"),
        "{said}"
    );
    assert!(
        !said.contains("damaged") && !said.contains("instance remove"),
        "{said}"
    );
    assert_eq!(stage.json(&["list"]).as_array().unwrap().len(), 1);
    let said = stage.refused(&["remove", "old-backups"]);
    assert!(said.contains("there is no instance"), "{said}");
    assert!(stage.folder("old-backups").join("vm").exists());
}

/// Commands that say nothing are let go after two seconds; until then there is no file left to accept others by.
#[test]
fn a_control_socket_without_files_says_so_once() {
    let scene = Scene::new();
    scene.image("disk.raw", 1);
    let (disk, socket, log) = (scene.arg("disk.raw"), scene.arg("sock"), scene.path("log"));
    let script = "ulimit -n 30 && exec \"$0\" target \"$1\" --control \"$2\" --listen 127.0.0.1:0";
    let mut command = Command::new("sh");
    command.args([
        "-c",
        script,
        env!("CARGO_BIN_EXE_vmthunder"),
        &disk,
        &socket,
    ]);
    let gateway = Running::begin(command.stderr(fs::File::create(&log).unwrap()));
    gateway.url();
    let silent: Vec<_> = (0..60)
        .map(|_| UnixStream::connect(&socket).unwrap())
        .collect();
    let started = Instant::now();
    let said = || fs::read_to_string(&log).unwrap();
    while !said().contains("cannot accept") {
        assert!(started.elapsed() < PATIENCE, "{}", said());
        std::thread::sleep(Duration::from_millis(20));
    }
    // Answered behind all of them: they were refused many times by then.
    succeed(&["status", "--control", &socket]);
    drop(silent);
    let lines = said().matches("cannot accept").count();
    assert_eq!(lines, 1, "{}", said());
    assert!(said().contains("LimitNOFILE="), "{}", said());
}

/// The cache on an SSD of its own, and what the status tells of space.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cache_is_where_the_configuration_says() {
    let mut away = Away::without_node(2, true, "");
    let config = fs::read_to_string(&away.config).unwrap();
    let elsewhere = config.replace("[cache]\n", "[cache]\nfile = \"an-ssd\"\n");
    fs::write(&away.config, elsewhere).unwrap();
    let node = away.serve();
    let url = node.url();
    away.node = Some(node);
    let disk = attach(&url).await;
    assert!(read(&disk, 0, EXTENT).await.unwrap() == away.image[..EXTENT]);
    let cache = fs::metadata(away.scene.path("an-ssd")).unwrap();
    assert_eq!(cache.len().div_ceil(1 << 20), 64);
    assert!(!away.scene.path("node.data/cache").exists());
    let status = away.status();
    assert_eq!(status["cache"]["fill_drops"], 0);
    let data = &status["data"];
    assert!(
        data["folder"].as_str().unwrap().ends_with("node.data"),
        "{data}"
    );
    let (free, all) = (data["free_bytes"].as_u64(), data["bytes"].as_u64());
    assert!(free.unwrap() <= all.unwrap() && all.unwrap() > 0, "{data}");

    // Somebody else's file in its place is left alone, and the key is named.
    away.node.take().unwrap().stop();
    fs::write(away.scene.path("an-ssd"), vec![1; 9000]).unwrap();
    let said = refuse(&["serve", "--config", &away.config]);
    assert!(
        said.contains("`cache.file`") && said.contains("not a cache store"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_instance_is_named_by_log_and_list_and_quotas_of_no_use_are_refused() {
    let mut stage = Stage::new(4);
    stage.node.take().unwrap().stop();
    stage.start_and_listen();
    let more = ["--size", "8MiB", "--quota", "1MiB"];
    let disk = stage.create("vm", &more).await;
    write(&disk, 0, vec![1; 1 << 20]).await.unwrap();
    write(&disk, 4 << 20, vec![2; EXTENT]).await.unwrap_err();
    let shown = stage.json(&["show", "vm"]);
    assert_eq!(shown["state"], "full");
    let cause = "its quota is reached: writes that need space are refused";
    assert_eq!(shown["cause"], cause);
    let listed = stage.instance(&["list"]);
    assert!(
        listed.contains("quota") && listed.contains("FULL"),
        "{listed}"
    );
    let log = fs::read_to_string(stage.scene.path("node.log")).unwrap();
    let line = log.lines().find(|line| line.contains("the volume fails"));
    let line = line.unwrap_or_else(|| panic!("{log}"));
    assert!(
        line.contains("target=iqn.2026-11.org.vmthunder:instance.vm unit=0")
            && line.contains("the quota is reached"),
        "{line}"
    );
    stage.instance(&["change", "vm", "--quota", "2MiB"]);
    assert_eq!(stage.json(&["show", "vm"])["state"], "served");
    write(&disk, 4 << 20, vec![2; EXTENT]).await.unwrap();

    let less = ["instance", "change", "vm", "--quota", "1MiB", "--config"];
    let less = run(&[&less[..], &[&stage.config]].concat());
    let said = String::from_utf8_lossy(&less.stderr);
    assert!(
        less.status.success() && said.contains("more than its quota of 1.0 MiB"),
        "{said}"
    );
    let said = stage.refused(&["change", "vm", "--quota", "0"]);
    assert!(said.contains("quota of 0"), "{said}");
    let said = stage.refused(&["change", "vm"]);
    assert!(said.contains("--quota"), "{said}");
}
