//! Acknowledged survives the program's death: a child writes into an overlay, says what was answered, and is killed.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use bytes::Bytes;
use vmthunder_cache::ImageKey;
use vmthunder_cache::overlay::{Overlay, OverlayOptions};
use vmthunder_volume::testing::MemVolume;
use vmthunder_volume::{BlockSize, Class, Geometry, Span, Volume};

const KEY: ImageKey = ImageKey([3; 32]);
const SIZE: u64 = 32 << 20;
const DIRECTORY: &str = "OVERLAY_KILL_TEST_DIRECTORY";

fn base() -> Arc<MemVolume> {
    let geometry = Geometry::of_bytes(BlockSize::B512, SIZE);
    Arc::new(MemVolume::new(
        geometry,
        vec![0xbb; usize::try_from(SIZE).unwrap()],
    ))
}

/// The write number `n`: an offset and a length in bytes, and every sector filled with `n`.
fn write_of(n: u64) -> (u64, u64) {
    let mixed = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
    let sectors = 1 + mixed % 40;
    let offset = (mixed >> 8) % (SIZE / 512 - sectors);
    (offset * 512, sectors * 512)
}

fn bytes_of(n: u64, length: u64) -> Bytes {
    n.to_le_bytes()
        .repeat(usize::try_from(length / 8).unwrap())
        .into()
}

/// Not a test: what the child runs.
#[tokio::test]
#[ignore = "run by the other test in a process of its own"]
async fn child_that_writes_until_it_is_killed() {
    let Ok(directory) = std::env::var(DIRECTORY) else {
        return;
    };
    let overlay = Overlay::open(Path::new(&directory), KEY, base())
        .await
        .unwrap();
    let first: u64 = std::env::var("FIRST").unwrap().parse().unwrap();
    // An end of its own, should the one who kills be gone.
    for n in first..first + 1_000_000 {
        let (offset, length) = write_of(n);
        if n % 7 == 3 {
            overlay.trim(Span::new(offset, length)).await.unwrap();
        } else {
            overlay.write(offset, bytes_of(n, length)).await.unwrap();
        }
        if n % 200 == 199 {
            overlay.flush().await.unwrap();
        }
        let mut out = std::io::stdout().lock();
        writeln!(out, "\nanswered {n}").unwrap();
    }
}

/// Kills the child when the test ends, whatever happens.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Starts the child at write number `first`, lets it answer `count` writes, kills it; the last number it told.
fn run_child(directory: &Path, first: u64, count: u64) -> u64 {
    let child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "--ignored",
            "--nocapture",
            "child_that_writes_until_it_is_killed",
        ])
        .env(DIRECTORY, directory)
        .env("FIRST", first.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut child = Killed(child);
    let out = BufReader::new(child.0.stdout.take().unwrap());
    let (sender, answered) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        for line in out.lines().map_while(Result::ok) {
            if let Some(number) = line.strip_prefix("answered ") {
                sender.send(number.parse::<u64>().unwrap()).ok();
            }
        }
    });
    let mut last = first - 1;
    while last + 1 < first + count {
        last = answered.recv_timeout(Duration::from_secs(60)).unwrap();
    }
    drop(child);
    reader.join().unwrap();
    // What it told between our decision and its death counts too.
    answered.try_iter().last().unwrap_or(last)
}

#[tokio::test]
async fn every_acknowledged_write_is_there_after_kill_9() {
    let directory = tempfile::tempdir().unwrap();
    let options = OverlayOptions {
        base: KEY,
        bytes: None,
    };
    drop(
        Overlay::create(directory.path(), options, base())
            .await
            .unwrap(),
    );
    let mut sectors: HashMap<u64, u64> = HashMap::new();
    let mut first = 1;
    for count in [1, 150, 700] {
        let last = run_child(directory.path(), first, count);
        for n in first..=last {
            let (offset, length) = write_of(n);
            let value = if n % 7 == 3 { 0 } else { n };
            sectors.extend((offset / 512..(offset + length) / 512).map(|sector| (sector, value)));
        }
        // The write under way when it died may have happened or not.
        let (offset, length) = write_of(last + 1);
        let maybe = offset / 512..(offset + length) / 512;
        let overlay = Overlay::open(directory.path(), KEY, base()).await.unwrap();
        for sector in 0..SIZE / 512 {
            let bytes = overlay
                .read(Span::new(sector * 512, 512), Class::Demand)
                .await
                .unwrap();
            let word = u64::from_le_bytes(bytes[..8].try_into().unwrap());
            assert!(bytes == bytes_of(word, 512), "sector {sector} is garbage");
            if !maybe.contains(&sector) {
                let expected = sectors
                    .get(&sector)
                    .copied()
                    .unwrap_or(0xbbbb_bbbb_bbbb_bbbb);
                assert_eq!(word, expected, "sector {sector} after write {last}");
            }
        }
        // The next child begins with the write that was cut off, so that the table is right about it too.
        first = last + 1;
    }
}
