//! What an operator is told of instances that cannot be served, and what is not done to them.

use std::fs;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

use crate::harness::{PATIENCE, Running, Scene, free_address, refuse, succeed};
use crate::stage::{Stage, read, write};

impl Stage {
    /// Starts it again; what it says until it is ready.
    fn start_and_listen(&mut self) -> String {
        let log = self.scene.path("node.log");
        let node = Running::logged(&["serve", "--config", &self.config], &log);
        node.url();
        self.node = Some(node);
        fs::read_to_string(log).unwrap()
    }
}

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
