//! Runs of blocks as commands name them, and what caches shall do with them.

use super::cdb::{DPO, FUA, SIX_LBA_MASK, SIX_ZERO_MEANS, bit};

/// The length of a command descriptor block that names blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Six bytes: 21 bits of address, 1 to 256 blocks.
    Six,
    /// Ten bytes: 32 bits of address, 16 bits of count.
    Ten,
    /// Twelve bytes: 32 bits of address and of count.
    Twelve,
    /// Sixteen bytes: 64 bits of address, 32 bits of count.
    Sixteen,
}

/// A run of blocks, and the form of command that carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LbaRange {
    form: Form,
    lba: u64,
    blocks: u32,
}

impl LbaRange {
    /// The six-byte form; the address is cut to 21 bits and a count of zero means 256, as on the wire.
    pub fn six(lba: u32, blocks: u8) -> Self {
        let blocks = if blocks == 0 {
            SIX_ZERO_MEANS
        } else {
            u32::from(blocks)
        };
        Self {
            form: Form::Six,
            lba: u64::from(lba & SIX_LBA_MASK),
            blocks,
        }
    }

    /// The ten-byte form.
    pub fn ten(lba: u32, blocks: u16) -> Self {
        Self {
            form: Form::Ten,
            lba: lba.into(),
            blocks: blocks.into(),
        }
    }

    /// The twelve-byte form.
    pub fn twelve(lba: u32, blocks: u32) -> Self {
        Self {
            form: Form::Twelve,
            lba: lba.into(),
            blocks,
        }
    }

    /// The sixteen-byte form.
    pub fn sixteen(lba: u64, blocks: u32) -> Self {
        Self {
            form: Form::Sixteen,
            lba,
            blocks,
        }
    }

    /// The form.
    pub fn form(&self) -> Form {
        self.form
    }

    /// The first block.
    pub fn lba(&self) -> u64 {
        self.lba
    }

    /// The number of blocks.
    pub fn blocks(&self) -> u32 {
        self.blocks
    }
}

/// What caches shall do with the blocks of a command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caching {
    /// The blocks will not be needed again soon (DPO).
    pub disable_page_out: bool,
    /// Read from, or write to the medium itself (FUA).
    pub force_unit_access: bool,
}

impl Caching {
    pub(super) fn from_byte(byte: u8) -> Self {
        Self {
            disable_page_out: byte & DPO != 0,
            force_unit_access: byte & FUA != 0,
        }
    }

    pub(super) fn bits(self) -> u8 {
        bit(self.disable_page_out, DPO) | bit(self.force_unit_access, FUA)
    }
}
