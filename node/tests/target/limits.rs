//! How much initiators may ask for.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::harness::{PATIENCE, Running, Scene, connect, refuse};

/// A connection that nobody logged in on.
fn dial(url: &str) -> TcpStream {
    let stream = TcpStream::connect(url.split('/').nth(2).unwrap()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// A Login Request for the full feature phase, in one go (RFC 7143 §11.12).
fn login(url: &str) -> Vec<u8> {
    let target = url.split('/').nth(3).unwrap();
    let mut text = format!(
        "InitiatorName=iqn.2026-11.org.example:raw\0SessionType=Normal\0TargetName={target}\0"
    )
    .into_bytes();
    let mut pdu = vec![0; 48];
    // Immediate Login Request; T, CSG 1, NSG 3.
    (pdu[0], pdu[1]) = (0x43, 0x87);
    pdu[5..8].copy_from_slice(&u32::try_from(text.len()).unwrap().to_be_bytes()[1..]);
    pdu[8] = 0x80;
    text.resize(text.len().next_multiple_of(4), 0);
    pdu.extend(text);
    pdu
}

#[test]
fn the_queue_depth_is_the_command_window() {
    let scene = Scene::new();
    scene.image("disk.raw", 1);
    let (_target, url) = Running::target(&[&scene.arg("disk.raw"), "--max-commands", "7"]);
    let mut stream = dial(&url);
    stream.write_all(&login(&url)).unwrap();
    let mut answer = [0; 48];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!((answer[0], answer[36]), (0x23, 0), "a login that succeeds");
    let number = |at: usize| u32::from_be_bytes(answer[at..at + 4].try_into().unwrap());
    // ExpCmdSN and MaxCmdSN.
    assert_eq!(number(32) - number(28) + 1, 7);
}

#[tokio::test]
async fn one_session_too_many_is_told_so() {
    let scene = Scene::new();
    scene.image("disk.raw", 1);
    let (_target, url) = Running::target(&[&scene.arg("disk.raw"), "--max-sessions", "1"]);
    let first = connect(&url).await.unwrap();
    // Class 3, detail 2: out of resources.
    let error = refuse(&["iscsi", "capacity", &url]);
    assert!(error.contains("(0302h)"), "{error}");
    first.close().await;
}

#[test]
fn who_does_not_log_in_is_not_waited_for() {
    let scene = Scene::new();
    scene.image("disk.raw", 1);
    let disk = scene.arg("disk.raw");
    let (_hasty, url) = Running::target(&["--read-only", &disk, "--login-timeout", "1"]);
    assert_eq!(dial(&url).read(&mut [0; 48]).unwrap(), 0, "closed in time");
    let (_crowded, url) = Running::target(&["--read-only", &disk, "--max-logins", "1"]);
    let (mut first, mut second) = (dial(&url), dial(&url));
    assert_eq!(
        first.read(&mut [0; 48]).unwrap(),
        0,
        "the oldest makes room"
    );
    second.write_all(&login(&url)).unwrap();
    second.read_exact(&mut [0; 48]).unwrap();
}
