//! A SCSI command: what a command descriptor block asks for, and back (SPC-4, SBC-3).
//!
//! [`Command::parse`] and [`Command::cdb`] are inverse on everything that a [`Command`] can hold. A block address or
//! count that a form cannot carry cannot be written down: see [`LbaRange`].

use super::cdb::{CDB_BYTES, CONTROL_NACA};
use super::opcodes;
use super::operands::{
    ByteCheck, CopyResults, LogControl, ModeForm, OpcodeQuery, PageControl, ReserveIn, ReserveOut,
    SanitizeAction, WriteSame,
};
use super::range::{Caching, Form, LbaRange};
use super::sense::SenseData;

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
        /// What is compared.
        check: ByteCheck,
    },
    /// Check that blocks can be read.
    Verify {
        /// Which blocks.
        range: LbaRange,
        /// What is compared.
        check: ByteCheck,
    },
    /// Write the bitwise OR of what is there and what is sent; ORWRITE(16) only.
    OrWrite {
        /// Which blocks.
        range: LbaRange,
        /// What caches shall do.
        caching: Caching,
    },
    /// Compare blocks with the first half of what is sent; if they are the same, write the second half.
    CompareAndWrite {
        /// The first block.
        lba: u64,
        /// The number of blocks.
        blocks: u8,
        /// What caches shall do.
        caching: Caching,
    },
    /// Write all blocks or none; WRITE ATOMIC(16) only, which has 16 bits for the count.
    WriteAtomic {
        /// Which blocks.
        range: LbaRange,
        /// What caches shall do.
        caching: Caching,
        /// Blocks between two boundaries that each atomic write stays within; zero: the whole is one.
        boundary: u16,
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
    /// Change mode pages.
    ModeSelect {
        /// MODE SELECT(6) or (10), where long block descriptors have no bit.
        form: ModeForm,
        /// The parameter list is made of pages as SPC has them (PF).
        page_format: bool,
        /// Save the pages, too (SP).
        save: bool,
        /// Length of the parameter list; at most 255 in the six-byte form.
        parameter_length: u16,
    },
    /// Report a log page.
    LogSense {
        /// Thresholds or counts, present or default ones.
        control: LogControl,
        /// The page; zero lists the pages.
        page: u8,
        /// The subpage; FFh for all.
        subpage: u8,
        /// Parameters from this one on.
        pointer: u16,
        /// Save the counters (SP).
        save: bool,
        /// Bytes that the initiator can take.
        allocation: u16,
    },
    /// Reserve the unit for this nexus (SPC-2).
    Reserve {
        /// Six or ten bytes.
        form: Form,
    },
    /// Give the reservation of RESERVE up (SPC-2).
    Release {
        /// Six or ten bytes.
        form: Form,
    },
    /// Report persistent reservations.
    PersistentReserveIn {
        /// What of them.
        action: ReserveIn,
        /// Bytes that the initiator can take.
        allocation: u16,
    },
    /// Change persistent reservations.
    PersistentReserveOut {
        /// How.
        action: ReserveOut,
        /// SCOPE, four bits; zero is the logical unit.
        scope: u8,
        /// TYPE, four bits.
        kind: u8,
        /// Length of the parameter list.
        parameter_length: u32,
    },
    /// Which target port groups are there?
    ReportTargetPortGroups {
        /// With an extended header.
        extended: bool,
        /// Bytes that the initiator can take.
        allocation: u32,
    },
    /// Which task management functions are there?
    ReportTaskManagement {
        /// With timeouts (REPD).
        extended: bool,
        /// Bytes that the initiator can take.
        allocation: u32,
    },
    /// Copy blocks without the initiator: EXTENDED COPY(LID1).
    ExtendedCopy {
        /// Length of the parameter list.
        parameter_length: u32,
    },
    /// How copies ended, or which ones can be asked for.
    ReceiveCopyResults {
        /// What of it.
        action: CopyResults,
        /// The list identifier of the copy.
        list_id: u8,
        /// Bytes that the initiator can take.
        allocation: u32,
    },
    /// Make all data unrecoverable.
    Sanitize {
        /// How.
        action: SanitizeAction,
        /// Answer before it is done.
        immediate: bool,
        /// The unit may leave a failure without a successful SANITIZE (AUSE).
        unrestricted: bool,
        /// Length of the parameter list.
        parameter_length: u16,
    },
    /// Report defects of the medium.
    ReadDefectData {
        /// Ten or twelve bytes.
        form: Form,
        /// The defects that the manufacturer found (REQ_PLIST).
        primary: bool,
        /// The defects that were found later (REQ_GLIST).
        grown: bool,
        /// DEFECT LIST FORMAT, three bits.
        format: u8,
        /// From this address descriptor on; zero in the ten-byte form.
        index: u32,
        /// Bytes that the initiator can take; at most 65535 in the ten-byte form.
        allocation: u32,
    },
}

impl Command {
    /// Reads a command descriptor block. What is not supported is refused with the sense to answer, which points at
    /// the field.
    pub fn parse(cdb: &[u8; CDB_BYTES]) -> Result<Self, SenseData> {
        let format = opcodes::find(cdb)?;
        let control = format.usage.len() - 1;
        // NACA is refused: no auto-contingent allegiance is ever established (SAM-5 §5.2).
        if cdb
            .get(control)
            .is_some_and(|byte| byte & CONTROL_NACA != 0)
        {
            return Err(SenseData::cdb_field(control, 2));
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
                | Self::OrWrite { .. }
                | Self::CompareAndWrite { .. }
                | Self::WriteAtomic { .. }
                | Self::ExtendedCopy { .. }
                | Self::Sanitize { .. }
        )
    }
}
