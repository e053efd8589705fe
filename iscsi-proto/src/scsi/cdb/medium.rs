//! Commands that name blocks: READ, WRITE, VERIFY and their kin (SBC-4 §5).

use zerocopy::byteorder::big_endian::{U16, U64};

use super::super::command::Command;
use super::super::layout::layout;
use super::super::opcodes::{self, Family};
use super::super::operands::{ByteCheck, WriteSame};
use super::super::range::{Caching, Form, LbaRange};
use super::super::sense::SenseData;
use super::{
    BYTCHK_SHIFT, CDB_BYTES, IMMED_1, PROTECT, Six, Sixteen, Ten, Twelve, UNMAP_ANCHOR,
    VERIFY_BYTCHK, WRITE_SAME_ANCHOR, WRITE_SAME_NDOB, WRITE_SAME_OBSOLETE, WRITE_SAME_UNMAP,
};

layout! {
    /// COMPARE AND WRITE.
    CompareAndWrite = 16 {
        0 => opcode: u8,
        1 => flags: u8,
        2 => lba: U64,
        10 => _reserved: [u8; 3],
        13 => blocks: u8,
        14 => group: u8,
        15 => control: u8,
    }
}

layout! {
    /// WRITE ATOMIC(16).
    WriteAtomic = 16 {
        0 => opcode: u8,
        1 => flags: u8,
        2 => lba: U64,
        10 => boundary: U16,
        12 => length: U16,
        14 => group: u8,
        15 => control: u8,
    }
}

pub(in super::super) fn read_6(cdb: &[u8; CDB_BYTES]) -> Result<Command, SenseData> {
    Ok(read(range_six(cdb), 0))
}

pub(in super::super) fn read_10(cdb: &[u8; CDB_BYTES]) -> Result<Command, SenseData> {
    Ok(read(unprotected(cdb, range_ten)?, cdb[1]))
}

pub(in super::super) fn read_12(cdb: &[u8; CDB_BYTES]) -> Result<Command, SenseData> {
    Ok(read(unprotected(cdb, range_twelve)?, cdb[1]))
}

pub(in super::super) fn read_16(cdb: &[u8; CDB_BYTES]) -> Result<Command, SenseData> {
    Ok(read(unprotected(cdb, range_sixteen)?, cdb[1]))
}

pub(in super::super) fn write_6(cdb: &[u8; CDB_BYTES]) -> Result<Command, SenseData> {
    Ok(write(range_six(cdb), 0))
}

pub(in super::super) fn write_10(cdb: &[u8; CDB_BYTES]) -> Result<Command, SenseData> {
    Ok(write(unprotected(cdb, range_ten)?, cdb[1]))
}

pub(in super::super) fn write_12(cdb: &[u8; CDB_BYTES]) -> Result<Command, SenseData> {
    Ok(write(unprotected(cdb, range_twelve)?, cdb[1]))
}

pub(in super::super) fn write_16(cdb: &[u8; CDB_BYTES]) -> Result<Command, SenseData> {
    Ok(write(unprotected(cdb, range_sixteen)?, cdb[1]))
}

pub(in super::super) fn write_and_verify_10(cdb: &[u8; CDB_BYTES]) -> Result<Command, SenseData> {
    write_and_verify(unprotected(cdb, range_ten)?, cdb[1])
}

pub(in super::super) fn write_and_verify_12(cdb: &[u8; CDB_BYTES]) -> Result<Command, SenseData> {
    write_and_verify(unprotected(cdb, range_twelve)?, cdb[1])
}

pub(in super::super) fn write_and_verify_16(cdb: &[u8; CDB_BYTES]) -> Result<Command, SenseData> {
    write_and_verify(unprotected(cdb, range_sixteen)?, cdb[1])
}

pub(in super::super) fn verify_10(cdb: &[u8; CDB_BYTES]) -> Result<Command, SenseData> {
    verify(unprotected(cdb, range_ten)?, cdb[1])
}

pub(in super::super) fn verify_12(cdb: &[u8; CDB_BYTES]) -> Result<Command, SenseData> {
    verify(unprotected(cdb, range_twelve)?, cdb[1])
}

pub(in super::super) fn verify_16(cdb: &[u8; CDB_BYTES]) -> Result<Command, SenseData> {
    verify(unprotected(cdb, range_sixteen)?, cdb[1])
}

pub(in super::super) fn pre_fetch_10(cdb: &[u8; CDB_BYTES]) -> Result<Command, SenseData> {
    Ok(pre_fetch(range_ten(cdb), cdb[1]))
}

pub(in super::super) fn pre_fetch_16(cdb: &[u8; CDB_BYTES]) -> Result<Command, SenseData> {
    Ok(pre_fetch(range_sixteen(cdb), cdb[1]))
}

pub(in super::super) fn synchronize_10(cdb: &[u8; CDB_BYTES]) -> Result<Command, SenseData> {
    Ok(synchronize(range_ten(cdb), cdb[1]))
}

pub(in super::super) fn synchronize_16(cdb: &[u8; CDB_BYTES]) -> Result<Command, SenseData> {
    Ok(synchronize(range_sixteen(cdb), cdb[1]))
}

/// In the ten-byte form NDOB is reserved: a block is always sent.
pub(in super::super) fn write_same_10(cdb: &[u8; CDB_BYTES]) -> Result<Command, SenseData> {
    write_same(unprotected(cdb, range_ten)?, cdb[1], false)
}

pub(in super::super) fn write_same_16(cdb: &[u8; CDB_BYTES]) -> Result<Command, SenseData> {
    let no_data_out = cdb[1] & WRITE_SAME_NDOB != 0;
    write_same(unprotected(cdb, range_sixteen)?, cdb[1], no_data_out)
}

pub(in super::super) fn or_write(cdb: &[u8; CDB_BYTES]) -> Result<Command, SenseData> {
    Ok(Command::OrWrite {
        range: unprotected(cdb, range_sixteen)?,
        caching: Caching::from_byte(cdb[1]),
    })
}

pub(in super::super) fn compare_and_write(cdb: &[u8; CDB_BYTES]) -> Result<Command, SenseData> {
    refuse_protection(cdb)?;
    let compare = CompareAndWrite::from(*cdb);
    Ok(Command::CompareAndWrite {
        lba: compare.lba.get(),
        blocks: compare.blocks,
        caching: Caching::from_byte(compare.flags),
    })
}

pub(in super::super) fn write_atomic(cdb: &[u8; CDB_BYTES]) -> Result<Command, SenseData> {
    refuse_protection(cdb)?;
    let atomic = WriteAtomic::from(*cdb);
    Ok(Command::WriteAtomic {
        range: LbaRange::sixteen(atomic.lba.get(), atomic.length.get().into()),
        caching: Caching::from_byte(atomic.flags),
        boundary: atomic.boundary.get(),
    })
}

pub(in super::super) fn unmap(cdb: &[u8; CDB_BYTES]) -> Result<Command, SenseData> {
    let ten = Ten::from(*cdb);
    Ok(Command::Unmap {
        anchor: ten.flags & UNMAP_ANCHOR != 0,
        parameter_length: ten.length.get(),
    })
}

pub(in super::super) fn encode_compare_and_write(
    lba: u64,
    blocks: u8,
    caching: Caching,
) -> [u8; CDB_BYTES] {
    CompareAndWrite {
        opcode: opcodes::COMPARE_AND_WRITE,
        flags: caching.bits(),
        lba: lba.into(),
        blocks,
        ..CompareAndWrite::default()
    }
    .into()
}

pub(in super::super) fn encode_write_atomic(
    range: LbaRange,
    caching: Caching,
    boundary: u16,
) -> [u8; CDB_BYTES] {
    let length = u16::try_from(range.blocks()).unwrap_or(u16::MAX);
    WriteAtomic {
        opcode: opcodes::WRITE_ATOMIC_16,
        flags: caching.bits(),
        lba: range.lba().into(),
        boundary: boundary.into(),
        length: length.into(),
        ..WriteAtomic::default()
    }
    .into()
}

/// Encodes in the form of the range, or in the next longer one that the family has.
pub(in super::super) fn encode_range(
    range: LbaRange,
    family: &Family,
    flags: u8,
) -> [u8; CDB_BYTES] {
    let [.., high, middle, low] = range.lba().to_be_bytes();
    let [_, _, count_high, count_low] = range.blocks().to_be_bytes();
    let lba = u32::try_from(range.lba()).unwrap_or(u32::MAX);
    match (range.form(), family) {
        (
            Form::Six,
            Family {
                six: Some(opcode), ..
            },
        ) => Six {
            opcode: *opcode,
            lba_high: high,
            lba_low: [middle, low].into(),
            length: count_low,
            ..Six::default()
        }
        .into(),
        (
            Form::Six | Form::Ten,
            Family {
                ten: Some(opcode), ..
            },
        ) => Ten {
            opcode: *opcode,
            flags,
            lba: lba.into(),
            length: [count_high, count_low].into(),
            ..Ten::default()
        }
        .into(),
        (
            Form::Twelve,
            Family {
                twelve: Some(opcode),
                ..
            },
        ) => Twelve {
            opcode: *opcode,
            flags,
            lba: lba.into(),
            length: range.blocks().into(),
            ..Twelve::default()
        }
        .into(),
        _ => Sixteen {
            opcode: family.sixteen,
            flags,
            lba: range.lba().into(),
            length: range.blocks().into(),
            ..Sixteen::default()
        }
        .into(),
    }
}

fn read(range: LbaRange, flags: u8) -> Command {
    Command::Read {
        range,
        caching: Caching::from_byte(flags),
    }
}

fn write(range: LbaRange, flags: u8) -> Command {
    Command::Write {
        range,
        caching: Caching::from_byte(flags),
    }
}

fn verify(range: LbaRange, flags: u8) -> Result<Command, SenseData> {
    let check = byte_check(flags)?;
    Ok(Command::Verify { range, check })
}

fn write_and_verify(range: LbaRange, flags: u8) -> Result<Command, SenseData> {
    let check = byte_check(flags)?;
    Ok(Command::WriteAndVerify { range, check })
}

fn pre_fetch(range: LbaRange, flags: u8) -> Command {
    Command::PreFetch {
        range,
        immediate: flags & IMMED_1 != 0,
    }
}

fn synchronize(range: LbaRange, flags: u8) -> Command {
    Command::SynchronizeCache {
        range,
        immediate: flags & IMMED_1 != 0,
    }
}

fn write_same(range: LbaRange, flags: u8, no_data_out: bool) -> Result<Command, SenseData> {
    // PBDATA and LBDATA, obsolete since SBC-3: data that is not what the initiator believes would be written.
    if flags & WRITE_SAME_OBSOLETE != 0 {
        let bit = if flags & WRITE_SAME_PBDATA != 0 { 2 } else { 1 };
        return Err(SenseData::cdb_field(1, bit));
    }
    Ok(Command::WriteSame(WriteSame {
        range,
        unmap: flags & WRITE_SAME_UNMAP != 0,
        anchor: flags & WRITE_SAME_ANCHOR != 0,
        no_data_out,
    }))
}

fn byte_check(flags: u8) -> Result<ByteCheck, SenseData> {
    ByteCheck::from_code((flags & VERIFY_BYTCHK) >> BYTCHK_SHIFT)
        .ok_or_else(|| SenseData::cdb_field(1, 2))
}

fn unprotected(
    cdb: &[u8; CDB_BYTES],
    range: fn(&[u8; CDB_BYTES]) -> LbaRange,
) -> Result<LbaRange, SenseData> {
    refuse_protection(cdb)?;
    Ok(range(cdb))
}

/// RDPROTECT, WRPROTECT, VRPROTECT and ORPROTECT must be zero where there is no protection information (SBC-4 §5).
fn refuse_protection(cdb: &[u8; CDB_BYTES]) -> Result<(), SenseData> {
    if cdb[1] & PROTECT == 0 {
        Ok(())
    } else {
        Err(SenseData::cdb_field(1, 7))
    }
}

fn range_six(cdb: &[u8; CDB_BYTES]) -> LbaRange {
    let six = Six::from(*cdb);
    let lba = u32::from(six.lba_high) << 16 | u32::from(six.lba_low.get());
    LbaRange::six(lba, six.length)
}

fn range_ten(cdb: &[u8; CDB_BYTES]) -> LbaRange {
    let ten = Ten::from(*cdb);
    LbaRange::ten(ten.lba.get(), ten.length.get())
}

fn range_twelve(cdb: &[u8; CDB_BYTES]) -> LbaRange {
    let twelve = Twelve::from(*cdb);
    LbaRange::twelve(twelve.lba.get(), twelve.length.get())
}

fn range_sixteen(cdb: &[u8; CDB_BYTES]) -> LbaRange {
    let sixteen = Sixteen::from(*cdb);
    LbaRange::sixteen(sixteen.lba.get(), sixteen.length.get())
}

const WRITE_SAME_PBDATA: u8 = 0x04;
