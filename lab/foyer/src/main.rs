//! Plays the same reads through one of two caches on the same disk, and prints what came of it as one JSON object.
//!
//! `play` begins with an empty cache: every read is of a whole extent of 64 KiB, several are under way at once, what is
//! not held is made after a pause (the pause of a fetch from elsewhere), and every byte that comes is compared. Then the
//! extents read last are read again, for the throughput of hits, and the program kills itself, as a power cut of the
//! program. `again` opens what that left, and reads those extents once more.
#![forbid(unsafe_code)]

mod foyers;
mod ours;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, ValueEnum};
use rustix::process::{Signal, getpid, kill_process};
use serde_json::json;

/// Bytes that are cached as one.
const EXTENT: usize = 65_536;
/// Reads under way at once.
const READERS: usize = 8;
/// What a fetch takes.
const FETCH: Duration = Duration::from_millis(1);
/// How often the extents that were read last are read again.
const ROUNDS: usize = 16;

#[derive(Parser)]
struct Args {
    engine: Engine,
    phase: Phase,
    /// The reads: pairs of little-endian 32-bit numbers, image and extent.
    #[arg(long)]
    reads: PathBuf,
    /// Where the cache lies.
    #[arg(long)]
    folder: PathBuf,
    /// What it may take of the disk.
    #[arg(long)]
    bytes: usize,
}

#[derive(Clone, Copy, ValueEnum)]
enum Engine {
    Ours,
    Foyer,
}

#[derive(Clone, Copy, ValueEnum)]
enum Phase {
    Play,
    Again,
}

/// An extent of an image.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    image: u32,
    extent: u32,
}

impl Key {
    /// What it holds.
    fn content(self) -> Vec<u8> {
        let mut bytes = vec![0; EXTENT];
        for (word, number) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(self.words()) {
            *word = number.to_le_bytes();
        }
        bytes
    }

    /// True if that is what it holds.
    fn is(self, bytes: &[u8]) -> bool {
        let (words, rest) = bytes.as_chunks::<8>();
        let pairs = words.iter().zip(self.words());
        let same = |(word, number): (&[u8; 8], u64)| u64::from_le_bytes(*word) == number;
        bytes.len() == EXTENT && rest.is_empty() && pairs.map(same).fold(true, |all, one| all & one)
    }

    fn words(self) -> impl Iterator<Item = u64> {
        let seed = (u64::from(self.image) << 32) | u64::from(self.extent);
        (0..EXTENT as u64 / 8).map(move |word| seed ^ (word << 48 | word))
    }
}

/// A cache that is compared.
trait Cached: Send + Sync + 'static {
    /// Reads an extent, which is fetched if it is not held; false if it is not what it should be.
    fn read(&self, key: Key) -> impl Future<Output = Result<bool>> + Send;

    /// Waits until nothing waits to be written any more.
    fn settle(&self) -> impl Future<Output = ()> + Send;
}

/// Extents that were fetched.
type Fetched = Arc<AtomicU64>;

fn main() -> Result<()> {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let fetched = Fetched::default();
        let began = Instant::now();
        match args.engine {
            Engine::Ours => {
                let cache = ours::open(&args.folder, args.bytes, &fetched).await?;
                run(&args, cache, &fetched, began.elapsed()).await
            }
            Engine::Foyer => {
                let cache = foyers::open(&args.folder, args.bytes, &fetched).await?;
                run(&args, cache, &fetched, began.elapsed()).await
            }
        }
    })
}

async fn run(args: &Args, cache: impl Cached, fetched: &Fetched, opening: Duration) -> Result<()> {
    let reads = reads(&args.reads)?;
    let last = last(&reads, args.bytes / EXTENT / 2);
    let cache = Arc::new(cache);
    if let Phase::Again = args.phase {
        let found = play(&cache, &last, fetched).await?;
        println!(
            "{}",
            json!({ "open_seconds": opening.as_secs_f64(), "reads": last.len(), "fetched": found.fetched })
        );
        return Ok(());
    }
    let played = play(&cache, &reads, fetched).await?;
    cache.settle().await;
    // What was not kept comes now.
    play(&cache, &last, fetched).await?;
    cache.settle().await;
    let warm: Vec<Key> = (0..ROUNDS).flat_map(|_| last.iter().copied()).collect();
    let hits = play(&cache, &warm, fetched).await?;
    println!(
        "{}",
        json!({
            "reads": reads.len(),
            "fetched": played.fetched,
            "seconds": played.seconds,
            "cpu_seconds": played.cpu,
            "warm_reads": warm.len(),
            "warm_fetched": hits.fetched,
            "warm_seconds": hits.seconds,
            "warm_cpu_seconds": hits.cpu,
            "peak_bytes": peak()?,
        })
    );
    kill_process(getpid(), Signal::KILL)?;
    Ok(())
}

/// What some reads came to.
struct Played {
    fetched: u64,
    seconds: f64,
    cpu: f64,
}

/// Reads all, in order, several at once, and compares.
async fn play(cache: &Arc<impl Cached>, reads: &[Key], fetched: &Fetched) -> Result<Played> {
    let reads: Arc<[Key]> = reads.into();
    let next = Arc::new(AtomicUsize::new(0));
    let (before, cpu_before, began) = (fetched.load(Ordering::Relaxed), cpu()?, Instant::now());
    let readers: Vec<_> = (0..READERS)
        .map(|_| {
            let (cache, reads, next) = (Arc::clone(cache), Arc::clone(&reads), Arc::clone(&next));
            tokio::spawn(async move {
                while let Some(key) = reads.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let right = cache.read(*key).await?;
                    ensure!(
                        right,
                        "extent {} of image {} is wrong",
                        key.extent,
                        key.image
                    );
                }
                Ok(())
            })
        })
        .collect();
    for reader in readers {
        reader.await??;
    }
    Ok(Played {
        fetched: fetched.load(Ordering::Relaxed) - before,
        seconds: began.elapsed().as_secs_f64(),
        cpu: cpu()? - cpu_before,
    })
}

/// The reads of the file, without those of the extent that was read just before.
fn reads(path: &PathBuf) -> Result<Vec<Key>> {
    let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
    let number = |bytes: &[u8]| bytes.try_into().map_or(0, u32::from_le_bytes);
    let mut reads: Vec<Key> = bytes
        .chunks_exact(8)
        .map(|pair| Key {
            image: number(&pair[..4]),
            extent: number(&pair[4..]),
        })
        .collect();
    reads.dedup();
    Ok(reads)
}

/// The last `count` extents that were read, each once.
fn last(reads: &[Key], count: usize) -> Vec<Key> {
    let mut seen = HashSet::new();
    let fresh = reads.iter().rev().filter(|key| seen.insert(**key));
    fresh.take(count).copied().collect()
}

/// Seconds of processor time that this program took so far, from /proc/self/stat.
fn cpu() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let (_, behind) = stat.rsplit_once(") ").context("/proc/self/stat")?;
    let ticks = behind.split(' ').skip(11).take(2);
    let ticks: u64 = ticks.filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// The most memory that it held.
fn peak() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
    Ok(kibibytes.context("VmHWM")?.trim().parse::<u64>()? * 1024)
}
