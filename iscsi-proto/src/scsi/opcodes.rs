//! The commands that exist, as one table: operation code, usage bitmap, parser. REPORT SUPPORTED OPERATION CODES
//! (SPC-4 §6.35) is answered from the same table that commands are parsed with.

use bytes::{BufMut, Bytes, BytesMut};

use super::Sense;
use super::cdb::{CDB_BYTES, WRITE_SAME_NDOB};
use super::command::{Command, OpcodeQuery};
use super::parse::{
    get_lba_status, inquiry, mode_sense_6, mode_sense_10, pre_fetch, prevent_allow, range_six,
    range_sixteen, range_sixteen_plain, range_ten, range_ten_plain, range_twelve, read,
    read_capacity_16, report_luns, request_sense, start_stop, supported_opcodes, synchronize,
    unmap, verify, write, write_and_verify, write_same,
};

/// One command format.
#[derive(Debug)]
pub(super) struct Format {
    pub(super) opcode: u8,
    /// For operation codes that are split by service action: byte 1, low five bits.
    action: Option<u8>,
    /// The operation code, then one bit for each bit that is looked at; as long as the command descriptor block.
    pub(super) usage: &'static [u8],
    pub(super) parse: fn(&[u8; CDB_BYTES]) -> Result<Command, Sense>,
}

/// The operation codes of one command in its forms.
#[derive(Debug)]
pub(super) struct Family {
    pub(super) six: Option<u8>,
    pub(super) ten: u8,
    pub(super) twelve: Option<u8>,
    pub(super) sixteen: u8,
}

pub(super) const TEST_UNIT_READY: u8 = 0x00;
pub(super) const REQUEST_SENSE: u8 = 0x03;
pub(super) const INQUIRY: u8 = 0x12;
pub(super) const MODE_SENSE_6: u8 = 0x1a;
pub(super) const START_STOP_UNIT: u8 = 0x1b;
pub(super) const PREVENT_ALLOW: u8 = 0x1e;
pub(super) const READ_CAPACITY_10: u8 = 0x25;
pub(super) const UNMAP: u8 = 0x42;
pub(super) const MODE_SENSE_10: u8 = 0x5a;
pub(super) const SERVICE_ACTION_IN_16: u8 = 0x9e;
pub(super) const ACTION_READ_CAPACITY_16: u8 = 0x10;
pub(super) const ACTION_GET_LBA_STATUS: u8 = 0x12;
pub(super) const REPORT_LUNS: u8 = 0xa0;
pub(super) const MAINTENANCE_IN: u8 = 0xa3;
pub(super) const ACTION_REPORT_SUPPORTED_OPCODES: u8 = 0x0c;
pub(super) const READ: Family = Family {
    six: Some(0x08),
    ten: 0x28,
    twelve: Some(0xa8),
    sixteen: 0x88,
};
pub(super) const WRITE: Family = Family {
    six: Some(0x0a),
    ten: 0x2a,
    twelve: Some(0xaa),
    sixteen: 0x8a,
};
pub(super) const WRITE_AND_VERIFY: Family = Family {
    six: None,
    ten: 0x2e,
    twelve: Some(0xae),
    sixteen: 0x8e,
};
pub(super) const VERIFY: Family = Family {
    six: None,
    ten: 0x2f,
    twelve: Some(0xaf),
    sixteen: 0x8f,
};
pub(super) const PRE_FETCH: Family = Family {
    six: None,
    ten: 0x34,
    twelve: None,
    sixteen: 0x90,
};
pub(super) const SYNCHRONIZE_CACHE: Family = Family {
    six: None,
    ten: 0x35,
    twelve: None,
    sixteen: 0x91,
};
pub(super) const WRITE_SAME: Family = Family {
    six: None,
    ten: 0x41,
    twelve: None,
    sixteen: 0x93,
};

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
    0x08 => |cdb| Ok(read(range_six(cdb), 0)), [0x1f 0xff 0xff 0xff 0x04];
    0x0a => |cdb| Ok(write(range_six(cdb), 0)), [0x1f 0xff 0xff 0xff 0x04];
    INQUIRY => inquiry, [0x01 0xff 0xff 0xff 0x04];
    MODE_SENSE_6 => mode_sense_6, [0x08 0xff 0xff 0xff 0x04];
    START_STOP_UNIT => start_stop, [0x01 0 0 0xf3 0x04];
    PREVENT_ALLOW => prevent_allow, [0 0 0 0x03 0x04];
    READ_CAPACITY_10 => |_| Ok(Command::ReadCapacity10), [0 0 0 0 0 0 0 0 0x04];
    0x28 => |cdb| Ok(read(range_ten(cdb)?, cdb[1])), [0xf8 0xff 0xff 0xff 0xff 0 0xff 0xff 0x04];
    0x2a => |cdb| Ok(write(range_ten(cdb)?, cdb[1])), [0xf8 0xff 0xff 0xff 0xff 0 0xff 0xff 0x04];
    0x2e => |cdb| write_and_verify(range_ten(cdb)?, cdb[1]), [0xf6 0xff 0xff 0xff 0xff 0 0xff 0xff 0x04];
    0x2f => |cdb| verify(range_ten(cdb)?, cdb[1]), [0xf6 0xff 0xff 0xff 0xff 0 0xff 0xff 0x04];
    0x34 => |cdb| Ok(pre_fetch(range_ten_plain(cdb), cdb[1])), [0x02 0xff 0xff 0xff 0xff 0 0xff 0xff 0x04];
    0x35 => |cdb| Ok(synchronize(range_ten_plain(cdb), cdb[1])), [0x02 0xff 0xff 0xff 0xff 0 0xff 0xff 0x04];
    0x41 => |cdb| write_same(range_ten(cdb)?, cdb[1], false), [0xfe 0xff 0xff 0xff 0xff 0 0xff 0xff 0x04];
    UNMAP => unmap, [0x01 0 0 0 0 0 0xff 0xff 0x04];
    MODE_SENSE_10 => mode_sense_10, [0x18 0xff 0xff 0 0 0 0xff 0xff 0x04];
    0x88 => |cdb| Ok(read(range_sixteen(cdb)?, cdb[1])),
        [0xf8 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0 0x04];
    0x8a => |cdb| Ok(write(range_sixteen(cdb)?, cdb[1])),
        [0xf8 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0 0x04];
    0x8e => |cdb| write_and_verify(range_sixteen(cdb)?, cdb[1]),
        [0xf6 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0 0x04];
    0x8f => |cdb| verify(range_sixteen(cdb)?, cdb[1]),
        [0xf6 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0 0x04];
    0x90 => |cdb| Ok(pre_fetch(range_sixteen_plain(cdb), cdb[1])),
        [0x02 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0 0x04];
    0x91 => |cdb| Ok(synchronize(range_sixteen_plain(cdb), cdb[1])),
        [0x02 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0 0x04];
    0x93 => |cdb| write_same(range_sixteen(cdb)?, cdb[1], cdb[1] & WRITE_SAME_NDOB != 0),
        [0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0 0x04];
    SERVICE_ACTION_IN_16, ACTION_READ_CAPACITY_16 => read_capacity_16,
        [0x10 0 0 0 0 0 0 0 0 0xff 0xff 0xff 0xff 0 0x04];
    SERVICE_ACTION_IN_16, ACTION_GET_LBA_STATUS => get_lba_status,
        [0x12 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0 0x04];
    REPORT_LUNS => report_luns, [0 0xff 0 0 0 0xff 0xff 0xff 0xff 0 0x04];
    MAINTENANCE_IN, ACTION_REPORT_SUPPORTED_OPCODES => supported_opcodes,
        [0x0c 0x87 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0 0x04];
    0xa8 => |cdb| Ok(read(range_twelve(cdb)?, cdb[1])), [0xf8 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0 0x04];
    0xaa => |cdb| Ok(write(range_twelve(cdb)?, cdb[1])), [0xf8 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0 0x04];
    0xae => |cdb| write_and_verify(range_twelve(cdb)?, cdb[1]), [0xf6 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0 0x04];
    0xaf => |cdb| verify(range_twelve(cdb)?, cdb[1]), [0xf6 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0xff 0 0x04];
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
pub(super) fn find(cdb: &[u8; CDB_BYTES]) -> Result<&'static Format, Sense> {
    let action = cdb[1] & ACTION_BITS;
    let mut known = false;
    for format in formats_of(cdb[0]) {
        known = true;
        if format.action.is_none_or(|own| own == action) {
            return Ok(format);
        }
    }
    Err(if known {
        Sense::INVALID_FIELD_IN_CDB
    } else {
        Sense::INVALID_OPERATION_CODE
    })
}

/// The answer to REPORT SUPPORTED OPERATION CODES. `offered` tells which command formats the unit obeys at all:
/// it sees the usage bitmap, whose first byte is the operation code.
pub fn supported(
    query: OpcodeQuery,
    timeouts: bool,
    offered: impl Fn(&[u8]) -> bool,
) -> Result<Bytes, Sense> {
    match query {
        OpcodeQuery::All => Ok(all(timeouts, offered)),
        OpcodeQuery::One(opcode) => {
            let format = formats_of(opcode).next();
            if format.is_some_and(|format| format.action.is_some()) {
                return Err(Sense::INVALID_FIELD_IN_CDB);
            }
            Ok(one(format.filter(|format| offered(format.usage)), timeouts))
        }
        OpcodeQuery::Action(opcode, action) => {
            let mut formats = formats_of(opcode).peekable();
            if formats.peek().is_some_and(|format| format.action.is_none()) {
                return Err(Sense::INVALID_FIELD_IN_CDB);
            }
            let format = formats.find(|format| format.action.map(u16::from) == Some(action));
            Ok(one(format.filter(|format| offered(format.usage)), timeouts))
        }
        OpcodeQuery::Either(opcode, action) => {
            let format =
                formats_of(opcode).find(|format| format.action.map_or(0, u16::from) == action);
            Ok(one(format.filter(|format| offered(format.usage)), timeouts))
        }
    }
}

fn all(timeouts: bool, offered: impl Fn(&[u8]) -> bool) -> Bytes {
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

const ACTION_BITS: u8 = 0x1f;
const SERVACTV: u8 = 0x01;
const CTDP_ALL: u8 = 0x02;
const CTDP_ONE: u8 = 0x80;
const NOT_SUPPORTED: u8 = 0x01;
const SUPPORTED_AS_STANDARD: u8 = 0x03;
/// A command timeouts descriptor that promises nothing: length 000Ah, both timeouts zero.
const NO_TIMEOUTS: [u8; 12] = [0x00, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
