//! The record of an atomic write that is under way: what makes it whole again if this process, or the power, ends in
//! the middle of it.
//!
//! The record is on its medium before the first block is written in place, and is struck out before the next write to
//! the same blocks can be answered. It also knows what the blocks held before: a record that is found when the unit is
//! opened again is only followed if each block holds what it held before or what it shall hold. So a file that was
//! exchanged meanwhile is left alone.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use vmthunder_volume::Span;

/// Bytes of the longest record; longer files are no journals.
const MAX_FILE_BYTES: u64 = 2 << 20;

/// An atomic write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// Where the data goes, in bytes.
    pub(super) offset: u64,
    /// CRC32C of each block before.
    pub(super) before: Vec<u32>,
    /// The data: as many blocks.
    pub(super) data: Bytes,
}

impl Record {
    /// Where the data goes.
    pub(super) fn span(&self) -> Span {
        let length = u64::try_from(self.data.len()).unwrap_or(u64::MAX);
        Span::new(self.offset, length)
    }

    /// The checksums of blocks.
    pub(super) fn sums(blocks: &[u8], block_bytes: usize) -> Vec<u32> {
        blocks.chunks(block_bytes).map(crc32c::crc32c).collect()
    }

    /// True if the blocks are those of before, or those of the record, each for itself.
    pub(super) fn fits(&self, now: &[u8]) -> bool {
        let Some(block_bytes) = self.data.len().checked_div(self.before.len()) else {
            return false;
        };
        let blocks = now.chunks(block_bytes).zip(self.data.chunks(block_bytes));
        now.len() == self.data.len()
            && blocks
                .zip(&self.before)
                .all(|((now, new), before)| now == new || crc32c::crc32c(now) == *before)
    }

    fn encode(&self) -> Bytes {
        let mut out =
            BytesMut::with_capacity(HEADER_BYTES + 4 * self.before.len() + self.data.len());
        out.put_slice(&MAGIC);
        out.put_u64_le(self.offset);
        out.put_u32_le(u32::try_from(self.before.len()).unwrap_or(u32::MAX));
        out.put_u32_le(u32::try_from(self.data.len()).unwrap_or(u32::MAX));
        out.put_u32_le(0);
        self.before.iter().for_each(|sum| out.put_u32_le(*sum));
        out.put_slice(&self.data);
        let sum = crc32c::crc32c(&out);
        if let Some(field) = out.get_mut(SUM_AT..SUM_AT + 4) {
            field.copy_from_slice(&sum.to_le_bytes());
        }
        out.freeze()
    }

    /// The record of a file; none if it has none, or one that was never completed.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let (header, rest) = bytes.split_at_checked(HEADER_BYTES)?;
        let mut fields = header.strip_prefix(&MAGIC)?;
        let offset = fields.get_u64_le();
        let count = usize::try_from(fields.get_u32_le()).ok()?;
        let length = usize::try_from(fields.get_u32_le()).ok()?;
        let sum = fields.get_u32_le();
        let (mut sums, rest) = rest.split_at_checked(count.checked_mul(4)?)?;
        let data = rest.get(..length)?;
        let before: Vec<u32> = std::iter::from_fn(|| sums.try_get_u32_le().ok()).collect();
        let record = Self {
            offset,
            before,
            data: Bytes::copy_from_slice(data),
        };
        let whole = count > 0 && length.is_multiple_of(count) && length > 0;
        let own = record.encode();
        (whole && own.get(SUM_AT..SUM_AT + 4) == Some(&sum.to_le_bytes())).then_some(record)
    }
}

/// The file with the record; it comes into being with the first atomic write.
#[derive(Clone, Debug)]
pub(super) struct Journal {
    path: Arc<PathBuf>,
}

impl Journal {
    /// The journal, and the record that is still in it.
    pub(super) fn open(path: &Path) -> io::Result<(Self, Option<Record>)> {
        let journal = Self {
            path: Arc::new(path.to_owned()),
        };
        let found = match File::open(path) {
            Ok(file) => {
                let mut bytes = Vec::new();
                file.take(MAX_FILE_BYTES).read_to_end(&mut bytes)?;
                Record::parse(&bytes)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        Ok((journal, found))
    }

    /// The record is on its medium when this returns.
    pub(super) async fn write(&self, record: &Record) -> io::Result<()> {
        let (path, bytes) = (Arc::clone(&self.path), record.encode());
        blocking::unblock(move || {
            let is_new = !path.exists();
            let file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .mode(OWNER_ALONE)
                .open(&*path)?;
            file.write_all_at(&bytes, 0)?;
            file.sync_data()?;
            match path.parent() {
                Some(folder) if is_new => File::open(folder_of(folder))?.sync_all(),
                _ => Ok(()),
            }
        })
        .await
    }

    /// Nothing is to be made whole any more, also when this process ends.
    pub(super) async fn strike(&self) -> io::Result<()> {
        let path = Arc::clone(&self.path);
        blocking::unblock(move || match OpenOptions::new().write(true).open(&*path) {
            Ok(file) => {
                file.write_all_at(&[0; MAGIC.len()], 0)?;
                file.sync_data()
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        })
        .await
    }
}

/// The folder of a path without one is where we are.
fn folder_of(folder: &Path) -> &Path {
    if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    }
}

const MAGIC: [u8; 8] = *b"VMTATOM1";
/// Magic, offset, number of blocks, length of the data, CRC32C of all with this field zero.
const HEADER_BYTES: usize = 28;
const SUM_AT: usize = 24;
/// The data is the initiators'.
const OWNER_ALONE: u32 = 0o600;

#[cfg(test)]
#[path = "journal_tests.rs"]
mod tests;
