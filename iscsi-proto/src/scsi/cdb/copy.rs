//! EXTENDED COPY(LID1), RECEIVE COPY RESULTS, SANITIZE and READ DEFECT DATA.

use zerocopy::byteorder::big_endian::U32;

use super::super::command::Command;
use super::super::layout::layout;
use super::super::opcodes::{self, ACTION_BITS};
use super::super::operands::{CopyResults, SanitizeAction};
use super::super::range::Form;
use super::super::sense::SenseData;
use super::{CDB_BYTES, Ten, Twelve, bit};

layout! {
    /// EXTENDED COPY and RECEIVE COPY RESULTS (SPC-4 §6.4, §6.24).
    Copy = 16 {
        0 => opcode: u8,
        1 => action: u8,
        2 => list_id: u8,
        3 => _reserved: [u8; 7],
        10 => length: U32,
        14 => _reserved_14: u8,
        15 => control: u8,
    }
}

pub(in super::super) fn extended_copy(cdb: &[u8; CDB_BYTES]) -> Result<Command, SenseData> {
    Ok(Command::ExtendedCopy {
        parameter_length: Copy::from(*cdb).length.get(),
    })
}

pub(in super::super) fn copy_results(cdb: &[u8; CDB_BYTES]) -> Result<Command, SenseData> {
    let copy = Copy::from(*cdb);
    let action = CopyResults::from_code(copy.action & ACTION_BITS)
        .ok_or_else(|| SenseData::cdb_field(1, 4))?;
    Ok(Command::ReceiveCopyResults {
        action,
        list_id: copy.list_id,
        allocation: copy.length.get(),
    })
}

/// All that is at stake is all data, so reserved bits are refused here: nobody knows what they would have asked for.
pub(in super::super) fn sanitize(cdb: &[u8; CDB_BYTES]) -> Result<Command, SenseData> {
    if cdb[1] & SANITIZE_RESERVED != 0 {
        return Err(SenseData::cdb_field(1, 6));
    }
    if let Some(at) = (2..7).find(|at| cdb.get(*at).is_some_and(|byte| *byte != 0)) {
        return Err(SenseData::cdb_field(at, 7));
    }
    let ten = Ten::from(*cdb);
    let action = SanitizeAction::from_code(ten.flags & ACTION_BITS)
        .ok_or_else(|| SenseData::cdb_field(1, 4))?;
    Ok(Command::Sanitize {
        action,
        immediate: ten.flags & SANITIZE_IMMED != 0,
        unrestricted: ten.flags & SANITIZE_AUSE != 0,
        parameter_length: ten.length.get(),
    })
}

pub(in super::super) fn read_defect_data_10(cdb: &[u8; CDB_BYTES]) -> Result<Command, SenseData> {
    let ten = Ten::from(*cdb);
    // Here the flags are behind byte 1, which is reserved.
    let [flags, ..] = ten.lba.get().to_be_bytes();
    Ok(defect_data(Form::Ten, flags, 0, ten.length.get().into()))
}

pub(in super::super) fn read_defect_data_12(cdb: &[u8; CDB_BYTES]) -> Result<Command, SenseData> {
    let twelve = Twelve::from(*cdb);
    let (index, allocation) = (twelve.lba.get(), twelve.length.get());
    Ok(defect_data(Form::Twelve, twelve.flags, index, allocation))
}

pub(in super::super) fn encode_copy(
    opcode: u8,
    action: u8,
    list_id: u8,
    length: u32,
) -> [u8; CDB_BYTES] {
    Copy {
        opcode,
        action,
        list_id,
        length: length.into(),
        ..Copy::default()
    }
    .into()
}

pub(in super::super) fn encode_sanitize(
    action: SanitizeAction,
    immediate: bool,
    unrestricted: bool,
    parameter_length: u16,
) -> [u8; CDB_BYTES] {
    Ten {
        opcode: opcodes::SANITIZE,
        flags: action.code() | bit(immediate, SANITIZE_IMMED) | bit(unrestricted, SANITIZE_AUSE),
        length: parameter_length.into(),
        ..Ten::default()
    }
    .into()
}

pub(in super::super) fn encode_defect_data(
    form: Form,
    lists: (bool, bool),
    format: u8,
    index: u32,
    allocation: u32,
) -> [u8; CDB_BYTES] {
    let (primary, grown) = lists;
    let flags = bit(primary, REQ_PLIST) | bit(grown, REQ_GLIST) | format & DEFECT_LIST_FORMAT;
    if form == Form::Ten {
        return Ten {
            opcode: opcodes::READ_DEFECT_DATA_10,
            lba: u32::from_be_bytes([flags, 0, 0, 0]).into(),
            length: u16::try_from(allocation).unwrap_or(u16::MAX).into(),
            ..Ten::default()
        }
        .into();
    }
    Twelve {
        opcode: opcodes::READ_DEFECT_DATA_12,
        flags,
        lba: index.into(),
        length: allocation.into(),
        ..Twelve::default()
    }
    .into()
}

fn defect_data(form: Form, flags: u8, index: u32, allocation: u32) -> Command {
    Command::ReadDefectData {
        form,
        primary: flags & REQ_PLIST != 0,
        grown: flags & REQ_GLIST != 0,
        format: flags & DEFECT_LIST_FORMAT,
        index,
        allocation,
    }
}

const SANITIZE_IMMED: u8 = 0x80;
const SANITIZE_RESERVED: u8 = 0x40;
const SANITIZE_AUSE: u8 = 0x20;
const REQ_PLIST: u8 = 0x10;
const REQ_GLIST: u8 = 0x08;
const DEFECT_LIST_FORMAT: u8 = 0x07;
