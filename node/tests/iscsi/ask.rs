//! `discover`, `luns`, `inquiry`, `capacity` and `status`.

use serde_json::json as value;

use crate::harness::{Running, Scene, free_address, refuse, succeed};
use crate::{fails, json, portal, target};

#[test]
fn units_are_listed_with_what_they_tell() {
    let scene = Scene::new();
    for (name, extents) in [("a.raw", 2), ("b.raw", 3)] {
        scene.image(name, extents);
    }
    let a = format!("{},ro,serial=DISK-A", scene.arg("a.raw"));
    let b = format!("{},lun=7,block-size=4096", scene.arg("b.raw"));
    let iqn = "iqn.2026-11.org.example:two";
    let (_target, url) = Running::target(&["--iqn", iqn, &a, &b]);

    let (code, listed) = json(&["luns", &target(&url)]);
    assert_eq!(code, Some(0));
    let listed = listed.as_array().unwrap();
    assert_eq!(listed.len(), 2);
    assert_eq!(listed[0]["lun"], 0);
    assert_eq!(listed[0]["serial"], "DISK-A");
    assert_eq!(listed[0]["bytes"], 131_072);
    assert_eq!(listed[0]["read_only"], true);
    assert_eq!(listed[0]["error"], value!(null));
    assert_eq!(listed[1]["lun"], 7);
    assert_eq!(listed[1]["address"], "0x0007000000000000");
    assert_eq!(listed[1]["block_bytes"], 4096);
    assert_eq!(listed[1]["blocks"], 48);
    assert_eq!(listed[1]["read_only"], false);
    assert_eq!(listed[1]["thin"], true);
    assert_eq!(listed[1]["naa"].as_str().unwrap().len(), 16);
    let text = succeed(&["iscsi", "luns", &target(&url)]);
    for word in ["DISK-A", "192.0 KiB", "4096", "read-only"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    let (_, found) = json(&["discover", &portal(&url)]);
    assert_eq!(found[0]["name"], iqn);
    assert_eq!(found[0]["addresses"][0]["portal_group_tag"], 1);
}

#[test]
fn a_unit_tells_pages_and_size() {
    let scene = Scene::new();
    scene.image("a.raw", 2);
    let file = format!("{},serial=DISK-A", scene.arg("a.raw"));
    let (_target, url) = Running::target(&[&file]);
    let (_, standard) = json(&["inquiry", &url]);
    assert_eq!(standard["serial"], "DISK-A");
    assert_eq!(standard["device_type"], 0);
    assert!(!standard["designators"].as_array().unwrap().is_empty());
    let (_, pages) = json(&["inquiry", &url, "--page", "0"]);
    assert_eq!(pages["name"], "supported pages");
    let listed = pages["fields"]["pages"].to_string();
    assert!(listed.contains("83h device identification"), "{listed}");
    let (_, serial) = json(&["inquiry", &url, "--page", "0x80"]);
    assert_eq!(serial["fields"]["serial"], "DISK-A");
    assert_eq!(serial["hex"], "008000064449534b2d41");
    let (_, limits) = json(&["inquiry", &url, "--page", "b0"]);
    assert!(limits["fields"]["maximum_unmap_blocks"].is_number());
    let text = succeed(&["iscsi", "inquiry", &url, "--page", "83h"]);
    assert!(text.contains("NAA of the unit: "), "{text}");
    // A page that nobody here can read is shown as it is.
    let text = succeed(&["iscsi", "inquiry", &url, "--page", "87"]);
    assert!(text.contains("0000  00 87 00 "), "{text}");
    assert!(fails(1, &["inquiry", &url, "--page", "c0"]).contains("no page c0h"));
    fails(2, &["inquiry", &url, "--page", "xyz"]);

    let (_, capacity) = json(&["capacity", &url]);
    let should = value!({
        "blocks": 256, "block_bytes": 512, "bytes": 131_072, "thin": true, "reads_zeros": true,
        "physical_block_bytes": capacity["physical_block_bytes"],
    });
    assert_eq!(capacity, should);
}

#[test]
fn a_session_and_its_unit_are_told_as_they_are() {
    let scene = Scene::new();
    scene.image("a.raw", 2);
    let file = format!("{},removable", scene.arg("a.raw"));
    let (_target, url) = Running::target(&[&file, "--max-commands", "7"]);
    let (code, status) = json(&["status", &url]);
    assert_eq!(code, Some(0));
    assert_eq!(status["ready"], true);
    assert_eq!(status["not_ready"], value!(null));
    assert_eq!(status["bytes"], 131_072);
    assert_eq!(status["write_protected"], false);
    assert_eq!(status["reservation"], value!(null));
    assert_eq!(status["portals"][0]["address"], status["portal"]);
    let keys = &status["negotiated"];
    assert_eq!(keys["command_window"], 7);
    assert_eq!(keys["header_digest"], false);
    assert!(keys["max_burst_length"].as_u64().unwrap() >= 512);
    let trip = &status["round_trip"];
    assert!(trip["min_us"].as_u64() <= trip["median_us"].as_u64());
    assert!(trip["median_us"].as_u64() <= trip["max_us"].as_u64());
    let path = &status["paths"][0];
    assert_eq!(status["paths"].as_array().unwrap().len(), 1);
    assert_eq!(path["portal"], status["portal"]);
    assert_eq!(path["latency_us"], trip["median_us"]);
    let text = succeed(&["iscsi", "status", &url]);
    for word in [
        "ready         yes",
        "MaxRecvDataSegmentLength",
        "round trip",
    ] {
        assert!(text.contains(word), "{word}: {text}");
    }
}

#[test]
fn every_way_to_a_unit_is_told() {
    let scene = Scene::new();
    scene.image("a.raw", 2);
    let (target, url) = Running::target(&[&scene.arg("a.raw"), "--listen", "127.0.0.1:0"]);
    let other = portal(&target.url()).replace("iscsi://", "");
    let nobody = free_address().to_string();
    let (code, status) = json(&["status", &url, "--portal", &other, "--portal", &nobody]);
    assert_eq!(code, Some(0));
    let paths = status["paths"].as_array().unwrap();
    assert_eq!(paths.len(), 3);
    for path in &paths[..2] {
        assert_eq!(path["state"], "connected", "{path}");
        assert_eq!(path["in_use"], true, "{path}");
        assert_eq!(path["failures"], 0);
        assert!(path["commands"].as_u64().unwrap() > 0);
        assert!(path["latency_us"].is_number());
        assert!(path["portal_group_tag"].is_number());
    }
    assert_eq!(paths[1]["portal"], other);
    assert_eq!(paths[2]["state"], "lost");
    assert_eq!(paths[2]["in_use"], false);
    assert!(!paths[2]["reason"].as_str().unwrap().is_empty());
    let text = succeed(&["iscsi", "status", &url, "--portal", &other]);
    for word in ["in use", "latency", &other] {
        assert!(text.contains(word), "{word}: {text}");
    }
}

#[test]
fn a_place_that_is_none_is_answered_with_those_that_are() {
    let scene = Scene::new();
    scene.image("a.raw", 1);
    scene.image("b.raw", 1);
    let b = format!("{},lun=5", scene.arg("b.raw"));
    let (_target, url) = Running::target(&[&scene.arg("a.raw"), &b]);
    let (portal, target) = (portal(&url), target(&url));
    let name = target.rsplit('/').next().unwrap();

    let other = format!("{portal}/iqn.2026-11.org.example:other/0");
    for wrong in [&portal, &other] {
        for verb in ["luns", "status", "capacity", "bench"] {
            let said = refuse(&["iscsi", verb, wrong]);
            assert!(said.contains(name), "{verb} {wrong}: {said}");
        }
    }
    let said = refuse(&["iscsi", "read", &format!("{target}/3")]);
    assert!(
        said.contains("there is no LUN 3") && said.contains("the target has LUNs 0, 5"),
        "{said}"
    );
    let nobody = format!("iscsi://{}/{name}/0", free_address());
    let said = refuse(&["iscsi", "status", &nobody]);
    assert!(said.contains("is a target listening there"), "{said}");
}

#[test]
fn a_refused_secret_is_answered_with_how_to_give_one() {
    let scene = Scene::new();
    scene.image("a.raw", 1);
    let secret = scene.secret("secret", "correct horse battery\n");
    let (_target, url) = Running::target(&[
        &scene.arg("a.raw"),
        "--chap-user",
        "alice",
        "--chap-secret-file",
        &secret,
    ]);
    let said = refuse(&["iscsi", "luns", &target(&url)]);
    assert!(said.contains("--chap-secret-file FILE"), "{said}");
    let alice = target(&url).replace("iscsi://", "iscsi://alice@");
    let wrong = scene.secret("wrong", "incorrect horse battery\n");
    let said = refuse(&["iscsi", "luns", &alice, "--chap-secret-file", &wrong]);
    assert!(said.contains(&format!("in {wrong} does not fit")), "{said}");
    let listed = json(&["luns", &alice, "--chap-secret-file", &secret]);
    assert_eq!(listed.1[0]["lun"], 0);
}
