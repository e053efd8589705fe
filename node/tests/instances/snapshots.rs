//! Creating, keeping, bringing back and limiting.

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind};
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use vmthunder_volume::{Error, Volume};

use crate::harness::{EXTENT, PATIENCE, attach, run};
use crate::stage::{Stage, read, write};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_are_made_at_once_or_none() {
    let stage = Stage::new(2);
    let made = stage.json(&["create", "vm", "--image", "disk", "--count", "20"]);
    let made = made.as_array().unwrap();
    assert_eq!(made.len(), 20);
    assert_eq!(
        (&made[0]["name"], &made[0]["state"]),
        (&"vm-1".into(), &"served".into())
    );
    let url = made[19]["urls"][0].as_str().unwrap();
    assert!(url.ends_with(":instance.vm-20/0"), "{url}");
    let (first, last) = (
        attach(made[0]["urls"][0].as_str().unwrap()).await,
        attach(url).await,
    );
    write(&first, 0, vec![1; 4096]).await.unwrap();
    assert_eq!(read(&last, 0, 4096).await.unwrap(), stage.image[..4096]);

    // 751,619,276.8 bytes.
    stage.instance(&["create", "odd", "--image", "disk", "--size", "0.7GiB"]);
    assert_eq!(stage.json(&["show", "odd"])["bytes"], 751_619_584);
    stage.instance(&["remove", "odd"]);
    let said = stage.refused(&["create", "vm", "--image", "disk", "--count", "30"]);
    assert!(said.contains("`vm-1` already; none was created"), "{said}");
    let said = stage.refused(&[
        "create", "x", "--image", "disk", "--count", "3", "--size", "64KiB",
    ]);
    assert!(
        said.contains("none of the 3 was created") && said.contains("less than"),
        "{said}"
    );
    let listed = stage.json(&["list"]);
    assert_eq!(listed.as_array().unwrap().len(), 20);
    assert_eq!(listed[0]["sessions"], 1);
    assert_eq!(listed[1]["sessions"], 0);
    assert!(listed[0]["stored_bytes"].as_u64().unwrap() >= 4096);
    assert!(fs::read_dir(stage.folder("")).unwrap().count() == 20);
}

/// Each instance has three files open, and shells give a program leave for 1,024.
#[test]
fn there_may_be_more_instances_than_the_usual_limit_of_open_files_allows() {
    let mut stage = Stage::new(1);
    stage.node.take().unwrap().stop();
    let mut node = Command::new("sh")
        .args(["-c", "ulimit -Sn 100 && exec \"$0\" serve --config \"$1\""])
        .args([env!("CARGO_BIN_EXE_vmthunder"), &stage.config])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(node.stdout.take().unwrap());
    let (send, ready) = channel();
    std::thread::spawn(move || send.send(out.read_line(&mut String::new())));
    let ready = ready.recv_timeout(PATIENCE);
    let made = std::panic::catch_unwind(|| {
        let made = stage.json(&["create", "vm", "--image", "disk", "--count", "70"]);
        assert_eq!(made.as_array().unwrap().len(), 70);
    });
    node.kill().unwrap();
    node.wait().unwrap();
    ready.unwrap().unwrap();
    made.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_keeps_what_was_there_and_brings_it_back() {
    let mut stage = Stage::new(4);
    let disk = stage.create("vm", &["--size", "1MiB"]).await;
    write(&disk, 0, vec![1; 8192]).await.unwrap();
    write(&disk, 1 << 19, vec![2; 4096]).await.unwrap();
    stage.instance(&["snapshot", "vm", "clean"]);
    let kept = read(&disk, 0, 1 << 20).await.unwrap();
    write(&disk, 4096, vec![3; EXTENT]).await.unwrap();
    let said = stage.refused(&["snapshot", "vm", "clean"]);
    assert!(said.contains("has a snapshot `clean` already"), "{said}");
    let said = stage.refused(&["rollback", "vm", "clean"]);
    assert!(
        said.contains("is in use by") && said.contains("--force"),
        "{said}"
    );
    let said = stage.refused(&["rollback", "vm", "dirty", "--force"]);
    assert!(
        said.contains("no snapshot `dirty`; there are: clean"),
        "{said}"
    );
    let said = stage.refused(&["rollback", "vm", "../../vm", "--force"]);
    assert!(said.contains("use 1 to 63 of"), "{said}");

    let shown = stage.json(&["show", "vm"]);
    assert_eq!(shown["snapshots"][0]["name"], "clean");
    assert!(shown["snapshots"][0]["created"].as_u64().unwrap() > 1_700_000_000);
    assert_eq!(
        shown["initiators"][0]["initiator"],
        "iqn.2026-11.org.vmthunder:test"
    );
    assert_eq!(
        (&shown["image"], &shown["outage"]),
        (&"disk".into(), &"wait".into())
    );
    assert_eq!(shown["bytes"], 1 << 20);

    stage.instance(&["rollback", "vm", "clean", "--force"]);
    assert!(
        read(&disk, 0, 1 << 20).await.unwrap() == kept,
        "the guest comes back by itself"
    );
    write(&disk, 0, vec![4; 4096]).await.unwrap();
    stage.kill();
    stage.start();
    let again = read(&disk, 0, 1 << 20).await.unwrap();
    assert_eq!(again[..4096], [4; 4096]);
    assert!(
        again[4096..] == kept[4096..],
        "the rollback outlives the daemon"
    );

    drop(disk);
    stage.instance(&["reset", "vm", "--force"]);
    let disk = stage.attach("vm").await;
    assert_eq!(disk.geometry().bytes(), 1 << 20);
    let image = read(&disk, 0, stage.image.len()).await.unwrap();
    assert!(image == stage.image, "the image again");
    assert_eq!(read(&disk, 1 << 19, 4096).await.unwrap(), vec![0; 4096]);
    stage.instance(&["rollback", "vm", "clean", "--force"]);
    assert!(read(&disk, 0, 1 << 20).await.unwrap() == kept);
    stage.instance(&["snapshot", "vm", "clean", "--remove"]);
    let said = stage.refused(&["rollback", "vm", "clean", "--force"]);
    assert!(said.contains("`vm` has no snapshots"), "{said}");
    let overlays = fs::read_dir(stage.folder("vm")).unwrap();
    let names: Vec<_> = overlays.map(|entry| entry.unwrap().file_name()).collect();
    let overlays = names
        .iter()
        .filter(|name| name.to_string_lossy().starts_with("overlay"));
    assert_eq!(overlays.count(), 1, "{names:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_node_left_half_done_is_cleaned_away() {
    let mut stage = Stage::new(2);
    let disk = stage.create("vm", &[]).await;
    write(&disk, 0, vec![1; 4096]).await.unwrap();
    stage.instance(&["snapshot", "vm", "kept"]);
    stage.kill();
    let vm = stage.folder("vm");
    // A rollback that did not come to name its overlay, one that came to it but not to remove the old one, a snapshot
    // and an instance under way.
    for begun in ["overlay.1", "overlay.7", "snapshots/new.unfinished"] {
        fs::create_dir(vm.join(begun)).unwrap();
        fs::write(vm.join(begun).join("data"), b"half").unwrap();
    }
    fs::create_dir(stage.folder("vm-2.unfinished")).unwrap();
    stage.start();
    assert_eq!(read(&disk, 0, 4096).await.unwrap(), vec![1; 4096]);
    let mut found: Vec<_> = fs::read_dir(&vm)
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    found.sort();
    assert_eq!(found, ["instance.toml", "overlay", "snapshots"]);
    assert_eq!(fs::read_dir(vm.join("snapshots")).unwrap().count(), 1);
    assert!(!stage.folder("vm-2.unfinished").exists());
    stage.instance(&["snapshot", "vm", "new"]);
}

/// The daemon dies at any moment of snapshots and rollbacks; whatever is there afterwards is whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deaths_during_snapshots_and_rollbacks_leave_the_old_or_the_new() {
    let mut stage = Stage::new(8);
    let whole = |byte: u8| vec![byte; 8 * EXTENT];
    let disk = stage.create("vm", &[]).await;
    write(&disk, 0, whole(1)).await.unwrap();
    stage.instance(&["snapshot", "vm", "base"]);
    drop(disk);
    for round in 0..5_u64 {
        let disk = stage.attach("vm").await;
        write(&disk, 0, whole(2)).await.unwrap();
        drop(disk);
        let config = stage.config.clone();
        let doing = std::thread::spawn(move || {
            let name = format!("s{round}");
            for what in [["snapshot", "vm", &name], ["rollback", "vm", "base"]] {
                let mut args = vec!["instance"];
                args.extend(what);
                args.extend(["--force", "--config", &config]);
                args.retain(|arg| what[0] != "snapshot" || *arg != "--force");
                run(&args);
            }
        });
        // Another moment each time: nothing is asserted of when it falls.
        tokio::time::sleep(Duration::from_millis(10 + 15 * round)).await;
        stage.kill();
        stage.start();
        tokio::task::spawn_blocking(move || doing.join().unwrap())
            .await
            .unwrap();
        let disk = stage.attach("vm").await;
        let now = read(&disk, 0, 8 * EXTENT).await.unwrap();
        assert!(now == whole(1) || now == whole(2), "a mixture");
    }
    let shown = stage.json(&["show", "vm"]);
    assert_eq!(shown["state"], "served");
    for snapshot in shown["snapshots"].as_array().unwrap() {
        let name = snapshot["name"].as_str().unwrap();
        stage.instance(&["rollback", "vm", name, "--force"]);
        let disk = stage.attach("vm").await;
        let then = read(&disk, 0, 8 * EXTENT).await.unwrap();
        let byte = if name == "base" { 1 } else { 2 };
        assert!(then == whole(byte), "{name} is not whole");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_instance_says_so_and_takes_the_same_write_when_there_is_room() {
    let mut stage = Stage::new(4);
    let disk = stage
        .create("vm", &["--size", "8MiB", "--quota", "1MiB"])
        .await;
    write(&disk, 0, vec![1; 1 << 20]).await.unwrap();
    let refused = write(&disk, 4 << 20, vec![2; EXTENT]).await;
    let protect = |result: &Result<(), Error>| {
        matches!(
            result,
            Err(Error::Device {
                key: 7,
                asc: 0x27,
                ascq: 7
            } | Error::NoSpace)
        )
    };
    assert!(protect(&refused), "{refused:?}");
    assert_eq!(read(&disk, 4 << 20, EXTENT).await.unwrap(), vec![0; EXTENT]);
    write(&disk, 0, vec![3; 4096])
        .await
        .expect("what has its space can be written");
    stage.kill();
    stage.start();
    let refused = write(&disk, 4 << 20, vec![2; EXTENT]).await;
    assert!(
        protect(&refused),
        "a quota outlives the daemon: {refused:?}"
    );

    // A foreign judge, where there is one: QEMU pauses guests whose disk says ENOSPC.
    let url = stage.json(&["show", "vm"])["urls"][0].clone();
    let write_it = [
        "-f",
        "raw",
        "-c",
        "write -P 2 4M 64k",
        url.as_str().unwrap(),
    ];
    match Command::new("qemu-io").args(write_it).output() {
        Ok(judged) => {
            let all = [judged.stdout, judged.stderr].concat();
            let said = String::from_utf8_lossy(&all);
            // Some are built without iSCSI.
            let knows = !said.contains("Unknown protocol");
            assert!(!knows || said.contains("No space left on device"), "{said}");
        }
        Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound, "{error}"),
    }

    stage.instance(&["change", "vm", "--quota", "2MiB"]);
    write(&disk, 4 << 20, vec![2; EXTENT]).await.unwrap();
    assert_eq!(read(&disk, 4 << 20, EXTENT).await.unwrap(), vec![2; EXTENT]);
    assert_eq!(stage.json(&["show", "vm"])["quota_bytes"], 2 << 20);
    stage.instance(&["change", "vm", "--quota", "none"]);
    write(&disk, 2 << 20, vec![4; 6 << 20]).await.unwrap();
}
