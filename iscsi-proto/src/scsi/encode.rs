//! Commands as command descriptor blocks.

use super::cdb::{
    CDB_BYTES, IMMED_1, INQUIRY_EVPD, InquiryCdb, MODE_PAGE, MODE_SENSE_DBD, MODE_SENSE_LLBAA,
    ModeSix, ModeTen, PREVENT_BITS, REQUEST_SENSE_DESC, RSOC_RCTD, START_STOP_IMMED,
    START_STOP_LOEJ, START_STOP_START, Six, Sixteen, SupportedOpcodes, Ten, Twelve, UNMAP_ANCHOR,
    VERIFY_BYTCHK_1, bit,
};
use super::command::{Command, Form, LbaRange, ModeForm, OpcodeQuery};
use super::opcodes::{self, Family};

impl Command {
    /// The command descriptor block, bytes behind a shorter one zero.
    pub fn cdb(&self) -> [u8; CDB_BYTES] {
        match *self {
            Self::TestUnitReady => six(opcodes::TEST_UNIT_READY, 0, 0),
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
            Self::ReadCapacity10 => ten(opcodes::READ_CAPACITY_10, 0, 0),
            Self::ReadCapacity16 { allocation } => {
                service_in(opcodes::ACTION_READ_CAPACITY_16, 0, allocation)
            }
            Self::Read { range, caching } => range.encode(&opcodes::READ, caching.bits()),
            Self::Write { range, caching } => range.encode(&opcodes::WRITE, caching.bits()),
            Self::WriteAndVerify { range, compare } => {
                range.encode(&opcodes::WRITE_AND_VERIFY, bit(compare, VERIFY_BYTCHK_1))
            }
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
            } => ten(opcodes::UNMAP, bit(anchor, UNMAP_ANCHOR), parameter_length),
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
            } => start_stop(immediate, start, load_eject, power_condition),
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

impl LbaRange {
    /// Encodes in this form, or in the next longer one where the family lacks it.
    fn encode(&self, family: &Family, flags: u8) -> [u8; CDB_BYTES] {
        let [.., high, middle, low] = self.lba().to_be_bytes();
        let [_, _, count_high, count_low] = self.blocks().to_be_bytes();
        let lba = u32::try_from(self.lba()).unwrap_or(u32::MAX);
        match (self.form(), family.six, family.twelve) {
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
                length: self.blocks().into(),
                ..Twelve::default()
            }
            .into(),
            (Form::Twelve | Form::Sixteen, ..) => Sixteen {
                opcode: family.sixteen,
                flags,
                lba: self.lba().into(),
                length: self.blocks().into(),
                ..Sixteen::default()
            }
            .into(),
        }
    }
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

fn start_stop(immediate: bool, start: bool, load_eject: bool, power: u8) -> [u8; CDB_BYTES] {
    let action = bit(start, START_STOP_START) | bit(load_eject, START_STOP_LOEJ);
    six(
        opcodes::START_STOP_UNIT,
        bit(immediate, START_STOP_IMMED),
        action | power << 4,
    )
}

fn ten(opcode: u8, flags: u8, length: u16) -> [u8; CDB_BYTES] {
    Ten {
        opcode,
        flags,
        length: length.into(),
        ..Ten::default()
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
