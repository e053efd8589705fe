//! MODE SENSE, MODE SELECT and LOG SENSE (SPC-4 §6.7 to §6.12).

use zerocopy::byteorder::big_endian::U16;

use super::super::command::Command;
use super::super::layout::layout;
use super::super::opcodes;
use super::super::operands::{LogControl, ModeForm, PageControl};
use super::super::sense::SenseData;
use super::{CDB_BYTES, bit};

layout! {
    /// MODE SENSE(6) and MODE SELECT(6).
    Six = 16 {
        0 => opcode: u8,
        1 => flags: u8,
        2 => page: u8,
        3 => subpage: u8,
        4 => length: u8,
        5 => control: u8,
        6 => _tail: [u8; 10],
    }
}

layout! {
    /// MODE SENSE(10), MODE SELECT(10) and LOG SENSE, which alone has the pointer.
    Ten = 16 {
        0 => opcode: u8,
        1 => flags: u8,
        2 => page: u8,
        3 => subpage: u8,
        4 => _reserved: u8,
        5 => pointer: U16,
        7 => length: U16,
        9 => control: u8,
        10 => _tail: [u8; 6],
    }
}

pub(in super::super) fn mode_sense_6(cdb: &[u8; CDB_BYTES]) -> Result<Command, SenseData> {
    let six = Six::from(*cdb);
    Ok(Command::ModeSense {
        form: ModeForm::Six,
        control: PageControl::from_byte(six.page),
        page: six.page & PAGE,
        subpage: six.subpage,
        no_block_descriptor: six.flags & DBD != 0,
        allocation: six.length.into(),
    })
}

pub(in super::super) fn mode_sense_10(cdb: &[u8; CDB_BYTES]) -> Result<Command, SenseData> {
    let ten = Ten::from(*cdb);
    Ok(Command::ModeSense {
        form: ModeForm::Ten {
            long_lba: ten.flags & LLBAA != 0,
        },
        control: PageControl::from_byte(ten.page),
        page: ten.page & PAGE,
        subpage: ten.subpage,
        no_block_descriptor: ten.flags & DBD != 0,
        allocation: ten.length.get(),
    })
}

pub(in super::super) fn mode_select_6(cdb: &[u8; CDB_BYTES]) -> Result<Command, SenseData> {
    let six = Six::from(*cdb);
    mode_select(ModeForm::Six, six.flags, six.length.into())
}

pub(in super::super) fn mode_select_10(cdb: &[u8; CDB_BYTES]) -> Result<Command, SenseData> {
    let ten = Ten::from(*cdb);
    let form = ModeForm::Ten { long_lba: false };
    mode_select(form, ten.flags, ten.length.get())
}

pub(in super::super) fn log_sense(cdb: &[u8; CDB_BYTES]) -> Result<Command, SenseData> {
    let ten = Ten::from(*cdb);
    // Parameter pointer control: obsolete since SPC-4, and never meant anything here.
    if ten.flags & PPC != 0 {
        return Err(SenseData::cdb_field(1, 1));
    }
    let control =
        LogControl::from_code(ten.page >> PC_SHIFT).ok_or_else(|| SenseData::cdb_field(2, 7))?;
    Ok(Command::LogSense {
        control,
        page: ten.page & PAGE,
        subpage: ten.subpage,
        pointer: ten.pointer.get(),
        save: ten.flags & SP != 0,
        allocation: ten.length.get(),
    })
}

/// `page` holds the page control, too.
pub(in super::super) fn encode_mode_sense(
    form: ModeForm,
    no_block_descriptor: bool,
    page: u8,
    subpage: u8,
    allocation: u16,
) -> [u8; CDB_BYTES] {
    let flags = bit(no_block_descriptor, DBD);
    match form {
        ModeForm::Six => Six {
            opcode: opcodes::MODE_SENSE_6,
            flags,
            page,
            subpage,
            length: u8::try_from(allocation).unwrap_or(u8::MAX),
            ..Six::default()
        }
        .into(),
        ModeForm::Ten { long_lba } => Ten {
            opcode: opcodes::MODE_SENSE_10,
            flags: flags | bit(long_lba, LLBAA),
            page,
            subpage,
            length: allocation.into(),
            ..Ten::default()
        }
        .into(),
    }
}

pub(in super::super) fn encode_mode_select(
    form: ModeForm,
    page_format: bool,
    save: bool,
    length: u16,
) -> [u8; CDB_BYTES] {
    let flags = bit(page_format, PF) | bit(save, SP);
    match form {
        ModeForm::Six => Six {
            opcode: opcodes::MODE_SELECT_6,
            flags,
            length: u8::try_from(length).unwrap_or(u8::MAX),
            ..Six::default()
        }
        .into(),
        ModeForm::Ten { .. } => Ten {
            opcode: opcodes::MODE_SELECT_10,
            flags,
            length: length.into(),
            ..Ten::default()
        }
        .into(),
    }
}

pub(in super::super) fn encode_log_sense(
    control: LogControl,
    page: u8,
    subpage: u8,
    pointer: u16,
    save: bool,
    allocation: u16,
) -> [u8; CDB_BYTES] {
    Ten {
        opcode: opcodes::LOG_SENSE,
        flags: bit(save, SP),
        page: control.code() << PC_SHIFT | page & PAGE,
        subpage,
        pointer: pointer.into(),
        length: allocation.into(),
        ..Ten::default()
    }
    .into()
}

fn mode_select(form: ModeForm, flags: u8, parameter_length: u16) -> Result<Command, SenseData> {
    // Revert to defaults: nothing here can.
    if flags & RTD != 0 {
        return Err(SenseData::cdb_field(1, 1));
    }
    Ok(Command::ModeSelect {
        form,
        page_format: flags & PF != 0,
        save: flags & SP != 0,
        parameter_length,
    })
}

const PAGE: u8 = 0x3f;
const PC_SHIFT: u8 = 6;
const DBD: u8 = 0x08;
const LLBAA: u8 = 0x10;
const PF: u8 = 0x10;
const RTD: u8 = 0x02;
const PPC: u8 = 0x02;
const SP: u8 = 0x01;
