//! Bytes of an overlay's files: little endian, offsets asserted. docs/cache-format.md says the same in prose.

use vmthunder_volume::BlockSize;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::ImageKey;
use crate::disk::BootId;
use crate::fault::{self, Fault};
use crate::format::{checksum, layout};
use crate::overlay::OverlayError;

layout! {
    /// What the overlay is; at offset 0 of `map`, written once.
    RawHeader, 72 {
        0  => magic: [u8; 8],
        8  => version: U32,
        12 => block_bytes: U32,
        16 => bytes: U64,
        24 => base_bytes: U64,
        32 => base: [u8; 32],
        64 => _reserved: [u8; 4],
        68 => checksum: U32,
    }
}

layout! {
    /// Where the records of `recent` begin and in which run of the machine they were written; at its offset 0.
    RawLogHeader, 48 {
        0  => magic: [u8; 8],
        8  => version: U32,
        12 => boot: [u8; 16],
        28 => sequence: U64,
        36 => start: U64,
        44 => checksum: U32,
    }
}

layout! {
    /// Blocks that changed their state, as one record of `recent`. Records are aligned, so none crosses a page.
    RawRecord, 32 {
        0  => sequence: U64,
        8  => sector: U64,
        16 => sectors: U32,
        20 => state: U32,
        24 => _reserved: [u8; 4],
        28 => checksum: U32,
    }
}

/// The masks of one unit as they stand in `map`: which sectors are own in the low byte, which are zeros in the high.
pub(super) type RawMask = U16;

/// What an overlay is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) block_size: BlockSize,
    pub(super) bytes: u64,
    pub(super) base: ImageKey,
    pub(super) base_bytes: u64,
}

/// What sectors became.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Written here.
    Own,
    /// Trimmed here: zeros.
    Zero,
}

/// A run of sectors that changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) sector: u64,
    pub(super) sectors: u32,
    pub(super) change: Change,
}

impl Header {
    /// As it stands on disk.
    pub(super) fn raw(&self) -> RawHeader {
        let mut raw = RawHeader {
            magic: MAGIC,
            version: U32::new(VERSION),
            block_bytes: U32::new(self.block_size.bytes()),
            bytes: U64::new(self.bytes),
            base_bytes: U64::new(self.base_bytes),
            base: self.base.0,
            _reserved: [0; 4],
            checksum: U32::ZERO,
        };
        raw.checksum = checksum(&raw);
        raw
    }
}

impl RawHeader {
    /// What this says.
    pub(super) fn parse(&self) -> Result<Header, OverlayError> {
        if self.magic != MAGIC || self.checksum != checksum(self) {
            return Err(OverlayError::Damaged);
        }
        if self.version != VERSION {
            return Err(OverlayError::Version {
                found: self.version.get(),
            });
        }
        let block_size =
            BlockSize::from_bytes(self.block_bytes.get()).ok_or(OverlayError::Damaged)?;
        let (bytes, base_bytes) = (self.bytes.get(), self.base_bytes.get());
        let whole = bytes.is_multiple_of(u64::from(block_size.bytes()));
        if !whole || bytes > MAX_BYTES || base_bytes > bytes {
            return Err(OverlayError::Damaged);
        }
        Ok(Header {
            block_size,
            bytes,
            base: ImageKey(self.base),
            base_bytes,
        })
    }
}

impl RawLogHeader {
    /// The header of a log whose first record stands at `start` and has this number.
    pub(super) fn new(boot: BootId, start: u64, sequence: u64) -> Self {
        let mut raw = Self {
            magic: LOG_MAGIC,
            version: U32::new(VERSION),
            boot: boot.0,
            sequence: U64::new(sequence),
            start: U64::new(start),
            checksum: U32::ZERO,
        };
        raw.checksum = checksum(&raw);
        raw
    }

    /// Where the first record stands and its number, if this was written in this run of the machine.
    pub(super) fn parse(&self, boot: BootId) -> Option<(u64, u64)> {
        let valid =
            self.magic == LOG_MAGIC && self.version == VERSION && self.checksum == checksum(self);
        let start = self.start.get();
        let aligned = start >= LOG_START && start.is_multiple_of(RECORD_BYTES);
        let ours = BootId(self.boot).is_same_run(boot) || fault::made(Fault::LogOfAnotherRun);
        (valid && aligned && ours).then_some((start, self.sequence.get()))
    }
}

impl Record {
    /// As it stands on disk, with its number.
    pub(super) fn raw(&self, sequence: u64) -> RawRecord {
        let state = match self.change {
            Change::Own => OWN,
            Change::Zero => ZERO,
        };
        let mut raw = RawRecord {
            sequence: U64::new(sequence),
            sector: U64::new(self.sector),
            sectors: U32::new(self.sectors),
            state: U32::new(state),
            _reserved: [0; 4],
            checksum: U32::ZERO,
        };
        raw.checksum = checksum(&raw);
        raw
    }
}

impl RawRecord {
    /// What this says, if it is the record of that number.
    pub(super) fn parse(&self, sequence: u64) -> Option<Record> {
        if self.sequence != sequence || self.checksum != checksum(self) {
            return None;
        }
        let change = match self.state.get() {
            OWN => Change::Own,
            ZERO => Change::Zero,
            _ => return None,
        };
        Some(Record {
            sector: self.sector.get(),
            sectors: self.sectors.get(),
            change,
        })
    }
}

/// Bytes of a sector, the smallest block: what one bit of a mask stands for.
pub(super) const SECTOR_BYTES: u64 = 512;
/// Bytes of a unit, whose masks stand together.
pub(super) const UNIT_BYTES: u64 = 4096;
/// Where the masks begin in `map`.
pub(super) const MAP_START: u64 = 4096;
/// Where the first record may stand in `recent`.
pub(super) const LOG_START: u64 = 4096;
/// Bytes of a record.
pub(super) const RECORD_BYTES: u64 = size_of::<RawRecord>() as u64;
/// The largest overlay: 256 TiB.
pub(super) const MAX_BYTES: u64 = 1 << 48;

const MAGIC: [u8; 8] = *b"VMTOVMAP";
const LOG_MAGIC: [u8; 8] = *b"VMTOVLOG";
const VERSION: u32 = 1;
const OWN: u32 = 1;
const ZERO: u32 = 2;
