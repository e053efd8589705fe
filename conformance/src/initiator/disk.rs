//! The disk that every drill serves: 16 MiB in memory, which reads as a known pattern where nobody wrote.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use bytes::{Bytes, BytesMut};

use crate::initiator::scsi::Answer;

/// Bytes of a block.
pub(crate) const BLOCK: usize = 512;
/// How many blocks there are.
pub(crate) const BLOCKS: u64 = 16 * 1024 * 1024 / 512;

/// What a block of a drill's disk reads as while nobody wrote it: 64 words of SplitMix64, seeded by the block's number.
/// Whoever reads through an initiator under judgement can tell by it whether the bytes are the right ones.
pub fn pattern(block: u64) -> [u8; BLOCK] {
    let mut bytes = [0; BLOCK];
    let mut state = block.wrapping_mul(0x2545_f491_4f6c_dd1d);
    for word in bytes.chunks_exact_mut(8) {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word.copy_from_slice(&(mixed ^ (mixed >> 31)).to_be_bytes());
    }
    bytes
}

/// One disk.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    written: Mutex<HashMap<u64, [u8; BLOCK]>>,
    /// What tells this unit from others, in names and serial number.
    pub(crate) serial: String,
}

impl Disk {
    /// A disk that nobody wrote yet.
    pub(crate) fn new(serial: &str) -> Self {
        Self {
            written: Mutex::default(),
            serial: serial.to_owned(),
        }
    }

    /// What blocks read as.
    pub(crate) fn read(&self, first: u64, blocks: u64) -> Answer {
        if !within(first, blocks) {
            return Answer::OUT_OF_RANGE;
        }
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let mut bytes = BytesMut::new();
        for block in first..first + blocks {
            match written.get(&block) {
                Some(content) => bytes.extend_from_slice(content),
                None => bytes.extend_from_slice(&pattern(block)),
            }
        }
        Answer::good(bytes.freeze())
    }

    /// Writes blocks; a last one that is not whole is left out.
    pub(crate) fn write(&self, first: u64, blocks: u64, bytes: &Bytes) -> Answer {
        if !within(first, blocks) {
            return Answer::OUT_OF_RANGE;
        }
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        for (block, content) in (first..first + blocks).zip(bytes.chunks_exact(BLOCK)) {
            if let Ok(content) = content.try_into() {
                written.insert(block, content);
            }
        }
        Answer::good(Bytes::new())
    }
}

fn within(first: u64, blocks: u64) -> bool {
    first.checked_add(blocks).is_some_and(|end| end <= BLOCKS)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{BLOCKS, Disk, pattern};

    #[test]
    fn what_was_written_is_read_and_the_rest_is_the_pattern() {
        let disk = Disk::new("disk");
        assert_eq!(disk.write(7, 1, &Bytes::from_static(&[3; 512])).status, 0);
        let read = disk.read(6, 3).data;
        assert_eq!(read[..512], pattern(6));
        assert_eq!(read[512..1024], [3; 512]);
        assert_eq!(read[1024..], pattern(8));
        assert_ne!(pattern(6), pattern(8));
        assert_eq!(disk.read(BLOCKS, 1).status, 2);
        assert_eq!(disk.read(u64::MAX, 2).status, 2);
    }
}
