//! Whether a disk has room for a copy. A copy never takes the last of it: guests write to the same disk.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use rustix::fs::statvfs;

use crate::status::size;

/// What stays free for the guests.
const RESERVE: u64 = 512 << 20;

/// Refuses to take so many bytes of a disk that has so many if too little would be left.
pub(super) fn fits(bytes: u64, free: u64) -> Result<()> {
    let needed = bytes.saturating_add(RESERVE);
    ensure!(
        free >= needed,
        "no room: {} are missing, to bring {} here and leave {} to what guests write; {} are free",
        size(needed - free),
        size(bytes),
        size(RESERVE),
        size(free)
    );
    Ok(())
}

/// What is free on the disk that a folder, or the nearest one above it that exists, is on.
pub(super) fn free_bytes(folder: &Path) -> Result<u64> {
    let there = folder.ancestors().find(|folder| folder.exists());
    let there = there.unwrap_or(folder);
    let found = statvfs(there).with_context(|| there.display().to_string())?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

/// What a file takes already.
pub(super) fn taken(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |found| found.blocks().saturating_mul(512))
}

#[cfg(test)]
mod tests {
    use super::{RESERVE, fits};

    #[test]
    fn guests_keep_their_share_of_the_disk() {
        assert!(fits(1 << 30, (1 << 30) + RESERVE).is_ok());
        let said = fits(1 << 30, (1 << 30) + RESERVE - 1)
            .unwrap_err()
            .to_string();
        assert!(said.contains("no room: 1 B are missing"), "{said}");
        assert!(fits(u64::MAX, u64::MAX - 1).is_err());
    }
}
