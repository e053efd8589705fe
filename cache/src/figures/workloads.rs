//! Reads to compare with: boots as they were recorded (lab/traces), and made up ones from a seed.

use std::fs;
use std::path::Path;

use crate::map::Key;
use crate::testing::Dice;

/// A sequence of reads, an extent each.
pub(super) struct Workload {
    pub(super) name: &'static str,
    pub(super) reads: Vec<Key>,
}

impl Workload {
    /// Reads but for those of the extent that was read just before.
    pub(super) fn uses(&self) -> u32 {
        let again = self.reads.windows(2).filter(|pair| pair[0] == pair[1]);
        u32::try_from(self.reads.len() - again.count()).unwrap()
    }
}

/// All of them.
pub(super) fn all() -> Vec<Workload> {
    vec![
        one_image(),
        boots_and_a_scan(),
        many_images(),
        zipf("zipf 0.9", 0.9, false),
        zipf("zipf 0.9, scans between", 0.9, true),
        looping(),
    ]
}

/// Writes the reads of those that a real cache is compared with: pairs of little-endian 32-bit numbers, image and extent.
pub(super) fn write(folder: &Path) {
    for (name, workload) in [
        ("scans", boots_and_a_scan()),
        ("images", many_images()),
        ("zipf", zipf("", 0.9, false)),
    ] {
        let numbers = workload.reads.iter();
        let bytes = numbers.flat_map(|key| [key.image.to_le_bytes(), key.extent.to_le_bytes()]);
        fs::write(folder.join(name), bytes.flatten().collect::<Vec<u8>>()).unwrap();
    }
}

/// Three guests boot one image at about the same time, then two another.
fn one_image() -> Workload {
    let boots = [boot(0, BIOS_1), boot(0, BIOS_2), boot(0, BIOS_1)];
    let mut reads = interleave(&boots, 100);
    reads.extend(interleave(&[boot(1, DIRECT_1), boot(1, DIRECT_2)], 100));
    reads.extend(boot(0, BIOS_2));
    Workload {
        name: "boots of two images",
        reads,
    }
}

/// Boots of two images, and between them a backup reads a disk from end to end, 4 KiB at a time.
pub(super) fn boots_and_a_scan() -> Workload {
    let mut reads = Vec::new();
    for round in 0..4 {
        reads.extend(interleave(&[boot(0, BIOS_1), boot(1, DIRECT_1)], 50));
        reads.extend(interleave(&[boot(0, BIOS_2), boot(1, DIRECT_2)], 50));
        reads.extend(scan(10 + round, 8192));
    }
    Workload {
        name: "boots, full scans between",
        reads,
    }
}

/// Forty images, some far more popular than others, booted two hundred times, three at a time.
fn many_images() -> Workload {
    let mut dice = Dice(7);
    let popular = Zipf::new(40, 1.0);
    let mut reads = Vec::new();
    for _ in 0..70 {
        let boots = [(); 3].map(|()| {
            let image = popular.draw(&mut dice);
            let trace = if image.is_multiple_of(2) {
                BIOS_1
            } else {
                DIRECT_1
            };
            boot(image, trace)
        });
        reads.extend(interleave(&boots, 30));
    }
    Workload {
        name: "210 boots of 40 images",
        reads,
    }
}

fn zipf(name: &'static str, skew: f64, scans: bool) -> Workload {
    let mut dice = Dice(3);
    let extents = Zipf::new(50_000, skew);
    let mut reads = Vec::new();
    for number in 0..400_000 {
        reads.push(key(0, extents.draw(&mut dice)));
        if scans && number % 100_000 == 50_000 {
            reads.extend(scan(1 + number, 20_000));
        }
    }
    Workload { name, reads }
}

/// The same extents in the same order again and again.
fn looping() -> Workload {
    let reads = (0..5).flat_map(|_| (0..20_000).map(|extent| key(0, extent)));
    Workload {
        name: "a loop",
        reads: reads.collect(),
    }
}

/// The reads of a recorded boot, as extents.
fn boot(image: u32, trace: &str) -> Vec<Key> {
    let mut reads = Vec::new();
    for line in trace.lines().skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        if fields[1] == "R" {
            let number = |field: usize| fields[field].parse::<u64>().unwrap();
            let (first, end) = (number(2) / 128, (number(2) + number(3)).div_ceil(128));
            reads.extend((first..end).map(|extent| key(image, u32::try_from(extent).unwrap())));
        }
    }
    reads
}

fn scan(image: u32, extents: u32) -> impl Iterator<Item = Key> {
    (0..extents).flat_map(move |extent| std::iter::repeat_n(key(image, extent), 16))
}

/// Takes `stride` reads of each in turn until all are at their end.
fn interleave(boots: &[Vec<Key>], stride: usize) -> Vec<Key> {
    let longest = boots.iter().map(Vec::len).max().unwrap_or(0);
    let starts = (0..longest).step_by(stride);
    let pieces = starts.flat_map(|from| {
        boots.iter().flat_map(move |boot| {
            boot.get(from.min(boot.len())..(from + stride).min(boot.len()))
                .unwrap_or_default()
        })
    });
    pieces.copied().collect()
}

fn key(image: u32, extent: u32) -> Key {
    Key { image, extent }
}

/// Numbers of which the n-th is drawn in proportion to 1 / n^skew.
struct Zipf(Vec<f64>);

impl Zipf {
    fn new(count: u32, skew: f64) -> Self {
        let mut sum = 0.0;
        let sums = (1..=count).map(|rank| {
            sum += f64::from(rank).powf(-skew);
            sum
        });
        Self(sums.collect())
    }

    fn draw(&self, dice: &mut Dice) -> u32 {
        let all = self.0.last().copied().unwrap_or_default();
        let mark = f64::from(u32::try_from(dice.roll() >> 32).unwrap()) / f64::from(u32::MAX) * all;
        u32::try_from(self.0.partition_point(|sum| *sum < mark)).unwrap()
    }
}

const BIOS_1: &str = include_str!("../../../lab/traces/debian12-bios-1.csv");
const BIOS_2: &str = include_str!("../../../lab/traces/debian12-bios-2.csv");
const DIRECT_1: &str = include_str!("../../../lab/traces/debian12-nopart-direct-1.csv");
const DIRECT_2: &str = include_str!("../../../lab/traces/debian12-nopart-direct-2.csv");
