//! The boot that every guest replays: its trace, and a disk that fits.

use std::collections::{BTreeSet, HashSet};
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use crate::repo::Repo;

/// The unit of caches and of the wire between nodes.
pub(super) const EXTENT: u64 = 65_536;
/// Traces count in these.
const BLOCK: u64 = 512;
/// By which an extent is recognised.
const HEAD: usize = 16;

/// What a guest does with its disk.
pub(super) struct Boot {
    pub(super) name: String,
    pub(super) file: PathBuf,
    extents: BTreeSet<u64>,
    /// The first byte behind everything that is read or written.
    end: u64,
    /// The guest's own time, as it was recorded.
    pub(super) own_seconds: f64,
}

impl Boot {
    /// A trace of lab/traces, or one in a file.
    pub(super) fn load(repo: &Repo, name: &str) -> Result<Self> {
        let shipped = repo.root.join("lab/traces").join(format!("{name}.csv"));
        let file = match shipped.is_file() {
            true => shipped,
            false => std::path::absolute(name)?,
        };
        let text = fs::read_to_string(&file)
            .with_context(|| format!("{name} is neither a trace of lab/traces nor a file"))?;
        let stem = file.file_stem().unwrap_or_default().to_string_lossy();
        Self::parse(&stem, &file, &text).with_context(|| file.display().to_string())
    }

    fn parse(name: &str, file: &Path, text: &str) -> Result<Self> {
        let mut boot = Self {
            name: name.to_owned(),
            file: file.to_owned(),
            extents: BTreeSet::new(),
            end: 0,
            own_seconds: 0.0,
        };
        let mut last_us = 0;
        for (number, line) in text.lines().enumerate().skip(1) {
            let (at_us, is_read, from, until) =
                request(line).with_context(|| format!("line {}: {line}", number + 1))?;
            last_us = last_us.max(at_us);
            boot.end = boot.end.max(until);
            if is_read {
                boot.extents.extend(from / EXTENT..until.div_ceil(EXTENT));
            }
        }
        ensure!(!boot.extents.is_empty(), "it reads nothing");
        boot.own_seconds = last_us as f64 / 1e6;
        Ok(boot)
    }

    /// Bytes of the extents that are read.
    pub(super) fn working_set(&self) -> u64 {
        self.extents.len() as u64 * EXTENT
    }

    /// Writes a disk of which no two extents are alike where the trace reads, with holes elsewhere.
    pub(super) fn image(&self, path: &Path) -> Result<()> {
        let file = File::create_new(path).with_context(|| path.display().to_string())?;
        file.set_len(self.end.next_multiple_of(EXTENT))?;
        for extent in &self.extents {
            file.write_all_at(&content(*extent), extent * EXTENT)?;
        }
        Ok(())
    }

    /// Spoils every extent of the disk that lies in a cache, a byte each; how many there were.
    pub(super) fn spoil(&self, cache: &Path) -> Result<usize> {
        let heads: HashSet<Vec<u8>> = self
            .extents
            .iter()
            .map(|extent| content(*extent)[..HEAD].to_vec())
            .collect();
        let file = File::options().read(true).write(true).open(cache);
        let file = file.with_context(|| cache.display().to_string())?;
        let mut spoilt = 0;
        let mut head = [0; HEAD];
        // Slots lie at multiples of their size (docs/cache-format.md).
        for slot in (0..file.metadata()?.len() / EXTENT).map(|slot| slot * EXTENT) {
            if file.read_exact_at(&mut head, slot).is_ok() && heads.contains(head.as_slice()) {
                let wrong = head.map(|byte| !byte);
                file.write_all_at(&wrong, slot)?;
                spoilt += 1;
            }
        }
        Ok(spoilt)
    }
}

/// When, whether it reads, from which byte, and up to which.
fn request(line: &str) -> Result<(u64, bool, u64, u64)> {
    let fields: Vec<&str> = line.split(',').collect();
    let [at, op, lba, blocks] = fields[..] else {
        anyhow::bail!("a line has the columns t_us,op,lba,blocks");
    };
    let (lba, blocks): (u64, u64) = (lba.parse()?, blocks.parse()?);
    let span = lba.checked_mul(BLOCK).zip(blocks.checked_mul(BLOCK));
    let end = span.and_then(|(from, length)| Some((from, from.checked_add(length)?)));
    let (from, until) = end.context("a place beyond every disk")?;
    Ok((at.parse()?, op == "R", from, until))
}

/// What an extent holds: the numbers of SplitMix64, begun with its place.
fn content(extent: u64) -> Vec<u8> {
    let mut state = extent;
    let mut bytes = Vec::new();
    for _ in 0..EXTENT / 8 {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bytes.extend((mixed ^ (mixed >> 31)).to_le_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "t_us,op,lba,blocks\n0,R,127,2\n1500000,W,1000,8\n2000000,R,512,128\n";

    fn boot() -> Boot {
        Boot::parse("a", Path::new("a.csv"), TRACE).unwrap()
    }

    #[test]
    fn extents_are_counted_once_and_whole() {
        let boot = boot();
        assert_eq!(boot.extents, BTreeSet::from([0, 1, 4]));
        assert_eq!(boot.working_set(), 3 * 65_536);
        assert_eq!(boot.end, 1008 * 512);
        assert!((boot.own_seconds - 2.0).abs() < 1e-9);
        assert!(Boot::parse("a", Path::new("a"), "t_us,op,lba,blocks\n1,R,0\n").is_err());
        assert!(Boot::parse("a", Path::new("a"), "t_us,op,lba,blocks\n").is_err());
    }

    #[test]
    fn what_lies_in_a_cache_is_spoilt_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("image");
        boot().image(&image).unwrap();
        let whole = fs::read(&image).unwrap();
        assert_eq!(whole.len(), 8 * 65_536);
        let extent = |number: usize| &whole[number * 65_536..(number + 1) * 65_536];
        assert!(extent(0) != extent(1) && extent(2) == [0; 65_536]);
        let cache = folder.path().join("cache");
        let other = vec![7; 65_536];
        fs::write(&cache, [&other, extent(4), &other, extent(0)].concat()).unwrap();
        assert_eq!(boot().spoil(&cache).unwrap(), 2);
        let spoilt = fs::read(&cache).unwrap();
        assert_eq!(spoilt[..65_536], other);
        assert_ne!(spoilt[65_536..65_552], extent(4)[..16]);
        assert_eq!(spoilt[65_552..131_072], extent(4)[16..]);
    }
}
