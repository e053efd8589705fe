//! Disks whose content tells where it belongs, as lab/load and `vmthunder iscsi bench --verify` know it.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use super::case::Disk;

const MIB: usize = 1 << 20;
/// Of a sparse disk one piece of these many is no hole.
const SPARSE: u64 = 16;
/// Bytes of such a piece.
const PIECE: u64 = 256 * 1024;

/// Writes a disk of this size.
pub(super) fn write(path: &Path, disk: Disk, bytes: u64) -> Result<()> {
    let mut file = File::create(path).with_context(|| path.display().to_string())?;
    file.set_len(bytes)?;
    let step = match disk {
        Disk::Full => PIECE,
        Disk::Sparse => PIECE * SPARSE,
    };
    let mut at = 0;
    while at < bytes {
        file.seek(SeekFrom::Start(at))?;
        file.write_all(&content(at, PIECE.min(bytes - at)))?;
        at += step;
    }
    Ok(())
}

/// Written for a compiler that optimizes nothing, which is how this program runs.
fn content(at: u64, length: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
    let mut place = at;
    while place < at + length {
        bytes.extend_from_slice(&word(place).to_le_bytes());
        place += 8;
    }
    bytes
}

/// A number that no other place has.
fn word(place: u64) -> u64 {
    let mut word = place.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    word ^= word >> 32;
    word = word.wrapping_mul(0xd6e8_feb8_6659_fd93);
    word ^ (word >> 32)
}

/// Fails unless both files hold the same bytes.
pub(super) fn compare(one: &Path, other: &Path) -> Result<()> {
    let open = |path: &Path| File::open(path).with_context(|| path.display().to_string());
    let (mut left, mut right) = (open(one)?, open(other)?);
    let bytes = left.metadata()?.len();
    ensure!(
        bytes == right.metadata()?.len(),
        "{} and {} differ in size",
        one.display(),
        other.display()
    );
    let (mut here, mut there) = (vec![0; MIB], vec![0; MIB]);
    let mut at = 0;
    while at < bytes {
        let length = usize::try_from(bytes - at).unwrap_or(MIB).min(MIB);
        let (here, there) = (&mut here[..length], &mut there[..length]);
        left.read_exact(here)?;
        right.read_exact(there)?;
        ensure!(
            here == there,
            "{} and {} differ within the MiB at byte {at}",
            one.display(),
            other.display()
        );
        at += length as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_as_large_and_as_full_as_it_should_be_and_a_flipped_bit_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let bytes = 3 * PIECE * SPARSE + 4096;
        write(&path("full"), Disk::Full, bytes).unwrap();
        write(&path("sparse"), Disk::Sparse, bytes).unwrap();
        write(&path("again"), Disk::Full, bytes).unwrap();
        let full = std::fs::read(path("full")).unwrap();
        let sparse = std::fs::read(path("sparse")).unwrap();
        assert_eq!((full.len() as u64, sparse.len()), (bytes, full.len()));
        let zeros = |disk: &[u8]| {
            disk.chunks(4096)
                .filter(|block| block.iter().all(|byte| *byte == 0))
                .count()
        };
        assert_eq!(zeros(&full), 0);
        assert_eq!(zeros(&sparse) as u64, 3 * (SPARSE - 1) * PIECE / 4096);
        compare(&path("full"), &path("again")).unwrap();
        assert!(compare(&path("full"), &path("sparse")).is_err());
        let mut damaged = full;
        damaged[MIB + 77] ^= 1;
        std::fs::write(path("again"), damaged).unwrap();
        let error = compare(&path("full"), &path("again")).unwrap_err();
        assert!(
            error.to_string().ends_with(&format!("at byte {MIB}")),
            "{error}"
        );
    }
}
