//! `vmthunder simulate` as a user has it.

use std::process::{Command, Output};

use serde_json::Value;

fn simulate(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_vmthunder"))
        .arg("simulate")
        .args(arguments)
        .output()
        .expect("it runs")
}

fn json(arguments: &[&str]) -> Value {
    let output = simulate(&[arguments, &["--json"]].concat());
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}

const SMALL: &[&str] = &["--nodes", "12", "--working-set", "8MB", "--rate", "1Gbit"];

#[test]
fn the_same_seed_gives_the_same_hash_and_the_figures_are_named() {
    let storm = json(&[SMALL, &["--seed", "3"]].concat());
    assert_eq!(storm["bound_seconds"], 0.064);
    for figure in [
        "last_node_seconds",
        "median_node_seconds",
        "origin_copies",
        "max_upload_over_working_set",
    ] {
        assert!(storm[figure].as_f64().unwrap() > 0.05, "{figure}: {storm}");
    }
    let hash = &storm["event_log_hash"];
    assert_eq!(hash.as_str().unwrap().len(), 16);
    let again = json(&[SMALL, &["--seed", "3"]].concat());
    assert_eq!(&again["event_log_hash"], hash);
    let other = json(&[SMALL, &["--seed", "4"]].concat());
    assert_ne!(&other["event_log_hash"], hash);
}

#[test]
fn troubles_can_be_put_together_and_no_wrong_byte_passes() {
    let storm = json(&[SMALL, &["--scenario", "liar,deaths,partial-views"]].concat());
    assert_eq!(storm["stuck_nodes"], 0);
    assert_eq!(storm["wrong_extents"], 0);
    assert!(storm["wrong_answers"].as_u64().unwrap() > 0, "{storm}");
}

#[test]
fn shapes_are_compared_and_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let plot = folder.path().join("storm.svg");
    let storm = json(&[SMALL, &["--compare", "--svg", plot.to_str().unwrap()]].concat());
    let shapes = storm["compare"].as_array().unwrap();
    let shapes: Vec<_> = shapes
        .iter()
        .map(|one| one["shape"].as_str().unwrap())
        .collect();
    assert_eq!(shapes, ["mesh", "tree", "star"]);
    let svg = std::fs::read_to_string(plot).unwrap();
    assert_eq!(svg.matches("<polyline").count(), 8);
}

#[test]
fn a_trace_is_replayed_with_the_time_between_its_reads() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("boot.csv");
    let lines = "t_us,op,lba,blocks\n0,R,0,128\n500000,R,4096,8\n700000,W,0,8\n1000000,R,0,8\n";
    std::fs::write(&trace, lines).unwrap();
    let storm = json(&[
        "--nodes",
        "4",
        "--trace",
        trace.to_str().unwrap(),
        "--pace",
        "0.5",
    ]);
    assert_eq!(storm["think_seconds"], 0.5);
    assert_eq!(storm["bound_seconds"], 0.5);
    assert_eq!(storm["working_set_bytes"], 131_072);
    assert!(
        storm["last_node_seconds"].as_f64().unwrap() < 0.55,
        "{storm}"
    );
}

#[test]
fn the_hunt_says_how_many_were_stuck() {
    let output = simulate(&["--hunt", "20"]);
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(said.lines().last(), Some("20 seeds, 0 stuck"));
}

#[test]
fn nonsense_is_refused_before_anything_is_played() {
    for wrong in [
        &["--rate", "fast"][..],
        &["--nodes", "0"],
        &["--working-set", "8GiB", "--image-size", "1GiB"],
        &["--working-set", "0"],
        &["--rtt", "1h"],
        &["--trace", "/does/not/exist"],
        &["--pace", "2"],
        &["--scenario", "doom"],
    ] {
        let output = simulate(wrong);
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty());
    }
}
