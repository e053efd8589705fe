//! The fuzz targets without a fuzzer.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;

/// Gives an entry point every file of its corpus, and then that many changed ones. The changes come from a fixed seed:
/// two runs are the same run. The input that failed is printed; it belongs into `fuzz/corpus`.
pub fn replay(target: &str, changes: usize, entry: fn(&[u8])) {
    let corpus = corpus(target);
    assert!(!corpus.is_empty(), "fuzz/corpus/{target} is empty");
    for input in &corpus {
        run(entry, input);
    }
    let mut chance = Chance(0x5eed);
    for _ in 0..changes {
        let mut input = corpus[chance.below(corpus.len())].clone();
        for _ in 0..=chance.below(4) {
            change(&mut input, &corpus, &mut chance);
        }
        run(entry, &input);
    }
}

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/corpus")
        .join(target);
    let listing = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let mut files: Vec<PathBuf> = listing
        .map(|entry| entry.expect("a folder that can be listed").path())
        .collect();
    files.sort_unstable();
    let read = |file: PathBuf| fs::read(&file).unwrap_or_else(|error| panic!("{file:?}: {error}"));
    files.into_iter().map(read).collect()
}

fn run(entry: fn(&[u8]), input: &[u8]) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| entry(input))) {
        let hex: String = input.iter().map(|byte| format!("{byte:02x}")).collect();
        eprintln!("the input was: {hex}");
        resume_unwind(panic);
    }
}

/// What a fuzzer does to its inputs, without looking at what it covers.
fn change(input: &mut Vec<u8>, corpus: &[Vec<u8>], chance: &mut Chance) {
    let at = chance.below(input.len() + 1);
    let end = input.len().min(at + 1 + chance.below(16));
    match chance.below(6) {
        0 if at < input.len() => input[at] ^= 1 << chance.below(8),
        1 if at < input.len() => input[at] = chance.byte(),
        2 => {
            input.drain(at..end);
        }
        3 => {
            let run = input[at..end].to_vec();
            input.splice(at..at, run);
        }
        4 => {
            let other = &corpus[chance.below(corpus.len())];
            let from = chance.below(other.len() + 1);
            let upto = other.len().min(from + 1 + chance.below(64));
            input.splice(at..at, other[from..upto].iter().copied());
        }
        _ => input.insert(at, chance.byte()),
    }
}

/// SplitMix64 (Steele, Lea and Flood, 2014).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap_or(0)
    }

    fn byte(&mut self) -> u8 {
        self.next().to_be_bytes()[0]
    }
}
