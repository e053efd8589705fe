//! A SCSI command: what a command descriptor block asks for, and back (SPC-4, SBC-3).
//!
//! [`Command::parse`] and [`Command::cdb`] are inverse on everything that a [`Command`] can hold. A block address or
//! count that a form cannot carry cannot be written down: see [`LbaRange`].

use super::Sense;
use super::cdb::{
    CDB_BYTES, CONTROL_NACA, DPO, FUA, SIX_LBA_MASK, SIX_ZERO_MEANS, WRITE_SAME_ANCHOR,
    WRITE_SAME_NDOB, WRITE_SAME_UNMAP, bit,
};
use super::opcodes;

/// What a command descriptor block asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Is the unit ready?
    TestUnitReady,
    /// Report a pending condition in the response's data.
    RequestSense {
        /// In descriptor format instead of fixed format.
        descriptor: bool,
        /// Bytes that the initiator can take.
        allocation: u8,
    },
    /// What is the unit?
    Inquiry {
        /// A page of vital product data; none asks for the standard data.
        page: Option<u8>,
        /// Bytes that the initiator can take.
        allocation: u16,
    },
    /// Report mode pages.
    ModeSense {
        /// MODE SENSE(6) or (10).
        form: ModeForm,
        /// Current, changeable, default or saved values.
        control: PageControl,
        /// The page; 3Fh for all.
        page: u8,
        /// The subpage; FFh for all.
        subpage: u8,
        /// The initiator wants no block descriptor (DBD).
        no_block_descriptor: bool,
        /// Bytes that the initiator can take; at most 255 in the six-byte form.
        allocation: u16,
    },
    /// Last block address and block size, 32 bits.
    ReadCapacity10,
    /// Last block address, block size and provisioning.
    ReadCapacity16 {
        /// Bytes that the initiator can take.
        allocation: u32,
    },
    /// Read blocks.
    Read {
        /// Which blocks.
        range: LbaRange,
        /// What caches shall do.
        caching: Caching,
    },
    /// Write blocks.
    Write {
        /// Which blocks.
        range: LbaRange,
        /// What caches shall do.
        caching: Caching,
    },
    /// Write blocks, then check that they can be read.
    WriteAndVerify {
        /// Which blocks.
        range: LbaRange,
        /// Compare them with what was sent (BYTCHK 01b).
        compare: bool,
    },
    /// Check that blocks can be read.
    Verify {
        /// Which blocks.
        range: LbaRange,
        /// Compare them with the data that is sent along (BYTCHK 01b).
        compare: bool,
    },
    /// Make written blocks survive the loss of power.
    SynchronizeCache {
        /// Which blocks; a count of zero means up to the end.
        range: LbaRange,
        /// Answer before it is done.
        immediate: bool,
    },
    /// Bring blocks into the cache.
    PreFetch {
        /// Which blocks; a count of zero means up to the end.
        range: LbaRange,
        /// Answer before it is done.
        immediate: bool,
    },
    /// Give the space of blocks back; the parameter list says of which.
    Unmap {
        /// Anchor the blocks instead.
        anchor: bool,
        /// Length of the parameter list.
        parameter_length: u16,
    },
    /// Write one block's content to many.
    WriteSame(WriteSame),
    /// Which blocks take space?
    GetLbaStatus {
        /// From this block on.
        lba: u64,
        /// Bytes that the initiator can take.
        allocation: u32,
    },
    /// Which logical units are there?
    ReportLuns {
        /// SELECT REPORT: 0 and 2 ask for the logical units, 1 for well known ones.
        select: u8,
        /// Bytes that the initiator can take.
        allocation: u32,
    },
    /// Start or stop the medium.
    StartStopUnit {
        /// Start rather than stop; only with `power_condition` zero.
        start: bool,
        /// Load or eject the medium.
        load_eject: bool,
        /// Answer before it is done.
        immediate: bool,
        /// POWER CONDITION, four bits; zero obeys `start`.
        power_condition: u8,
    },
    /// Prevent or allow the removal of the medium.
    PreventAllowMediumRemoval {
        /// PREVENT, two bits.
        prevent: u8,
    },
    /// Which commands does the unit know?
    ReportSupportedOpcodes {
        /// All or one.
        query: OpcodeQuery,
        /// Add command timeouts descriptors (RCTD).
        timeouts: bool,
        /// Bytes that the initiator can take.
        allocation: u32,
    },
}

impl Command {
    /// Reads a command descriptor block. What is not supported is refused with the sense to answer.
    pub fn parse(cdb: &[u8; CDB_BYTES]) -> Result<Self, Sense> {
        let format = opcodes::find(cdb)?;
        let control = format.usage.len() - 1;
        // NACA is refused: no auto-contingent allegiance is ever established (SAM-5 §5.2).
        if cdb
            .get(control)
            .is_some_and(|byte| byte & CONTROL_NACA != 0)
        {
            return Err(Sense::INVALID_FIELD_IN_CDB);
        }
        (format.parse)(cdb)
    }

    /// Reads `blocks` blocks from `lba` on, without hints.
    pub fn read(lba: u64, blocks: u32) -> Self {
        Self::Read {
            range: LbaRange::sixteen(lba, blocks),
            caching: Caching::default(),
        }
    }

    /// Writes `blocks` blocks from `lba` on, without hints.
    pub fn write(lba: u64, blocks: u32) -> Self {
        Self::Write {
            range: LbaRange::sixteen(lba, blocks),
            caching: Caching::default(),
        }
    }

    /// Makes everything that was written survive the loss of power.
    pub fn synchronize_cache() -> Self {
        Self::SynchronizeCache {
            range: LbaRange::ten(0, 0),
            immediate: false,
        }
    }

    /// True if the command changes the medium.
    pub fn alters_medium(&self) -> bool {
        matches!(
            self,
            Self::Write { .. }
                | Self::WriteAndVerify { .. }
                | Self::Unmap { .. }
                | Self::WriteSame(_)
        )
    }
}

/// MODE SENSE(6) or (10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModeForm {
    /// MODE SENSE(6): a header of four bytes.
    Six,
    /// MODE SENSE(10): a header of eight bytes.
    Ten {
        /// Long block descriptors are welcome (LLBAA).
        long_lba: bool,
    },
}

/// Which values of mode pages are asked for (SPC-4 §6.11.1, PC).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageControl {
    /// The values in force.
    Current,
    /// A mask of what can be changed.
    Changeable,
    /// The values after a reset.
    Default,
    /// The values that were saved.
    Saved,
}

impl PageControl {
    pub(super) fn from_byte(byte: u8) -> Self {
        match byte >> 6 {
            0 => Self::Current,
            1 => Self::Changeable,
            2 => Self::Default,
            _ => Self::Saved,
        }
    }

    pub(super) fn bits(self) -> u8 {
        match self {
            Self::Current => 0x00,
            Self::Changeable => 0x40,
            Self::Default => 0x80,
            Self::Saved => 0xc0,
        }
    }
}

/// What is asked of REPORT SUPPORTED OPERATION CODES (SPC-4 §6.35).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpcodeQuery {
    /// All commands.
    All,
    /// One operation code that has no service actions.
    One(u8),
    /// One operation code with one of its service actions.
    Action(u8, u16),
    /// One operation code, with a service action if it has them (reporting options 011b).
    Either(u8, u16),
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

/// WRITE SAME(10) or (16).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteSame {
    /// Which blocks.
    pub range: LbaRange,
    /// The space may be given back if the block is zero.
    pub unmap: bool,
    /// Anchor the blocks.
    pub anchor: bool,
    /// No block is sent: zeros are meant (NDOB). The ten-byte form cannot say this; there it is dropped.
    pub no_data_out: bool,
}

impl WriteSame {
    pub(super) fn bits(self) -> u8 {
        let ndob = self.no_data_out && self.range.form == Form::Sixteen;
        bit(self.unmap, WRITE_SAME_UNMAP)
            | bit(self.anchor, WRITE_SAME_ANCHOR)
            | bit(ndob, WRITE_SAME_NDOB)
    }
}

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
