//! `disk_work image FILE BYTES SEED` writes an image. `disk_work use DEVICE SEED` is a guest that works on a disk that
//! began as that image: several threads read, write, trim and flush past the page cache, and compare every byte with
//! what was acknowledged.
//!
//! It prints a line of JSON for each line that it is told: `look` (the figures up to now; the longest time is the one
//! since the last look), `check` (the same after every block was read), `end` (it ends after that).
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "that is its answer")]

mod content;
mod work;

use std::fs::File;
use std::io::{self, BufRead as _, BufWriter, Write as _};
use std::sync::Arc;
use std::thread;

use anyhow::{Context as _, Result, bail, ensure};

use crate::content::{BLOCK, Content};
use crate::work::{Disk, Tally, Worker};

/// How many work at once.
const WORKERS: u64 = 4;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words[..] {
        ["image", file, bytes, seed] => write_image(file, bytes.parse()?, seed.parse()?),
        ["use", device, seed] => use_disk(device, seed.parse()?),
        _ => bail!("usage: disk_work image FILE BYTES SEED | disk_work use DEVICE SEED"),
    }
}

fn write_image(file: &str, bytes: u64, seed: u64) -> Result<()> {
    let mut out = BufWriter::new(File::create_new(file).context(file.to_owned())?);
    let mut block = [0; BLOCK];
    for number in 0..bytes / BLOCK as u64 {
        Content::Image.fill(seed, number, &mut block);
        out.write_all(&block)?;
    }
    Ok(out.flush()?)
}

fn use_disk(device: &str, seed: u64) -> Result<()> {
    let disk = Disk::open(device, seed)?;
    let tally = Arc::new(Tally::new(usize::try_from(WORKERS)?));
    let part = disk.blocks() / WORKERS;
    ensure!(part > 0, "{device} is too small");
    let workers: Result<Vec<_>> = (0..WORKERS)
        .map(|number| {
            let disk = disk.reopen()?;
            let tally = Arc::clone(&tally);
            let mut worker = Worker::new(disk, tally, usize::try_from(number)?, part);
            Ok(thread::spawn(move || worker.run()))
        })
        .collect();
    let workers = workers?;
    for order in io::stdin().lock().lines() {
        match order?.trim() {
            "look" => {}
            "check" => tally.check()?,
            "end" => {
                tally.end();
                for worker in workers {
                    worker
                        .join()
                        .map_err(|_| anyhow::anyhow!("a worker died"))?;
                }
                println!("{}", tally.figures());
                return Ok(());
            }
            other => bail!("{other} is no order"),
        }
        println!("{}", tally.figures());
    }
    Ok(())
}
