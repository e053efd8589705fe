//! Commands that ask about the unit, or start and stop it (SPC-4 §6, SBC-4 §5).

use super::super::command::Command;
use super::super::opcodes;
use super::super::operands::OpcodeQuery;
use super::super::sense::SenseData;
use super::{
    CDB_BYTES, INQUIRY_EVPD, InquiryCdb, Maintenance, PREVENT_BITS, REQUEST_SENSE_DESC, RSOC_RCTD,
    START_STOP_IMMED, START_STOP_LOEJ, START_STOP_START, Six, Sixteen, Ten, Twelve, bit,
};

pub(in super::super) fn request_sense(cdb: &[u8; CDB_BYTES]) -> Result<Command, SenseData> {
    let six = Six::from(*cdb);
    Ok(Command::RequestSense {
        descriptor: six.lba_high & REQUEST_SENSE_DESC != 0,
        allocation: six.length,
    })
}

pub(in super::super) fn inquiry(cdb: &[u8; CDB_BYTES]) -> Result<Command, SenseData> {
    let inquiry = InquiryCdb::from(*cdb);
    let evpd = inquiry.flags & INQUIRY_EVPD != 0;
    // Bit 1 was CMDDT: command support data, obsolete since SPC-3 and refused.
    let other = inquiry.flags & !INQUIRY_EVPD & 0x1f;
    if other != 0 {
        let bit = u8::try_from(other.ilog2()).unwrap_or(1);
        return Err(SenseData::cdb_field(1, bit));
    }
    if !evpd && inquiry.page != 0 {
        return Err(SenseData::cdb_field(2, 7));
    }
    Ok(Command::Inquiry {
        page: evpd.then_some(inquiry.page),
        allocation: inquiry.allocation.get(),
    })
}

pub(in super::super) fn start_stop(cdb: &[u8; CDB_BYTES]) -> Result<Command, SenseData> {
    let six = Six::from(*cdb);
    Ok(Command::StartStopUnit {
        start: six.length & START_STOP_START != 0,
        load_eject: six.length & START_STOP_LOEJ != 0,
        immediate: six.lba_high & START_STOP_IMMED != 0,
        power_condition: six.length >> 4,
    })
}

pub(in super::super) fn prevent_allow(cdb: &[u8; CDB_BYTES]) -> Result<Command, SenseData> {
    Ok(Command::PreventAllowMediumRemoval {
        prevent: Six::from(*cdb).length & PREVENT_BITS,
    })
}

pub(in super::super) fn read_capacity_16(cdb: &[u8; CDB_BYTES]) -> Result<Command, SenseData> {
    Ok(Command::ReadCapacity16 {
        allocation: Sixteen::from(*cdb).length.get(),
    })
}

pub(in super::super) fn get_lba_status(cdb: &[u8; CDB_BYTES]) -> Result<Command, SenseData> {
    let sixteen = Sixteen::from(*cdb);
    Ok(Command::GetLbaStatus {
        lba: sixteen.lba.get(),
        allocation: sixteen.length.get(),
    })
}

pub(in super::super) fn report_luns(cdb: &[u8; CDB_BYTES]) -> Result<Command, SenseData> {
    let twelve = Twelve::from(*cdb);
    let [select, ..] = twelve.lba.get().to_be_bytes();
    Ok(Command::ReportLuns {
        select,
        allocation: twelve.length.get(),
    })
}

pub(in super::super) fn target_port_groups(cdb: &[u8; CDB_BYTES]) -> Result<Command, SenseData> {
    let asked = Maintenance::from(*cdb);
    let extended = match asked.action >> FORMAT_SHIFT {
        0 => false,
        EXTENDED_HEADER => true,
        _ => return Err(SenseData::cdb_field(1, 7)),
    };
    Ok(Command::ReportTargetPortGroups {
        extended,
        allocation: asked.allocation.get(),
    })
}

pub(in super::super) fn task_management(cdb: &[u8; CDB_BYTES]) -> Result<Command, SenseData> {
    let asked = Maintenance::from(*cdb);
    Ok(Command::ReportTaskManagement {
        extended: asked.options & REPD != 0,
        allocation: asked.allocation.get(),
    })
}

pub(in super::super) fn supported_opcodes(cdb: &[u8; CDB_BYTES]) -> Result<Command, SenseData> {
    let asked = Maintenance::from(*cdb);
    let (opcode, action) = (asked.requested_opcode, asked.requested_action.get());
    let query = match asked.options & RSOC_OPTIONS {
        0 => OpcodeQuery::All,
        1 => OpcodeQuery::One(opcode),
        2 => OpcodeQuery::Action(opcode, action),
        3 => OpcodeQuery::Either(opcode, action),
        _ => return Err(SenseData::cdb_field(2, 2)),
    };
    let (timeouts, allocation) = (asked.options & RSOC_RCTD != 0, asked.allocation.get());
    Ok(Command::ReportSupportedOpcodes {
        query,
        timeouts,
        allocation,
    })
}

pub(in super::super) fn encode_six(opcode: u8, flags: u8, length: u8) -> [u8; CDB_BYTES] {
    Six {
        opcode,
        lba_high: flags,
        length,
        ..Six::default()
    }
    .into()
}

pub(in super::super) fn encode_ten(opcode: u8, flags: u8, length: u16) -> [u8; CDB_BYTES] {
    Ten {
        opcode,
        flags,
        length: length.into(),
        ..Ten::default()
    }
    .into()
}

pub(in super::super) fn encode_inquiry(page: Option<u8>, allocation: u16) -> [u8; CDB_BYTES] {
    InquiryCdb {
        opcode: opcodes::INQUIRY,
        flags: bit(page.is_some(), INQUIRY_EVPD),
        page: page.unwrap_or(0),
        allocation: allocation.into(),
        ..InquiryCdb::default()
    }
    .into()
}

pub(in super::super) fn encode_start_stop(
    immediate: bool,
    start: bool,
    load_eject: bool,
    power: u8,
) -> [u8; CDB_BYTES] {
    let action = bit(start, START_STOP_START) | bit(load_eject, START_STOP_LOEJ);
    encode_six(
        opcodes::START_STOP_UNIT,
        bit(immediate, START_STOP_IMMED),
        action | power << 4,
    )
}

pub(in super::super) fn encode_service_in(
    action: u8,
    lba: u64,
    allocation: u32,
) -> [u8; CDB_BYTES] {
    Sixteen {
        opcode: opcodes::SERVICE_ACTION_IN_16,
        flags: action,
        lba: lba.into(),
        length: allocation.into(),
        ..Sixteen::default()
    }
    .into()
}

pub(in super::super) fn encode_report_luns(select: u8, allocation: u32) -> [u8; CDB_BYTES] {
    Twelve {
        opcode: opcodes::REPORT_LUNS,
        lba: u32::from_be_bytes([select, 0, 0, 0]).into(),
        length: allocation.into(),
        ..Twelve::default()
    }
    .into()
}

pub(in super::super) fn encode_port_groups(extended: bool, allocation: u32) -> [u8; CDB_BYTES] {
    let format = if extended { EXTENDED_HEADER } else { 0 };
    Maintenance {
        opcode: opcodes::MAINTENANCE_IN,
        action: opcodes::ACTION_REPORT_TARGET_PORT_GROUPS | format << FORMAT_SHIFT,
        allocation: allocation.into(),
        ..Maintenance::default()
    }
    .into()
}

pub(in super::super) fn encode_task_management(extended: bool, allocation: u32) -> [u8; CDB_BYTES] {
    Maintenance {
        opcode: opcodes::MAINTENANCE_IN,
        action: opcodes::ACTION_REPORT_TASK_MANAGEMENT,
        options: bit(extended, REPD),
        allocation: allocation.into(),
        ..Maintenance::default()
    }
    .into()
}

pub(in super::super) fn encode_supported_opcodes(
    query: OpcodeQuery,
    timeouts: bool,
    allocation: u32,
) -> [u8; CDB_BYTES] {
    let (options, requested_opcode, action) = match query {
        OpcodeQuery::All => (0, 0, 0),
        OpcodeQuery::One(opcode) => (1, opcode, 0),
        OpcodeQuery::Action(opcode, action) => (2, opcode, action),
        OpcodeQuery::Either(opcode, action) => (3, opcode, action),
    };
    Maintenance {
        opcode: opcodes::MAINTENANCE_IN,
        action: opcodes::ACTION_REPORT_SUPPORTED_OPCODES,
        options: options | bit(timeouts, RSOC_RCTD),
        requested_opcode,
        requested_action: action.into(),
        allocation: allocation.into(),
        ..Maintenance::default()
    }
    .into()
}

const FORMAT_SHIFT: u8 = 5;
const EXTENDED_HEADER: u8 = 1;
const REPD: u8 = 0x80;
const RSOC_OPTIONS: u8 = 0x07;
