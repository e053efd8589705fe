//! READ CAPACITY(10) and (16) parameter data (SBC-3 §5.12, §5.13).

use bytes::Bytes;
use zerocopy::byteorder::big_endian::{U16, U32, U64};

use super::layout::{layout, zero_extended};

/// How large a unit is and how it is provisioned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Number of blocks; never zero on the wire, where the last address is sent.
    pub blocks: u64,
    /// Bytes in a block.
    pub block_bytes: u32,
    /// Physical blocks hold two to this power logical blocks.
    pub physical_exponent: u8,
    /// Blocks can be given back (LBPME).
    pub thin: bool,
    /// Blocks that were given back read as zeros (LBPRZ).
    pub reads_zeros: bool,
}

impl Capacity {
    /// READ CAPACITY(10) data; a last address that needs more than 32 bits is sent as FFFFFFFFh.
    pub fn build_10(&self) -> Bytes {
        let last = u32::try_from(self.last_lba()).unwrap_or(u32::MAX);
        let layout = Layout10 {
            last_lba: last.into(),
            block_bytes: self.block_bytes.into(),
        };
        Bytes::copy_from_slice(&<[u8; 8]>::from(layout))
    }

    /// READ CAPACITY(16) data.
    pub fn build_16(&self) -> Bytes {
        let flags = if self.thin { LBPME } else { 0 } | if self.reads_zeros { LBPRZ } else { 0 };
        let layout = Layout16 {
            last_lba: self.last_lba().into(),
            block_bytes: self.block_bytes.into(),
            exponents: self.physical_exponent & PHYSICAL_EXPONENT,
            provisioning: flags.into(),
            ..Layout16::default()
        };
        Bytes::copy_from_slice(&<[u8; 32]>::from(layout))
    }

    /// Reads READ CAPACITY(10) data; none if it is short, or if the capacity needs READ CAPACITY(16).
    pub fn parse_10(bytes: &[u8]) -> Option<Self> {
        let layout = Layout10::from(*bytes.first_chunk::<8>()?);
        let last = layout.last_lba.get();
        (last != u32::MAX).then(|| Self {
            blocks: u64::from(last) + 1,
            block_bytes: layout.block_bytes.get(),
            physical_exponent: 0,
            thin: false,
            reads_zeros: false,
        })
    }

    /// Reads READ CAPACITY(16) data; at least the twelve bytes that SBC-2 had.
    pub fn parse_16(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < MINIMUM_16_BYTES {
            return None;
        }
        let layout = Layout16::from(zero_extended(bytes));
        let provisioning = layout.provisioning.get();
        Some(Self {
            blocks: layout.last_lba.get().checked_add(1)?,
            block_bytes: layout.block_bytes.get(),
            physical_exponent: layout.exponents & PHYSICAL_EXPONENT,
            thin: provisioning & LBPME != 0,
            reads_zeros: provisioning & LBPRZ != 0,
        })
    }

    fn last_lba(&self) -> u64 {
        self.blocks.saturating_sub(1)
    }
}

layout! {
    Layout10 = 8 {
        0 => last_lba: U32,
        4 => block_bytes: U32,
    }
}

layout! {
    Layout16 = 32 {
        0 => last_lba: U64,
        8 => block_bytes: U32,
        12 => protection: u8,
        13 => exponents: u8,
        14 => provisioning: U16,
        16 => reserved_16: [u8; 16],
    }
}

const MINIMUM_16_BYTES: usize = 12;
const PHYSICAL_EXPONENT: u8 = 0x0f;
const LBPME: u16 = 0x8000;
const LBPRZ: u16 = 0x4000;

#[cfg(test)]
mod tests {
    use super::Capacity;

    const THIN: Capacity = Capacity {
        blocks: 0x1_0000_0000,
        block_bytes: 512,
        physical_exponent: 3,
        thin: true,
        reads_zeros: true,
    };

    #[test]
    fn sixteen_says_all() {
        let mut expected = [0u8; 32];
        expected[..16].copy_from_slice(&[
            0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 2, 0, 0, 3, 0xc0, 0,
        ]);
        assert_eq!(THIN.build_16().as_ref(), expected);
        assert_eq!(Capacity::parse_16(&expected), Some(THIN));
        let short = Capacity::parse_16(&expected[..12]).unwrap();
        assert!(!short.thin && short.blocks == 0x1_0000_0000);
        assert_eq!(Capacity::parse_16(&expected[..11]), None);
        assert_eq!(Capacity::parse_16(&[0xff; 32]), None);
    }

    #[test]
    fn ten_says_when_it_is_too_short() {
        assert_eq!(
            THIN.build_10().as_ref(),
            [0xff, 0xff, 0xff, 0xff, 0, 0, 2, 0]
        );
        assert_eq!(Capacity::parse_10(&THIN.build_10()), None);
        let large = Capacity {
            blocks: 0x2_0000_0000,
            ..THIN
        };
        assert_eq!(
            large.build_10().as_ref(),
            [0xff, 0xff, 0xff, 0xff, 0, 0, 2, 0]
        );
        let parsed = Capacity::parse_10(&[0, 0, 0, 9, 0, 0, 0x10, 0]).unwrap();
        assert_eq!((parsed.blocks, parsed.block_bytes), (10, 4096));
    }
}
