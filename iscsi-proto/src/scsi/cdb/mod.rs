//! Command descriptor blocks: one 16-byte struct per shape, the tail of a shorter one reserved (SPC-4 §4.2).

use zerocopy::byteorder::big_endian::{U16, U32, U64};

use super::layout::layout;

pub(super) mod copy;
pub(super) mod medium;
pub(super) mod mode;
pub(super) mod primary;
pub(super) mod reserve;
#[cfg(test)]
mod tests;

/// Bytes of a command descriptor block in a SCSI Command PDU.
pub(super) const CDB_BYTES: usize = 16;

layout! {
    /// READ(6) and WRITE(6): 21 bits of address; also START STOP UNIT, REQUEST SENSE, PREVENT ALLOW by byte.
    Six = 16 {
        0 => opcode: u8,
        1 => lba_high: u8,
        2 => lba_low: U16,
        4 => length: u8,
        5 => control: u8,
        6 => _tail: [u8; 10],
    }
}

layout! {
    /// INQUIRY.
    InquiryCdb = 16 {
        0 => opcode: u8,
        1 => flags: u8,
        2 => page: u8,
        3 => allocation: U16,
        5 => control: u8,
        6 => _tail: [u8; 10],
    }
}

layout! {
    /// The ten-byte form of what names blocks.
    Ten = 16 {
        0 => opcode: u8,
        1 => flags: u8,
        2 => lba: U32,
        6 => group: u8,
        7 => length: U16,
        9 => control: u8,
        10 => _tail: [u8; 6],
    }
}

layout! {
    /// The twelve-byte form; also REPORT LUNS.
    Twelve = 16 {
        0 => opcode: u8,
        1 => flags: u8,
        2 => lba: U32,
        6 => length: U32,
        10 => group: u8,
        11 => control: u8,
        12 => _tail: [u8; 4],
    }
}

layout! {
    /// The sixteen-byte form; also SERVICE ACTION IN(16).
    Sixteen = 16 {
        0 => opcode: u8,
        1 => flags: u8,
        2 => lba: U64,
        10 => length: U32,
        14 => group: u8,
        15 => control: u8,
    }
}

layout! {
    /// MAINTENANCE IN; only REPORT SUPPORTED OPERATION CODES asks for an operation code.
    Maintenance = 16 {
        0 => opcode: u8,
        1 => action: u8,
        2 => options: u8,
        3 => requested_opcode: u8,
        4 => requested_action: U16,
        6 => allocation: U32,
        10 => _reserved: u8,
        11 => control: u8,
        12 => _tail: [u8; 4],
    }
}

/// `mask` if the bit is set.
pub(super) fn bit(set: bool, mask: u8) -> u8 {
    if set { mask } else { 0 }
}

pub(super) const SIX_LBA_MASK: u32 = 0x001f_ffff;
pub(super) const SIX_ZERO_MEANS: u32 = 256;
pub(super) const CONTROL_NACA: u8 = 0x04;
pub(super) const REQUEST_SENSE_DESC: u8 = 0x01;
pub(super) const INQUIRY_EVPD: u8 = 0x01;
pub(super) const DPO: u8 = 0x10;
pub(super) const FUA: u8 = 0x08;
pub(super) const PROTECT: u8 = 0xe0;
pub(super) const VERIFY_BYTCHK: u8 = 0x06;
pub(super) const BYTCHK_SHIFT: u8 = 1;
pub(super) const IMMED_1: u8 = 0x02;
pub(super) const UNMAP_ANCHOR: u8 = 0x01;
pub(super) const WRITE_SAME_ANCHOR: u8 = 0x10;
pub(super) const WRITE_SAME_UNMAP: u8 = 0x08;
pub(super) const WRITE_SAME_OBSOLETE: u8 = 0x06;
pub(super) const WRITE_SAME_NDOB: u8 = 0x01;
pub(super) const START_STOP_IMMED: u8 = 0x01;
pub(super) const START_STOP_START: u8 = 0x01;
pub(super) const START_STOP_LOEJ: u8 = 0x02;
pub(super) const PREVENT_BITS: u8 = 0x03;
pub(super) const RSOC_RCTD: u8 = 0x80;
