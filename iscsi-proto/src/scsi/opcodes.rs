//! The commands that exist, as one table: operation code, usage bitmap, parser. REPORT SUPPORTED OPERATION CODES
//! (SPC-4 §6.35) is answered from the same table that commands are parsed with.

use bytes::{BufMut, Bytes, BytesMut};

use super::cdb::CDB_BYTES;
use super::cdb::copy::{
    copy_results, extended_copy, read_defect_data_10, read_defect_data_12, sanitize,
};
use super::cdb::medium::{
    compare_and_write, or_write, pre_fetch_10, pre_fetch_16, read_6, read_10, read_12, read_16,
    synchronize_10, synchronize_16, unmap, verify_10, verify_12, verify_16, write_6, write_10,
    write_12, write_16, write_and_verify_10, write_and_verify_12, write_and_verify_16,
    write_atomic, write_same_10, write_same_16,
};
use super::cdb::mode::{log_sense, mode_select_6, mode_select_10, mode_sense_6, mode_sense_10};
use super::cdb::primary::{
    get_lba_status, inquiry, prevent_allow, read_capacity_16, report_luns, request_sense,
    start_stop, supported_opcodes, target_port_groups, task_management,
};
use super::cdb::reserve::{
    persistent_in, persistent_out, release_6, release_10, reserve_6, reserve_10,
};
use super::command::Command;
use super::operands::OpcodeQuery;
use super::sense::{Sense, SenseData};

/// One command format.
#[derive(Debug)]
pub(super) struct Format {
    pub(super) opcode: u8,
    /// For operation codes that are split by service action: byte 1, low five bits.
    action: Option<u8>,
    /// The operation code, then one bit for each bit that is looked at; as long as the command descriptor block.
    pub(super) usage: &'static [u8],
    pub(super) parse: fn(&[u8; CDB_BYTES]) -> Result<Command, SenseData>,
}

/// The operation codes of one command in its forms.
#[derive(Debug)]
pub(super) struct Family {
    pub(super) six: Option<u8>,
    pub(super) ten: Option<u8>,
    pub(super) twelve: Option<u8>,
    pub(super) sixteen: u8,
}

impl Family {
    const fn new(six: Option<u8>, ten: Option<u8>, twelve: Option<u8>, sixteen: u8) -> Self {
        Self {
            six,
            ten,
            twelve,
            sixteen,
        }
    }
}

pub(super) const TEST_UNIT_READY: u8 = 0x00;
pub(super) const REQUEST_SENSE: u8 = 0x03;
pub(super) const INQUIRY: u8 = 0x12;
pub(super) const MODE_SELECT_6: u8 = 0x15;
pub(super) const RESERVE_6: u8 = 0x16;
pub(super) const RELEASE_6: u8 = 0x17;
pub(super) const MODE_SENSE_6: u8 = 0x1a;
pub(super) const START_STOP_UNIT: u8 = 0x1b;
pub(super) const PREVENT_ALLOW: u8 = 0x1e;
pub(super) const READ_CAPACITY_10: u8 = 0x25;
pub(super) const READ_DEFECT_DATA_10: u8 = 0x37;
pub(super) const UNMAP: u8 = 0x42;
pub(super) const SANITIZE: u8 = 0x48;
pub(super) const LOG_SENSE: u8 = 0x4d;
pub(super) const MODE_SELECT_10: u8 = 0x55;
pub(super) const RESERVE_10: u8 = 0x56;
pub(super) const RELEASE_10: u8 = 0x57;
pub(super) const MODE_SENSE_10: u8 = 0x5a;
pub(super) const PERSISTENT_RESERVE_IN: u8 = 0x5e;
pub(super) const PERSISTENT_RESERVE_OUT: u8 = 0x5f;
pub(super) const EXTENDED_COPY: u8 = 0x83;
pub(super) const RECEIVE_COPY_RESULTS: u8 = 0x84;
pub(super) const COMPARE_AND_WRITE: u8 = 0x89;
pub(super) const WRITE_ATOMIC_16: u8 = 0x9c;
pub(super) const SERVICE_ACTION_IN_16: u8 = 0x9e;
pub(super) const ACTION_READ_CAPACITY_16: u8 = 0x10;
pub(super) const ACTION_GET_LBA_STATUS: u8 = 0x12;
pub(super) const REPORT_LUNS: u8 = 0xa0;
pub(super) const MAINTENANCE_IN: u8 = 0xa3;
pub(super) const ACTION_REPORT_TARGET_PORT_GROUPS: u8 = 0x0a;
pub(super) const ACTION_REPORT_SUPPORTED_OPCODES: u8 = 0x0c;
pub(super) const ACTION_REPORT_TASK_MANAGEMENT: u8 = 0x0d;
pub(super) const READ_DEFECT_DATA_12: u8 = 0xb7;
pub(super) const READ: Family = Family::new(Some(0x08), Some(0x28), Some(0xa8), 0x88);
pub(super) const WRITE: Family = Family::new(Some(0x0a), Some(0x2a), Some(0xaa), 0x8a);
pub(super) const WRITE_AND_VERIFY: Family = Family::new(None, Some(0x2e), Some(0xae), 0x8e);
pub(super) const VERIFY: Family = Family::new(None, Some(0x2f), Some(0xaf), 0x8f);
pub(super) const OR_WRITE: Family = Family::new(None, None, None, 0x8b);
pub(super) const PRE_FETCH: Family = Family::new(None, Some(0x34), None, 0x90);
pub(super) const SYNCHRONIZE_CACHE: Family = Family::new(None, Some(0x35), None, 0x91);
pub(super) const WRITE_SAME: Family = Family::new(None, Some(0x41), None, 0x93);

macro_rules! formats {
    ($($opcode:expr $(, $action:expr)? => $parse:expr, [$($usage:literal)*];)*) => {
        /// In the order of operation codes; service actions of one code side by side.
        const FORMATS: &[Format] = &[
            $(Format {
                opcode: $opcode,
                action: formats!(@action $($action)?),
                usage: &[$opcode, $($usage),*],
                parse: $parse,
            },)*
        ];
    };
    (@action) => { None };
    (@action $action:expr) => { Some($action) };
}

formats! {
    TEST_UNIT_READY => |_| Ok(Command::TestUnitReady), [0 0 0 0 0x04];
    REQUEST_SENSE => request_sense, [0x01 0 0 0xff 0x04];
    0x08 => read_6, [0x1f 0xff 0xff 0xff 0x04];
    0x0a => write_6, [0x1f 0xff 0xff 0xff 0x04];
    INQUIRY => inquiry, [0x01 0xff 0xff 0xff 0x04];
    MODE_SELECT_6 => mode_select_6, [0x13 0 0 0xff 0x04];
    RESERVE_6 => reserve_6, [0x11 0 0 0 0x04];
    RELEASE_6 => release_6, [0x11 0 0 0 0x04];
    MODE_SENSE_6 => mode_sense_6, [0x08 0xff 0xff 0xff 0x04];
    START_STOP_UNIT => start_stop, [0x01 0 0 0xf3 0x04];
    PREVENT_ALLOW => prevent_allow, [0 0 0 0x03 0x04];
    READ_CAPACITY_10 => |_| Ok(Command::ReadCapacity10), [0 0 0 0 0 0 0 0 0x04];
    0x28 => read_10, [0xf8 0xff 0xff 0xff 0xff 0 0xff 0xff 0x04];
    0x2a => write_10, [0xf8 0xff 0xff 0xff 0xff 0 0xff 0xff 0x04];
    0x2e => write_and_verify_10, [0xf6 0xff 0xff 0xff 0xff 0 0xff 0xff 0x04];
    0x2f => verify_10, [0xf6 0xff 0xff 0xff 0xff 0 0xff 0xff 0x04];
    0x34 => pre_fetch_10, [0x02 0xff 0xff 0xff 0xff 0 0xff 0xff 0x04];
    0x35 => synchronize_10, [0x02 0xff 0xff 0xff 0xff 0 0xff 0xff 0x04];
    READ_DEFECT_DATA_10 => read_defect_data_10, [0 0x1f 0 0 0 0 0xff 0xff 0x04];
    0x41 => write_same_10, [0xfe 0xff 0xff 0xff 0xff 0 0xff 0xff 0x04];
    UNMAP => unmap, [0x01 0 0 0 0 0 0xff 0xff 0x04];
    SANITIZE, 0x01 => sanitize, [0xa1 0 0 0 0 0 0xff 0xff 0x04];
    SANITIZE, 0x02 => sanitize, [0xa2 0 0 0 0 0 0xff 0xff 0x04];
    SANITIZE, 0x03 => sanitize, [0xa3 0 0 0 0 0 0xff 0xff 0x04];
    SANITIZE, 0x1f => sanitize, [0xbf 0 0 0 0 0 0xff 0xff 0x04];
    LOG_SENSE => log_sense, [0x03 0xff 0xff 0 0xff 0xff 0xff 0xff 0x04];
    MODE_SELECT_10 => mode_select_10, [0x13 0 0 0 0 0 0xff 0xff 0x04];
    RESERVE_10 => reserve_10, [0x13 0 0 0 0 0 0 0 0x04];
    RELEASE_10 => release_10, [0x13 0 0 0 0 0 0 0 0x04];
    MODE_SENSE_10 => mode_sense_10, [0x18 0xff 0xff 0 0 0 0xff 0xff 0x04];
    PERSISTENT_RESERVE_IN, 0x00 => persistent_in, [0x00 0 0 0 0 0 0xff 0xff 0x04];
    PERSISTENT_RESERVE_IN, 0x01 => persistent_in, [0x01 0 0 0 0 0 0xff 0xff 0x04];
    PERSISTENT_RESERVE_IN, 0x02 => persistent_in, [0x02 0 0 0 0 0 0xff 0xff 0x04];
    PERSISTENT_RESERVE_IN, 0x03 => persistent_in, [0x03 0 0 0 0 0 0xff 0xff 0x04];
    PERSISTENT_RESERVE_OUT, 0x00 => persistent_out, [0x00 0xff 0 0 0xff 0xff 0xff 0xff 0x04];
    PERSISTENT_RESERVE_OUT, 0x01 => persistent_out, [0x01 0xff 0 0 0xff 0xff 0xff 0xff 0x04];
    PERSISTENT_RESERVE_OUT, 0x02 => persistent_out, [0x02 0xff 0 0 0xff 0xff 0xff 0xff 0x04];
    PERSISTENT_RESERVE_OUT, 0x03 => persistent_out, [0x03 0xff 0 0 0xff 0xff 0xff 0xff 0x04];
    PERSISTENT_RESERVE_OUT, 0x04 => persistent_out, [0x04 0xff 0 0 0xff 0xff 0xff 0xff 0x04];
    PERSISTENT_RESERVE_OUT, 0x05 => persistent_out, [0x05 0xff 0 0 0xff 0xff 0xff 0xff 0x04];
    PERSISTENT_RESERVE_OUT, 0x06 => persistent_out, [0x06 0xff 0 0 0xff 0xff 0xff 0xff 0x04];
    PERSISTENT_RESERVE_OUT, 0x07 => persistent_out, [0x07 0xff 0 0 0xff 0xff 0xff 0xff 0x04];
    EXTENDED_COPY, 0x00 => extended_copy, [0 0 0 0 0 0 0 0 0 0xff 0xff 0xff 0xff 0 0x04];
    RECEIVE_COPY_RESULTS, 0x00 => copy_results, [0x00 0xff 0 0 0 0 0 0 0 0xff 0xff 0xff 0xff 0 0x04];
    RECEIVE_COPY_RESULTS, 0x01 => copy_results, [0x01 0xff 0 0 0 0 0 0 0 0xff 0xff 0xff 0xff 0 0x04];
    RECEIVE_COPY_RESULTS, 0x03 => copy_results, [0x03 0 0 0 0 0 0 0 0 0xff 0xff 0xff 0xff 0 0x04];
    RECEIVE_COPY_RESULTS, 0x04 => copy_results, [0x04 0xff 0 0 0 0 0 0 0 0xff 0xff 0xff 0xff 0 0x04];
    0x88 => read_16, [0xf8 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0 0x04];
    COMPARE_AND_WRITE => compare_and_write, [0xf8 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0 0 0 0xff 0 0x04];
    0x8a => write_16, [0xf8 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0 0x04];
    0x8b => or_write, [0xf8 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0 0x04];
    0x8e => write_and_verify_16, [0xf6 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0 0x04];
    0x8f => verify_16, [0xf6 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0 0x04];
    0x90 => pre_fetch_16, [0x02 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0 0x04];
    0x91 => synchronize_16, [0x02 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0 0x04];
    0x93 => write_same_16, [0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0 0x04];
    WRITE_ATOMIC_16 => write_atomic, [0xf8 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0 0x04];
    SERVICE_ACTION_IN_16, ACTION_READ_CAPACITY_16 => read_capacity_16,
        [0x10 0 0 0 0 0 0 0 0 0xff 0xff 0xff 0xff 0 0x04];
    SERVICE_ACTION_IN_16, ACTION_GET_LBA_STATUS => get_lba_status,
        [0x12 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0 0x04];
    REPORT_LUNS => report_luns, [0 0xff 0 0 0 0xff 0xff 0xff 0xff 0 0x04];
    MAINTENANCE_IN, ACTION_REPORT_TARGET_PORT_GROUPS => target_port_groups, [0xea 0 0 0 0 0xff 0xff 0xff 0xff 0 0x04];
    MAINTENANCE_IN, ACTION_REPORT_SUPPORTED_OPCODES => supported_opcodes,
        [0x0c 0x87 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0 0x04];
    MAINTENANCE_IN, ACTION_REPORT_TASK_MANAGEMENT => task_management, [0x0d 0x80 0 0 0 0xff 0xff 0xff 0xff 0 0x04];
    0xa8 => read_12, [0xf8 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0 0x04];
    0xaa => write_12, [0xf8 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0 0x04];
    0xae => write_and_verify_12, [0xf6 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0 0x04];
    0xaf => verify_12, [0xf6 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0 0x04];
    READ_DEFECT_DATA_12 => read_defect_data_12, [0x1f 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0 0x04];
}

/// Where the formats of each operation code begin in [`FORMATS`].
const FIRST: [u8; 256] = first_formats();

const NO_FORMAT: u8 = u8::MAX;

const fn first_formats() -> [u8; 256] {
    let mut first = [NO_FORMAT; 256];
    let mut at = FORMATS.len();
    while at > 0 {
        at -= 1;
        assert!(at < NO_FORMAT as usize);
        #[expect(clippy::cast_possible_truncation, reason = "asserted above")]
        let index = at as u8;
        first[FORMATS[at].opcode as usize] = index;
    }
    first
}

fn formats_of(opcode: u8) -> impl Iterator<Item = &'static Format> {
    let first = usize::from(FIRST[usize::from(opcode)]);
    FORMATS
        .iter()
        .skip(first)
        .take_while(move |format| format.opcode == opcode)
}

/// The format of a command descriptor block.
pub(super) fn find(cdb: &[u8; CDB_BYTES]) -> Result<&'static Format, SenseData> {
    let action = cdb[1] & ACTION_BITS;
    let mut known = false;
    for format in formats_of(cdb[0]) {
        known = true;
        if format.action.is_none_or(|own| own == action) {
            return Ok(format);
        }
    }
    Err(if known {
        SenseData::cdb_field(1, 4)
    } else {
        Sense::INVALID_OPERATION_CODE.into()
    })
}

/// The answer to REPORT SUPPORTED OPERATION CODES. `offered` tells which command formats the unit obeys at all:
/// it sees the usage bitmap, whose first byte is the operation code.
pub fn supported(
    query: OpcodeQuery,
    timeouts: bool,
    offered: impl Fn(&[u8]) -> bool,
) -> Result<Bytes, SenseData> {
    let of = |opcode| formats_of(opcode).filter(|format| offered(format.usage));
    match query {
        OpcodeQuery::All => Ok(all(timeouts, &offered)),
        OpcodeQuery::One(opcode) => {
            let format = of(opcode).next();
            if format.is_some_and(|format| format.action.is_some()) {
                return Err(SenseData::cdb_field(2, 2));
            }
            Ok(one(format, timeouts))
        }
        OpcodeQuery::Action(opcode, action) => {
            let mut formats = of(opcode).peekable();
            if formats.peek().is_some_and(|format| format.action.is_none()) {
                return Err(SenseData::cdb_field(2, 2));
            }
            let format = formats.find(|format| format.action.map(u16::from) == Some(action));
            Ok(one(format, timeouts))
        }
        OpcodeQuery::Either(opcode, action) => {
            let format = of(opcode).find(|format| format.action.map_or(0, u16::from) == action);
            Ok(one(format, timeouts))
        }
    }
}

fn all(timeouts: bool, offered: &impl Fn(&[u8]) -> bool) -> Bytes {
    let mut body = BytesMut::new();
    for format in FORMATS.iter().filter(|format| offered(format.usage)) {
        body.put_u8(format.opcode);
        body.put_u8(0);
        body.put_u16(format.action.map_or(0, u16::from));
        body.put_u8(0);
        body.put_u8(
            if format.action.is_some() { SERVACTV } else { 0 }
                | if timeouts { CTDP_ALL } else { 0 },
        );
        body.put_u16(u16::try_from(format.usage.len()).unwrap_or(0));
        if timeouts {
            body.put_slice(&NO_TIMEOUTS);
        }
    }
    let mut out = BytesMut::with_capacity(4 + body.len());
    out.put_u32(u32::try_from(body.len()).unwrap_or(u32::MAX));
    out.put_slice(&body);
    out.freeze()
}

fn one(format: Option<&Format>, timeouts: bool) -> Bytes {
    let Some(format) = format else {
        return Bytes::from_static(&[0, NOT_SUPPORTED, 0, 0]);
    };
    let mut out = BytesMut::new();
    out.put_u8(0);
    out.put_u8(SUPPORTED_AS_STANDARD | if timeouts { CTDP_ONE } else { 0 });
    out.put_u16(u16::try_from(format.usage.len()).unwrap_or(0));
    out.put_slice(format.usage);
    if timeouts {
        out.put_slice(&NO_TIMEOUTS);
    }
    out.freeze()
}

/// Byte 1 of command descriptor blocks whose operation code is split by service action.
pub(super) const ACTION_BITS: u8 = 0x1f;
const SERVACTV: u8 = 0x01;
const CTDP_ALL: u8 = 0x02;
const CTDP_ONE: u8 = 0x80;
const NOT_SUPPORTED: u8 = 0x01;
const SUPPORTED_AS_STANDARD: u8 = 0x03;
/// A command timeouts descriptor that promises nothing: length 000Ah, both timeouts zero.
const NO_TIMEOUTS: [u8; 12] = [0x00, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
