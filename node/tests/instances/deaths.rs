//! The node dies while it makes something: nothing half made is there when it has started again.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use rustix::process::Signal;

use vmthunder_volume::Volume;

use crate::harness::{EXTENT, PATIENCE, attach};
use crate::stage::{Away, Background, Stage, read};

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    // One may go while it is looked at.
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.collect()
}

fn unfinished(folder: &Path) -> Vec<String> {
    let mut names = names(folder);
    names.retain(|name| name.ends_with(".unfinished"));
    names
}

#[test]
fn a_node_that_is_killed_while_it_creates_many_has_none_or_all_of_them() {
    const COUNT: usize = 40;
    let mut stage = Stage::new(1);
    let mut all = 0;
    // Killed when so many are begun, and when so many have their names.
    for (round, (begun, named)) in [(1, 0), (COUNT, 0), (0, 1), (0, 7), (0, 39)]
        .into_iter()
        .enumerate()
    {
        let name = format!("vm{round}");
        let config = stage.config.clone();
        let count = COUNT.to_string();
        let mut create = Background::start(&[
            "instance", "create", &name, "--image", "disk", "--count", &count, "--config", &config,
        ]);
        let started = Instant::now();
        loop {
            let mut found = names(&stage.folder(""));
            found.retain(|found| found.starts_with(&format!("{name}-")));
            let half = found.iter().filter(|found| found.ends_with(".unfinished"));
            let half = half.count();
            let there = match named {
                0 => half >= begun || half < found.len(),
                named => found.len() - half >= named,
            };
            if there || create.is_over() {
                break;
            }
            assert!(started.elapsed() < PATIENCE, "nothing is created");
        }
        stage.kill();
        stage.start();
        let listed = stage.json(&["list"]);
        let listed = listed.as_array().unwrap();
        let here = listed.iter().filter(|instance| {
            let listed = instance["name"].as_str().unwrap();
            listed.starts_with(&format!("{name}-"))
        });
        let here = here.count();
        assert!(here == 0 || here == COUNT, "{here} of {COUNT}");
        all += here;
        assert_eq!(names(&stage.folder("")).len(), all, "nothing else is left");
        if here == 0 {
            let again = stage.json(&["create", &name, "--image", "disk", "--count", &count]);
            all += again.as_array().unwrap().len();
        }
    }
}

/// However little of it is left: the node hears at once that its command is gone.
#[test]
fn an_export_whose_command_was_ended_is_not_carried_out_after_all() {
    let away = Away::new(4, true, "");
    away.create("vm", &[]);
    let (instances, file) = (
        away.scene.path("node.data/instances"),
        away.scene.arg("vm.raw"),
    );
    let origin = away.origin.as_ref().unwrap();
    origin.signal(Signal::STOP);
    let config = away.config.clone();
    let mut export = Background::start(&["instance", "export", "vm", &file, "--config", &config]);
    let started = Instant::now();
    let is_under_way = || !unfinished(&instances).is_empty();
    while !is_under_way() {
        assert!(!export.is_over() && started.elapsed() < PATIENCE);
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    drop(export);
    std::thread::sleep(std::time::Duration::from_millis(50));
    origin.signal(Signal::CONT);
    while is_under_way() {
        assert!(started.elapsed() < PATIENCE, "it does not end");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert!(!Path::new(&file).exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_that_is_cut_short_leaves_no_file() {
    let mut away = Away::new(16, true, "");
    let disk = attach(&away.create("vm", &[])).await;
    read(&disk, 0, 2 * EXTENT).await.unwrap();
    disk.flush().await.unwrap();
    let (target, instances) = (
        away.scene.path("elsewhere"),
        away.scene.path("node.data/instances"),
    );
    fs::create_dir(&target).unwrap();
    fs::write(target.join(".export-mine.raw"), "another's").unwrap();
    // What it reads never comes.
    away.origin.take().unwrap().kill();
    let (file, config) = (
        target.join("vm.raw").display().to_string(),
        away.config.clone(),
    );
    let mut export = Background::start(&["instance", "export", "vm", &file, "--config", &config]);
    let started = Instant::now();
    let copied = || {
        let passing = unfinished(&instances);
        passing
            .iter()
            .any(|name| instances.join(name).join("overlay/map").exists())
    };
    while !copied() {
        assert!(!export.is_over() && started.elapsed() < PATIENCE);
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    away.node.take().unwrap().kill();
    assert_eq!(unfinished(&target).len(), 1, "what the death left");

    let log = away.scene.path("node.log");
    let script = format!("exec \"$0\" serve --config \"$1\" 2> {}", log.display());
    let node = Command::new("sh")
        .args(["-c", &script, env!("CARGO_BIN_EXE_vmthunder"), &config])
        .stdout(Stdio::null())
        .spawn();
    let _node = Background(node.unwrap());
    let started = Instant::now();
    while !unfinished(&target).is_empty() || !unfinished(&instances).is_empty() {
        assert!(started.elapsed() < PATIENCE, "it is not removed");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let said = fs::read_to_string(&log).unwrap();
    assert!(said.contains(": its export was cut short"), "{said}");
    assert_eq!(names(&target), [".export-mine.raw"]);
    let mut left = names(&instances);
    left.sort();
    assert_eq!(left, ["vm"]);
}
