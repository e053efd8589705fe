//! RESERVE, RELEASE (SPC-2 §7.21 to §7.22) and PERSISTENT RESERVE (SPC-4 §6.15, §6.16).

use zerocopy::byteorder::big_endian::{U16, U32};

use super::super::command::Command;
use super::super::layout::layout;
use super::super::opcodes::{self, ACTION_BITS};
use super::super::operands::{ReserveIn, ReserveOut};
use super::super::range::Form;
use super::super::sense::SenseData;
use super::{CDB_BYTES, Ten};

layout! {
    /// PERSISTENT RESERVE OUT.
    ReserveOutCdb = 16 {
        0 => opcode: u8,
        1 => action: u8,
        2 => scope_and_type: u8,
        3 => _reserved: U16,
        5 => parameter_length: U32,
        9 => control: u8,
        10 => _tail: [u8; 6],
    }
}

pub(in super::super) fn reserve_6(cdb: &[u8; CDB_BYTES]) -> Result<Command, SenseData> {
    refuse(cdb, THIRD_PARTY | EXTENT)?;
    Ok(Command::Reserve { form: Form::Six })
}

pub(in super::super) fn release_6(cdb: &[u8; CDB_BYTES]) -> Result<Command, SenseData> {
    refuse(cdb, THIRD_PARTY | EXTENT)?;
    Ok(Command::Release { form: Form::Six })
}

pub(in super::super) fn reserve_10(cdb: &[u8; CDB_BYTES]) -> Result<Command, SenseData> {
    refuse(cdb, THIRD_PARTY | LONG_ID | EXTENT)?;
    Ok(Command::Reserve { form: Form::Ten })
}

pub(in super::super) fn release_10(cdb: &[u8; CDB_BYTES]) -> Result<Command, SenseData> {
    refuse(cdb, THIRD_PARTY | LONG_ID | EXTENT)?;
    Ok(Command::Release { form: Form::Ten })
}

pub(in super::super) fn persistent_in(cdb: &[u8; CDB_BYTES]) -> Result<Command, SenseData> {
    let ten = Ten::from(*cdb);
    let action =
        ReserveIn::from_code(ten.flags & ACTION_BITS).ok_or_else(|| SenseData::cdb_field(1, 4))?;
    Ok(Command::PersistentReserveIn {
        action,
        allocation: ten.length.get(),
    })
}

pub(in super::super) fn persistent_out(cdb: &[u8; CDB_BYTES]) -> Result<Command, SenseData> {
    let out = ReserveOutCdb::from(*cdb);
    let action = ReserveOut::from_code(out.action & ACTION_BITS)
        .ok_or_else(|| SenseData::cdb_field(1, 4))?;
    Ok(Command::PersistentReserveOut {
        action,
        scope: out.scope_and_type >> 4,
        kind: out.scope_and_type & 0x0f,
        parameter_length: out.parameter_length.get(),
    })
}

pub(in super::super) fn encode_reserve(form: Form) -> [u8; CDB_BYTES] {
    plain(form, opcodes::RESERVE_6, opcodes::RESERVE_10)
}

pub(in super::super) fn encode_release(form: Form) -> [u8; CDB_BYTES] {
    plain(form, opcodes::RELEASE_6, opcodes::RELEASE_10)
}

pub(in super::super) fn encode_persistent_in(
    action: ReserveIn,
    allocation: u16,
) -> [u8; CDB_BYTES] {
    Ten {
        opcode: opcodes::PERSISTENT_RESERVE_IN,
        flags: action.code(),
        length: allocation.into(),
        ..Ten::default()
    }
    .into()
}

pub(in super::super) fn encode_persistent_out(
    action: ReserveOut,
    scope: u8,
    kind: u8,
    parameter_length: u32,
) -> [u8; CDB_BYTES] {
    ReserveOutCdb {
        opcode: opcodes::PERSISTENT_RESERVE_OUT,
        action: action.code(),
        scope_and_type: scope << 4 | kind & 0x0f,
        parameter_length: parameter_length.into(),
        ..ReserveOutCdb::default()
    }
    .into()
}

fn plain(form: Form, six: u8, ten: u8) -> [u8; CDB_BYTES] {
    Ten {
        opcode: if form == Form::Six { six } else { ten },
        ..Ten::default()
    }
    .into()
}

/// Reservations for others, and of parts of a unit, are refused; the sense points at the first such bit.
fn refuse(cdb: &[u8; CDB_BYTES], bits: u8) -> Result<(), SenseData> {
    match cdb[1] & bits {
        0 => Ok(()),
        found => Err(SenseData::cdb_field(
            1,
            u8::try_from(found.ilog2()).unwrap_or(0),
        )),
    }
}

const THIRD_PARTY: u8 = 0x10;
const LONG_ID: u8 = 0x02;
const EXTENT: u8 = 0x01;
