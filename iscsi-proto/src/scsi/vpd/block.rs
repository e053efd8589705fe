//! Pages of block devices: limits, characteristics, provisioning (SBC-4 §6.6).

use bytes::Bytes;
use zerocopy::byteorder::big_endian::{U16, U32, U64};

use super::{
    BLOCK_DEVICE_CHARACTERISTICS, BLOCK_LIMITS, LOGICAL_BLOCK_PROVISIONING, LONG_BODY_BYTES, body,
    page,
};
use crate::scsi::layout::{layout, zero_extended};

/// Limits of commands, in blocks; zero means that none is reported (SBC-3 §6.5.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlockLimits {
    /// WRITE SAME of zero blocks is refused (WSNZ).
    pub no_empty_write_same: bool,
    /// Transfers should be multiples of this.
    pub optimal_granularity: u16,
    /// Longest transfer.
    pub maximum_transfer: u32,
    /// Longest transfer without a delay.
    pub optimal_transfer: u32,
    /// Longest PRE-FETCH.
    pub maximum_prefetch: u32,
    /// Most blocks in one UNMAP.
    pub maximum_unmap_blocks: u32,
    /// Most descriptors in one UNMAP.
    pub maximum_unmap_descriptors: u32,
    /// Blocks are given back in multiples of this.
    pub unmap_granularity: u32,
    /// The first block of the first such multiple, if it is told (UGAVALID).
    pub unmap_alignment: Option<u32>,
    /// Longest WRITE SAME.
    pub maximum_write_same: u64,
    /// Longest COMPARE AND WRITE; zero: there is none.
    pub maximum_compare_and_write: u8,
    /// Longest WRITE ATOMIC without boundary; zero with `maximum_atomic_with_boundary` zero: there is none.
    pub maximum_atomic: u32,
    /// Where an atomic write may begin: at multiples of this.
    pub atomic_alignment: u32,
    /// How long an atomic write may be: multiples of this.
    pub atomic_granularity: u32,
    /// Longest WRITE ATOMIC with boundary.
    pub maximum_atomic_with_boundary: u32,
    /// Largest boundary.
    pub maximum_atomic_boundary: u32,
}

impl BlockLimits {
    /// The block limits page.
    pub fn build(&self) -> Bytes {
        let layout = BlockLimitsLayout {
            flags: u8::from(self.no_empty_write_same),
            optimal_granularity: self.optimal_granularity.into(),
            maximum_transfer: self.maximum_transfer.into(),
            optimal_transfer: self.optimal_transfer.into(),
            maximum_prefetch: self.maximum_prefetch.into(),
            maximum_unmap_blocks: self.maximum_unmap_blocks.into(),
            maximum_unmap_descriptors: self.maximum_unmap_descriptors.into(),
            unmap_granularity: self.unmap_granularity.into(),
            unmap_alignment: self
                .unmap_alignment
                .map_or(0, |at| UGAVALID | at & !UGAVALID)
                .into(),
            maximum_write_same: self.maximum_write_same.into(),
            maximum_compare_and_write: self.maximum_compare_and_write,
            maximum_atomic: self.maximum_atomic.into(),
            atomic_alignment: self.atomic_alignment.into(),
            atomic_granularity: self.atomic_granularity.into(),
            maximum_atomic_with_boundary: self.maximum_atomic_with_boundary.into(),
            maximum_atomic_boundary: self.maximum_atomic_boundary.into(),
        };
        page(BLOCK_LIMITS, &<[u8; LONG_BODY_BYTES]>::from(layout))
    }

    /// Reads the block limits page; what an older device does not send is zero.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let layout = BlockLimitsLayout::from(zero_extended(body(BLOCK_LIMITS, bytes)?));
        let alignment = layout.unmap_alignment.get();
        Some(Self {
            no_empty_write_same: layout.flags & WSNZ != 0,
            optimal_granularity: layout.optimal_granularity.get(),
            maximum_transfer: layout.maximum_transfer.get(),
            optimal_transfer: layout.optimal_transfer.get(),
            maximum_prefetch: layout.maximum_prefetch.get(),
            maximum_unmap_blocks: layout.maximum_unmap_blocks.get(),
            maximum_unmap_descriptors: layout.maximum_unmap_descriptors.get(),
            unmap_granularity: layout.unmap_granularity.get(),
            unmap_alignment: (alignment & UGAVALID != 0).then_some(alignment & !UGAVALID),
            maximum_write_same: layout.maximum_write_same.get(),
            maximum_compare_and_write: layout.maximum_compare_and_write,
            maximum_atomic: layout.maximum_atomic.get(),
            atomic_alignment: layout.atomic_alignment.get(),
            atomic_granularity: layout.atomic_granularity.get(),
            maximum_atomic_with_boundary: layout.maximum_atomic_with_boundary.get(),
            maximum_atomic_boundary: layout.maximum_atomic_boundary.get(),
        })
    }
}

/// What the medium is like (SBC-4 §6.6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Characteristics {
    /// MEDIUM ROTATION RATE: 1 does not rotate, 0 is not told, others are revolutions in a minute.
    pub rotation_rate: u16,
    /// NOMINAL FORM FACTOR, four bits; 0 is not told.
    pub form_factor: u8,
    /// What reading finds after SANITIZE erased blocks (WABEREQ), two bits; 0 where there is no such SANITIZE.
    pub after_block_erase: u8,
    /// What reading finds after SANITIZE forgot the key (WACEREQ), two bits; 0 where there is no such SANITIZE.
    pub after_cryptographic_erase: u8,
    /// VERIFY compares with what is read from blocks that take no space, too (VBULS).
    pub verifies_unmapped: bool,
}

impl Default for Characteristics {
    /// A device that does not rotate and reads every block, and nothing else told.
    fn default() -> Self {
        Self {
            rotation_rate: NON_ROTATING,
            form_factor: 0,
            after_block_erase: 0,
            after_cryptographic_erase: 0,
            verifies_unmapped: true,
        }
    }
}

impl Characteristics {
    /// The block device characteristics page.
    pub fn build(&self) -> Bytes {
        let layout = CharacteristicsLayout {
            rotation_rate: self.rotation_rate.into(),
            erase_and_form: (self.after_block_erase & TWO_BITS) << WABEREQ_SHIFT
                | (self.after_cryptographic_erase & TWO_BITS) << WACEREQ_SHIFT
                | self.form_factor & FORM_FACTOR,
            flags: if self.verifies_unmapped { VBULS } else { 0 },
            ..CharacteristicsLayout::default()
        };
        page(
            BLOCK_DEVICE_CHARACTERISTICS,
            &<[u8; LONG_BODY_BYTES]>::from(layout),
        )
    }

    /// Reads the block device characteristics page.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let layout =
            CharacteristicsLayout::from(zero_extended(body(BLOCK_DEVICE_CHARACTERISTICS, bytes)?));
        Some(Self {
            rotation_rate: layout.rotation_rate.get(),
            form_factor: layout.erase_and_form & FORM_FACTOR,
            after_block_erase: layout.erase_and_form >> WABEREQ_SHIFT & TWO_BITS,
            after_cryptographic_erase: layout.erase_and_form >> WACEREQ_SHIFT & TWO_BITS,
            verifies_unmapped: layout.flags & VBULS != 0,
        })
    }
}

/// How blocks can be given back (SBC-3 §6.5.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Provisioning {
    /// By UNMAP (LBPU).
    pub unmap: bool,
    /// By WRITE SAME(16) with the UNMAP bit (LBPWS).
    pub write_same_16: bool,
    /// By WRITE SAME(10) with the UNMAP bit (LBPWS10).
    pub write_same_10: bool,
    /// They read as zeros then (LBPRZ).
    pub reads_zeros: bool,
    /// The unit is thin provisioned.
    pub thin: bool,
}

impl Provisioning {
    /// The logical block provisioning page.
    pub fn build(&self) -> Bytes {
        let flags = if self.unmap { LBPU } else { 0 }
            | if self.write_same_16 { LBPWS } else { 0 }
            | if self.write_same_10 { LBPWS10 } else { 0 }
            | if self.reads_zeros { LBPRZ } else { 0 };
        page(
            LOGICAL_BLOCK_PROVISIONING,
            &[0, flags, if self.thin { TYPE_THIN } else { 0 }, 0],
        )
    }

    /// Reads the logical block provisioning page.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let [_, flags, kind, _] = zero_extended::<4>(body(LOGICAL_BLOCK_PROVISIONING, bytes)?);
        Some(Self {
            unmap: flags & LBPU != 0,
            write_same_16: flags & LBPWS != 0,
            write_same_10: flags & LBPWS10 != 0,
            reads_zeros: flags & LBPRZ != 0,
            thin: kind & TYPE_BITS == TYPE_THIN,
        })
    }
}

layout! {
    BlockLimitsLayout = 60 {
        0 => flags: u8,
        1 => maximum_compare_and_write: u8,
        2 => optimal_granularity: U16,
        4 => maximum_transfer: U32,
        8 => optimal_transfer: U32,
        12 => maximum_prefetch: U32,
        16 => maximum_unmap_blocks: U32,
        20 => maximum_unmap_descriptors: U32,
        24 => unmap_granularity: U32,
        28 => unmap_alignment: U32,
        32 => maximum_write_same: U64,
        40 => maximum_atomic: U32,
        44 => atomic_alignment: U32,
        48 => atomic_granularity: U32,
        52 => maximum_atomic_with_boundary: U32,
        56 => maximum_atomic_boundary: U32,
    }
}

layout! {
    CharacteristicsLayout = 60 {
        0 => rotation_rate: U16,
        2 => product_type: u8,
        3 => erase_and_form: u8,
        4 => flags: u8,
        5 => reserved_5: [u8; 55],
    }
}

const WSNZ: u8 = 0x01;
const UGAVALID: u32 = 0x8000_0000;
const NON_ROTATING: u16 = 0x0001;
const TWO_BITS: u8 = 0x03;
const WABEREQ_SHIFT: u8 = 6;
const WACEREQ_SHIFT: u8 = 4;
const FORM_FACTOR: u8 = 0x0f;
const VBULS: u8 = 0x01;
const LBPU: u8 = 0x80;
const LBPWS: u8 = 0x40;
const LBPWS10: u8 = 0x20;
const LBPRZ: u8 = 0x04;
const TYPE_BITS: u8 = 0x07;
const TYPE_THIN: u8 = 0x02;
