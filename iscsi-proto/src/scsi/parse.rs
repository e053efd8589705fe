//! Command descriptor blocks as commands: one small function per shape, named by the table of operation codes.

use super::Sense;
use super::cdb::{
    CDB_BYTES, IMMED_1, INQUIRY_EVPD, InquiryCdb, MODE_PAGE, MODE_SENSE_DBD, MODE_SENSE_LLBAA,
    ModeSix, ModeTen, PREVENT_BITS, PROTECT, REQUEST_SENSE_DESC, RSOC_RCTD, START_STOP_IMMED,
    START_STOP_LOEJ, START_STOP_START, Six, Sixteen, SupportedOpcodes, Ten, Twelve, UNMAP_ANCHOR,
    VERIFY_BYTCHK, VERIFY_BYTCHK_1, WRITE_SAME_ANCHOR, WRITE_SAME_OBSOLETE, WRITE_SAME_UNMAP,
};
use super::command::{Caching, Command, LbaRange, ModeForm, OpcodeQuery, PageControl, WriteSame};

pub(super) fn request_sense(cdb: &[u8; CDB_BYTES]) -> Result<Command, Sense> {
    let six = Six::from(*cdb);
    Ok(Command::RequestSense {
        descriptor: six.lba_high & REQUEST_SENSE_DESC != 0,
        allocation: six.length,
    })
}

pub(super) fn inquiry(cdb: &[u8; CDB_BYTES]) -> Result<Command, Sense> {
    let inquiry = InquiryCdb::from(*cdb);
    let evpd = inquiry.flags & INQUIRY_EVPD != 0;
    // Bit 1 was CMDDT: command support data, obsolete since SPC-3 and refused.
    if inquiry.flags & !INQUIRY_EVPD & 0x1f != 0 || (!evpd && inquiry.page != 0) {
        return Err(Sense::INVALID_FIELD_IN_CDB);
    }
    Ok(Command::Inquiry {
        page: evpd.then_some(inquiry.page),
        allocation: inquiry.allocation.get(),
    })
}

pub(super) fn mode_sense_6(cdb: &[u8; CDB_BYTES]) -> Result<Command, Sense> {
    let mode = ModeSix::from(*cdb);
    Ok(Command::ModeSense {
        form: ModeForm::Six,
        control: PageControl::from_byte(mode.page),
        page: mode.page & MODE_PAGE,
        subpage: mode.subpage,
        no_block_descriptor: mode.flags & MODE_SENSE_DBD != 0,
        allocation: mode.allocation.into(),
    })
}

pub(super) fn mode_sense_10(cdb: &[u8; CDB_BYTES]) -> Result<Command, Sense> {
    let mode = ModeTen::from(*cdb);
    Ok(Command::ModeSense {
        form: ModeForm::Ten {
            long_lba: mode.flags & MODE_SENSE_LLBAA != 0,
        },
        control: PageControl::from_byte(mode.page),
        page: mode.page & MODE_PAGE,
        subpage: mode.subpage,
        no_block_descriptor: mode.flags & MODE_SENSE_DBD != 0,
        allocation: mode.allocation.get(),
    })
}

pub(super) fn start_stop(cdb: &[u8; CDB_BYTES]) -> Result<Command, Sense> {
    let six = Six::from(*cdb);
    Ok(Command::StartStopUnit {
        start: six.length & START_STOP_START != 0,
        load_eject: six.length & START_STOP_LOEJ != 0,
        immediate: six.lba_high & START_STOP_IMMED != 0,
        power_condition: six.length >> 4,
    })
}

pub(super) fn prevent_allow(cdb: &[u8; CDB_BYTES]) -> Result<Command, Sense> {
    Ok(Command::PreventAllowMediumRemoval {
        prevent: Six::from(*cdb).length & PREVENT_BITS,
    })
}

pub(super) fn read(range: LbaRange, flags: u8) -> Command {
    Command::Read {
        range,
        caching: Caching::from_byte(flags),
    }
}

pub(super) fn write(range: LbaRange, flags: u8) -> Command {
    Command::Write {
        range,
        caching: Caching::from_byte(flags),
    }
}

pub(super) fn verify(range: LbaRange, flags: u8) -> Result<Command, Sense> {
    match flags & VERIFY_BYTCHK {
        0 => Ok(Command::Verify {
            range,
            compare: false,
        }),
        VERIFY_BYTCHK_1 => Ok(Command::Verify {
            range,
            compare: true,
        }),
        _ => Err(Sense::INVALID_FIELD_IN_CDB),
    }
}

pub(super) fn write_and_verify(range: LbaRange, flags: u8) -> Result<Command, Sense> {
    match flags & VERIFY_BYTCHK {
        0 => Ok(Command::WriteAndVerify {
            range,
            compare: false,
        }),
        VERIFY_BYTCHK_1 => Ok(Command::WriteAndVerify {
            range,
            compare: true,
        }),
        _ => Err(Sense::INVALID_FIELD_IN_CDB),
    }
}

pub(super) fn pre_fetch(range: LbaRange, flags: u8) -> Command {
    Command::PreFetch {
        range,
        immediate: flags & IMMED_1 != 0,
    }
}

pub(super) fn synchronize(range: LbaRange, flags: u8) -> Command {
    Command::SynchronizeCache {
        range,
        immediate: flags & IMMED_1 != 0,
    }
}

pub(super) fn write_same(range: LbaRange, flags: u8, no_data_out: bool) -> Result<Command, Sense> {
    if flags & WRITE_SAME_OBSOLETE != 0 {
        return Err(Sense::INVALID_FIELD_IN_CDB);
    }
    let (unmap, anchor) = (
        flags & WRITE_SAME_UNMAP != 0,
        flags & WRITE_SAME_ANCHOR != 0,
    );
    Ok(Command::WriteSame(WriteSame {
        range,
        unmap,
        anchor,
        no_data_out,
    }))
}

pub(super) fn unmap(cdb: &[u8; CDB_BYTES]) -> Result<Command, Sense> {
    let ten = Ten::from(*cdb);
    Ok(Command::Unmap {
        anchor: ten.flags & UNMAP_ANCHOR != 0,
        parameter_length: ten.length.get(),
    })
}

pub(super) fn read_capacity_16(cdb: &[u8; CDB_BYTES]) -> Result<Command, Sense> {
    Ok(Command::ReadCapacity16 {
        allocation: Sixteen::from(*cdb).length.get(),
    })
}

pub(super) fn get_lba_status(cdb: &[u8; CDB_BYTES]) -> Result<Command, Sense> {
    let sixteen = Sixteen::from(*cdb);
    Ok(Command::GetLbaStatus {
        lba: sixteen.lba.get(),
        allocation: sixteen.length.get(),
    })
}

pub(super) fn report_luns(cdb: &[u8; CDB_BYTES]) -> Result<Command, Sense> {
    let twelve = Twelve::from(*cdb);
    let [select, ..] = twelve.lba.get().to_be_bytes();
    Ok(Command::ReportLuns {
        select,
        allocation: twelve.length.get(),
    })
}

pub(super) fn supported_opcodes(cdb: &[u8; CDB_BYTES]) -> Result<Command, Sense> {
    let asked = SupportedOpcodes::from(*cdb);
    let (opcode, action) = (asked.requested_opcode, asked.requested_action.get());
    let query = match asked.options & RSOC_OPTIONS {
        0 => OpcodeQuery::All,
        1 => OpcodeQuery::One(opcode),
        2 => OpcodeQuery::Action(opcode, action),
        3 => OpcodeQuery::Either(opcode, action),
        _ => return Err(Sense::INVALID_FIELD_IN_CDB),
    };
    let (timeouts, allocation) = (asked.options & RSOC_RCTD != 0, asked.allocation.get());
    Ok(Command::ReportSupportedOpcodes {
        query,
        timeouts,
        allocation,
    })
}

pub(super) fn range_six(cdb: &[u8; CDB_BYTES]) -> LbaRange {
    let six = Six::from(*cdb);
    let lba = u32::from(six.lba_high) << 16 | u32::from(six.lba_low.get());
    LbaRange::six(lba, six.length)
}

pub(super) fn range_ten_plain(cdb: &[u8; CDB_BYTES]) -> LbaRange {
    let ten = Ten::from(*cdb);
    LbaRange::ten(ten.lba.get(), ten.length.get())
}

pub(super) fn range_sixteen_plain(cdb: &[u8; CDB_BYTES]) -> LbaRange {
    let sixteen = Sixteen::from(*cdb);
    LbaRange::sixteen(sixteen.lba.get(), sixteen.length.get())
}

pub(super) fn range_ten(cdb: &[u8; CDB_BYTES]) -> Result<LbaRange, Sense> {
    without_protection(cdb[1], range_ten_plain(cdb))
}

pub(super) fn range_twelve(cdb: &[u8; CDB_BYTES]) -> Result<LbaRange, Sense> {
    let twelve = Twelve::from(*cdb);
    without_protection(
        cdb[1],
        LbaRange::twelve(twelve.lba.get(), twelve.length.get()),
    )
}

pub(super) fn range_sixteen(cdb: &[u8; CDB_BYTES]) -> Result<LbaRange, Sense> {
    without_protection(cdb[1], range_sixteen_plain(cdb))
}

/// RDPROTECT, WRPROTECT and VRPROTECT must be zero where there is no protection information (SBC-3 §5).
fn without_protection(flags: u8, range: LbaRange) -> Result<LbaRange, Sense> {
    if flags & PROTECT == 0 {
        Ok(range)
    } else {
        Err(Sense::INVALID_FIELD_IN_CDB)
    }
}

const RSOC_OPTIONS: u8 = 0x07;
