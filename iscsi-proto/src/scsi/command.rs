//! A SCSI command: what a command descriptor block asks for, and back (SPC-4, SBC-3).
//!
//! [`Command::parse`] and [`Command::cdb`] are inverse on everything that a [`Command`] can hold. A block address or
//! count that a form cannot carry cannot be written down: see [`LbaRange`].

use super::Sense;
use super::cdb::{
    CDB_BYTES, InquiryCdb, ModeSix, ModeTen, Six, Sixteen, SupportedOpcodes, Ten, Twelve,
};
use super::opcodes::{self, Family};

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
            Self::Write { .. } | Self::Unmap { .. } | Self::WriteSame(_)
        )
    }

    /// The command descriptor block, bytes behind a shorter one zero.
    pub fn cdb(&self) -> [u8; CDB_BYTES] {
        match *self {
            Self::TestUnitReady => Six {
                opcode: opcodes::TEST_UNIT_READY,
                ..Six::default()
            }
            .into(),
            Self::RequestSense {
                descriptor,
                allocation,
            } => six(
                opcodes::REQUEST_SENSE,
                bit(descriptor, REQUEST_SENSE_DESC),
                allocation,
            ),
            Self::Inquiry { page, allocation } => inquiry(page, allocation),
            Self::ModeSense {
                form,
                control,
                page,
                subpage,
                no_block_descriptor,
                allocation,
            } => {
                let flags = bit(no_block_descriptor, MODE_SENSE_DBD);
                mode_sense(
                    form,
                    flags,
                    control.bits() | page & MODE_PAGE,
                    subpage,
                    allocation,
                )
            }
            Self::ReadCapacity10 => Ten {
                opcode: opcodes::READ_CAPACITY_10,
                ..Ten::default()
            }
            .into(),
            Self::ReadCapacity16 { allocation } => {
                service_in(opcodes::ACTION_READ_CAPACITY_16, 0, allocation)
            }
            Self::Read { range, caching } => range.encode(&opcodes::READ, caching.bits()),
            Self::Write { range, caching } => range.encode(&opcodes::WRITE, caching.bits()),
            Self::Verify { range, compare } => {
                range.encode(&opcodes::VERIFY, bit(compare, VERIFY_BYTCHK_1))
            }
            Self::SynchronizeCache { range, immediate } => {
                range.encode(&opcodes::SYNCHRONIZE_CACHE, bit(immediate, IMMED_1))
            }
            Self::PreFetch { range, immediate } => {
                range.encode(&opcodes::PRE_FETCH, bit(immediate, IMMED_1))
            }
            Self::Unmap {
                anchor,
                parameter_length,
            } => Ten {
                opcode: opcodes::UNMAP,
                flags: bit(anchor, UNMAP_ANCHOR),
                length: parameter_length.into(),
                ..Ten::default()
            }
            .into(),
            Self::WriteSame(same) => same.range.encode(&opcodes::WRITE_SAME, same.bits()),
            Self::GetLbaStatus { lba, allocation } => {
                service_in(opcodes::ACTION_GET_LBA_STATUS, lba, allocation)
            }
            Self::ReportLuns { select, allocation } => report_luns(select, allocation),
            Self::StartStopUnit {
                start,
                load_eject,
                immediate,
                power_condition,
            } => {
                let low = bit(start, START_STOP_START)
                    | bit(load_eject, START_STOP_LOEJ)
                    | power_condition << 4;
                six(
                    opcodes::START_STOP_UNIT,
                    bit(immediate, START_STOP_IMMED),
                    low,
                )
            }
            Self::PreventAllowMediumRemoval { prevent } => {
                six(opcodes::PREVENT_ALLOW, 0, prevent & PREVENT_BITS)
            }
            Self::ReportSupportedOpcodes {
                query,
                timeouts,
                allocation,
            } => supported_opcodes(query, timeouts, allocation),
        }
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

    fn bits(self) -> u8 {
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

    fn bits(self) -> u8 {
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
    fn bits(self) -> u8 {
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

    /// Encodes in this form, or in the next longer one where the family lacks it.
    fn encode(&self, family: &Family, flags: u8) -> [u8; CDB_BYTES] {
        let [.., high, middle, low] = self.lba.to_be_bytes();
        let [_, _, count_high, count_low] = self.blocks.to_be_bytes();
        let lba = u32::try_from(self.lba).unwrap_or(u32::MAX);
        match (self.form, family.six, family.twelve) {
            (Form::Six, Some(opcode), _) => {
                let lba_low = [middle, low].into();
                Six {
                    opcode,
                    lba_high: high,
                    lba_low,
                    length: count_low,
                    ..Six::default()
                }
                .into()
            }
            (Form::Six | Form::Ten, ..) => {
                let length = [count_high, count_low].into();
                Ten {
                    opcode: family.ten,
                    flags,
                    lba: lba.into(),
                    length,
                    ..Ten::default()
                }
                .into()
            }
            (Form::Twelve, _, Some(opcode)) => Twelve {
                opcode,
                flags,
                lba: lba.into(),
                length: self.blocks.into(),
                ..Twelve::default()
            }
            .into(),
            (Form::Twelve | Form::Sixteen, ..) => Sixteen {
                opcode: family.sixteen,
                flags,
                lba: self.lba.into(),
                length: self.blocks.into(),
                ..Sixteen::default()
            }
            .into(),
        }
    }
}

fn bit(set: bool, mask: u8) -> u8 {
    if set { mask } else { 0 }
}

fn six(opcode: u8, flags: u8, length: u8) -> [u8; CDB_BYTES] {
    Six {
        opcode,
        lba_high: flags,
        length,
        ..Six::default()
    }
    .into()
}

fn inquiry(page: Option<u8>, allocation: u16) -> [u8; CDB_BYTES] {
    InquiryCdb {
        opcode: opcodes::INQUIRY,
        flags: bit(page.is_some(), INQUIRY_EVPD),
        page: page.unwrap_or(0),
        allocation: allocation.into(),
        ..InquiryCdb::default()
    }
    .into()
}

fn mode_sense(
    form: ModeForm,
    flags: u8,
    page: u8,
    subpage: u8,
    allocation: u16,
) -> [u8; CDB_BYTES] {
    match form {
        ModeForm::Six => {
            let allocation = u8::try_from(allocation).unwrap_or(u8::MAX);
            ModeSix {
                opcode: opcodes::MODE_SENSE_6,
                flags,
                page,
                subpage,
                allocation,
                ..ModeSix::default()
            }
            .into()
        }
        ModeForm::Ten { long_lba } => ModeTen {
            opcode: opcodes::MODE_SENSE_10,
            flags: flags | bit(long_lba, MODE_SENSE_LLBAA),
            page,
            subpage,
            allocation: allocation.into(),
            ..ModeTen::default()
        }
        .into(),
    }
}

fn service_in(action: u8, lba: u64, allocation: u32) -> [u8; CDB_BYTES] {
    Sixteen {
        opcode: opcodes::SERVICE_ACTION_IN_16,
        flags: action,
        lba: lba.into(),
        length: allocation.into(),
        ..Sixteen::default()
    }
    .into()
}

fn report_luns(select: u8, allocation: u32) -> [u8; CDB_BYTES] {
    Twelve {
        opcode: opcodes::REPORT_LUNS,
        lba: u32::from_be_bytes([select, 0, 0, 0]).into(),
        length: allocation.into(),
        ..Twelve::default()
    }
    .into()
}

fn supported_opcodes(query: OpcodeQuery, timeouts: bool, allocation: u32) -> [u8; CDB_BYTES] {
    let (options, requested_opcode, action) = match query {
        OpcodeQuery::All => (0, 0, 0),
        OpcodeQuery::One(opcode) => (1, opcode, 0),
        OpcodeQuery::Action(opcode, action) => (2, opcode, action),
        OpcodeQuery::Either(opcode, action) => (3, opcode, action),
    };
    SupportedOpcodes {
        opcode: opcodes::MAINTENANCE_IN,
        action: opcodes::ACTION_REPORT_SUPPORTED_OPCODES,
        options: options | bit(timeouts, RSOC_RCTD),
        requested_opcode,
        requested_action: action.into(),
        allocation: allocation.into(),
        ..SupportedOpcodes::default()
    }
    .into()
}

pub(super) const SIX_LBA_MASK: u32 = 0x001f_ffff;
const SIX_ZERO_MEANS: u32 = 256;
const CONTROL_NACA: u8 = 0x04;
pub(super) const REQUEST_SENSE_DESC: u8 = 0x01;
pub(super) const INQUIRY_EVPD: u8 = 0x01;
pub(super) const MODE_SENSE_DBD: u8 = 0x08;
pub(super) const MODE_SENSE_LLBAA: u8 = 0x10;
pub(super) const MODE_PAGE: u8 = 0x3f;
const DPO: u8 = 0x10;
const FUA: u8 = 0x08;
pub(super) const PROTECT: u8 = 0xe0;
pub(super) const VERIFY_BYTCHK: u8 = 0x06;
pub(super) const VERIFY_BYTCHK_1: u8 = 0x02;
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
