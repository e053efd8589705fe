//! Disks as files: raw, or qcow2 version 3, written once from front to back and then read again.
//!
//! A qcow2 file as it is written here: the header, the clusters that hold anything but zeros, then their L2 tables, the
//! L1 table, the refcount blocks and their table. Every cluster is used once, so every refcount is 1. Fields are big
//! endian and named as in QEMU's `docs/interop/qcow2.rst`.

use std::fs::File;
use std::io::{self, Error, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{Advice, fadvise};

/// Bytes of a cluster: what is left out if it is zeros.
pub(super) const CLUSTER_BYTES: u64 = 1 << CLUSTER_BITS;

/// What a file is written as.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Format {
    /// The bytes of the disk, with holes for zeros.
    Raw,
    /// QEMU's format, version 3.
    Qcow2,
}

impl Format {
    /// What a file of this name is taken for.
    pub(super) fn of(file: &Path) -> Self {
        let ending = file.extension().unwrap_or_default();
        match ending.eq_ignore_ascii_case("qcow2") {
            true => Self::Qcow2,
            false => Self::Raw,
        }
    }
}

/// A file under way.
pub(super) struct Sink {
    file: File,
    format: Format,
    /// Bytes of the disk.
    bytes: u64,
    /// The clusters of the disk that hold something, in order.
    kept: Vec<u64>,
    hash: blake3::Hasher,
}

/// What was written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Written {
    /// Bytes of the disk that are not zeros, in whole clusters.
    pub(super) bytes: u64,
}

impl Sink {
    pub(super) fn new(file: File, format: Format, bytes: u64) -> io::Result<Self> {
        if format == Format::Raw {
            file.set_len(bytes)?;
        }
        Ok(Self {
            file,
            format,
            bytes,
            kept: Vec::new(),
            hash: blake3::Hasher::new(),
        })
    }

    /// Takes a piece of the disk. Pieces begin at a cluster, end at one or at the end of the disk, and come in order.
    pub(super) fn put(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let clusters = bytes.chunks(cluster_length());
        for (cluster, bytes) in (offset / CLUSTER_BYTES..).zip(clusters) {
            if bytes.iter().all(|byte| *byte == 0) {
                continue;
            }
            let at = self.place(self.kept.len() as u64, cluster);
            self.file.write_all_at(bytes, at)?;
            self.kept.push(cluster);
            self.hash.update(bytes);
        }
        Ok(())
    }

    /// Completes the file, brings it to media, and reads back what was put into it.
    pub(super) fn finish(self) -> io::Result<Written> {
        if self.format == Format::Qcow2 {
            self.write_tables()?;
        }
        self.file.sync_all()?;
        // So that the disk is asked, not the page cache; where that cannot be, the page cache is asked.
        fadvise(&self.file, 0, None, Advice::DontNeed).ok();
        let mut hash = blake3::Hasher::new();
        let mut piece = vec![0; cluster_length()];
        for (number, cluster) in (0..).zip(&self.kept) {
            let left = self.bytes - (cluster * CLUSTER_BYTES).min(self.bytes);
            let length = usize::try_from(left.min(CLUSTER_BYTES)).unwrap_or_default();
            let piece = piece.get_mut(..length).unwrap_or_default();
            self.file
                .read_exact_at(piece, self.place(number, *cluster))?;
            hash.update(piece);
        }
        if hash.finalize() != self.hash.finalize() {
            let lost = "what was written is not what is read again";
            return Err(Error::new(ErrorKind::InvalidData, lost));
        }
        Ok(Written {
            bytes: self.kept.len() as u64 * CLUSTER_BYTES,
        })
    }

    /// Where in the file a cluster of the disk stands that is the so manieth to be kept.
    fn place(&self, number: u64, cluster: u64) -> u64 {
        match self.format {
            Format::Raw => cluster * CLUSTER_BYTES,
            Format::Qcow2 => (1 + number) * CLUSTER_BYTES,
        }
    }

    fn write_tables(&self) -> io::Result<()> {
        let clusters = self.bytes.div_ceil(CLUSTER_BYTES);
        let l1_entries = clusters.div_ceil(L2_ENTRIES);
        let mut l1 = vec![0; usize::try_from(l1_entries).map_err(|_| ErrorKind::FileTooLarge)?];
        let mut next = 1 + self.kept.len() as u64;
        let mut numbered = (1..).zip(&self.kept).peekable();
        while let Some((_, cluster)) = numbered.peek() {
            let slot = *cluster / L2_ENTRIES;
            let mut l2 = vec![0; cluster_length() / 8];
            while let Some((number, cluster)) =
                numbered.next_if(|(_, cluster)| **cluster / L2_ENTRIES == slot)
            {
                if let Some(entry) = l2.get_mut(index(cluster % L2_ENTRIES)) {
                    *entry = (number * CLUSTER_BYTES) | COPIED;
                }
            }
            self.write_entries(next, &l2)?;
            if let Some(entry) = l1.get_mut(index(slot)) {
                *entry = (next * CLUSTER_BYTES) | COPIED;
            }
            next += 1;
        }
        let l1_at = next;
        self.write_entries(l1_at, &l1)?;
        let blocks_at = l1_at + (l1_entries * 8).div_ceil(CLUSTER_BYTES).max(1);
        let (blocks, table_clusters) = refcounts(blocks_at);
        let table_at = blocks_at + blocks;
        let end = table_at + table_clusters;
        for block in 0..blocks {
            let used = end - (block * REFCOUNTS).min(end);
            let used = usize::try_from(used.min(REFCOUNTS)).unwrap_or_default();
            let mut raw = 1_u16.to_be_bytes().repeat(used);
            raw.resize(cluster_length(), 0);
            self.file
                .write_all_at(&raw, (blocks_at + block) * CLUSTER_BYTES)?;
        }
        let table: Vec<u64> = (blocks_at..table_at)
            .map(|block| block * CLUSTER_BYTES)
            .collect();
        self.write_entries(table_at, &table)?;
        self.file.set_len(end * CLUSTER_BYTES)?;
        // Last of all: without it nothing takes the file for a disk.
        let header = self.header(l1_entries, l1_at, table_at, table_clusters)?;
        self.file.write_all_at(&header, 0)
    }

    fn header(
        &self,
        l1_entries: u64,
        l1_at: u64,
        table_at: u64,
        table_clusters: u64,
    ) -> io::Result<Vec<u8>> {
        let short = |number: u64| u32::try_from(number).map_err(|_| ErrorKind::FileTooLarge);
        let mut header = Vec::new();
        header.extend_from_slice(b"QFI\xfb");
        header.extend_from_slice(&3_u32.to_be_bytes()); // version
        header.extend_from_slice(&[0; 12]); // backing_file_offset, backing_file_size
        header.extend_from_slice(&CLUSTER_BITS.to_be_bytes());
        header.extend_from_slice(&self.bytes.to_be_bytes()); // size
        header.extend_from_slice(&[0; 4]); // crypt_method
        header.extend_from_slice(&short(l1_entries)?.to_be_bytes());
        header.extend_from_slice(&(l1_at * CLUSTER_BYTES).to_be_bytes());
        header.extend_from_slice(&(table_at * CLUSTER_BYTES).to_be_bytes());
        header.extend_from_slice(&short(table_clusters)?.to_be_bytes());
        header.extend_from_slice(&[0; 12]); // nb_snapshots, snapshots_offset
        header.extend_from_slice(&[0; 24]); // incompatible, compatible and autoclear features
        header.extend_from_slice(&4_u32.to_be_bytes()); // refcount_order: 16 bits
        header.extend_from_slice(&HEADER_BYTES.to_be_bytes()); // header_length
        header.extend_from_slice(&[0; 8]); // no header extensions
        Ok(header)
    }

    fn write_entries(&self, cluster: u64, entries: &[u64]) -> io::Result<()> {
        let raw: Vec<u8> = entries
            .iter()
            .flat_map(|entry| entry.to_be_bytes())
            .collect();
        self.file.write_all_at(&raw, cluster * CLUSTER_BYTES)
    }
}

/// Refcount blocks and clusters of their table for a file that has so many clusters without them.
fn refcounts(others: u64) -> (u64, u64) {
    let (mut blocks, mut table) = (0, 0);
    loop {
        let needed = (others + blocks + table).div_ceil(REFCOUNTS);
        let table_needed = (needed * 8).div_ceil(CLUSTER_BYTES);
        if (needed, table_needed) == (blocks, table) {
            return (blocks, table);
        }
        (blocks, table) = (needed, table_needed);
    }
}

fn cluster_length() -> usize {
    usize::try_from(CLUSTER_BYTES).unwrap_or_default()
}

fn index(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

const CLUSTER_BITS: u32 = 16;
/// Clusters that one L2 table maps.
const L2_ENTRIES: u64 = CLUSTER_BYTES / 8;
/// Clusters that one refcount block counts.
const REFCOUNTS: u64 = CLUSTER_BYTES / 2;
/// What an entry says of a cluster that is used once.
const COPIED: u64 = 1 << 63;
/// Bytes of the header without extensions.
const HEADER_BYTES: u32 = 104;

#[cfg(test)]
mod tests {
    use super::{REFCOUNTS, refcounts};

    #[test]
    fn refcounts_count_themselves() {
        for others in [
            1,
            2,
            40_000,
            REFCOUNTS - 2,
            REFCOUNTS - 1,
            REFCOUNTS,
            1 << 33,
        ] {
            let (blocks, table) = refcounts(others);
            assert!(blocks * REFCOUNTS >= others + blocks + table, "{others}");
            assert!(table * 8192 >= blocks && table * 8192 < blocks + 8192);
        }
        assert_eq!(refcounts(REFCOUNTS - 2), (1, 1));
        assert_eq!(refcounts(REFCOUNTS - 1), (2, 1));
    }
}
