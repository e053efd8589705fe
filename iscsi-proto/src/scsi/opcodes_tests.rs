//! REPORT SUPPORTED OPERATION CODES as bytes, spelled out from SPC-4 §6.35.

use super::opcodes;
use super::{Command, OpcodeQuery, Sense, SenseData};

fn cdb(front: &[u8]) -> [u8; 16] {
    let mut out = [0; 16];
    out[..front.len()].copy_from_slice(front);
    out
}

#[test]
fn all_supported_opcodes_are_listed_in_order() {
    let list = opcodes::supported(OpcodeQuery::All, false, |_| true).unwrap();
    let (length, rows) = list.split_at(4);
    assert_eq!(
        u32::from_be_bytes(length.try_into().unwrap()) as usize,
        rows.len()
    );
    let rows: Vec<&[u8]> = rows.chunks_exact(8).collect();
    assert!(rows.is_sorted());
    assert!(rows.contains(&&[0x9e, 0, 0, 0x10, 0, 1, 0, 16][..]));
    assert!(rows.contains(&&[0x12, 0, 0, 0, 0, 0, 0, 6][..]));
    let timed = opcodes::supported(OpcodeQuery::All, true, |usage| usage[0] == 0x00).unwrap();
    let expected = [
        0, 0, 0, 20, 0, 0, 0, 0, 0, 2, 0, 6, 0, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    assert_eq!(timed.as_ref(), expected);
}

#[test]
fn one_opcode_tells_its_usage() {
    let one = |query| opcodes::supported(query, false, |_| true);
    let read_10 = [
        0, 3, 0, 10, 0x28, 0xf8, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff, 0x04,
    ];
    assert_eq!(one(OpcodeQuery::One(0x28)).unwrap().as_ref(), read_10);
    assert_eq!(one(OpcodeQuery::Either(0x28, 0)).unwrap().as_ref(), read_10);
    assert_eq!(one(OpcodeQuery::One(0x5d)).unwrap().as_ref(), [0, 1, 0, 0]);
    let capacity = [
        0, 3, 0, 16, 0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0x04,
    ];
    assert_eq!(
        one(OpcodeQuery::Action(0x9e, 0x10)).unwrap().as_ref(),
        capacity
    );
    assert_eq!(
        one(OpcodeQuery::Action(0x9e, 0x11)).unwrap().as_ref(),
        [0, 1, 0, 0]
    );
    // What a unit does not obey is not there: neither a code, nor a service action beside others.
    let offered = |usage: &[u8]| usage[0] != 0x48 && usage[..2] != [0x9e, 0x12];
    for query in [
        OpcodeQuery::One(0x48),
        OpcodeQuery::Action(0x48, 1),
        OpcodeQuery::Action(0x9e, 0x12),
    ] {
        let answer = opcodes::supported(query, false, offered).unwrap();
        assert_eq!(answer.as_ref(), [0, 1, 0, 0], "{query:?}");
    }
    // SPC-4 §6.35: an opcode with service actions cannot be asked for without one, nor the other way round.
    assert_eq!(one(OpcodeQuery::One(0x9e)), Err(SenseData::cdb_field(2, 2)));
    assert_eq!(
        one(OpcodeQuery::Action(0x28, 0)),
        Err(SenseData::cdb_field(2, 2))
    );
}

/// What each usage bitmap says is as long as the block is, begins with the operation code and its service action, and
/// has the NACA bit, which is looked at.
#[test]
fn usage_bitmaps_name_the_code_and_the_control_byte() {
    let list = opcodes::supported(OpcodeQuery::All, false, |_| true).unwrap();
    let rows: Vec<&[u8]> = list[4..].chunks_exact(8).collect();
    assert_eq!(rows.len(), 68);
    for row in rows {
        let (opcode, action, with_action) = (row[0], row[3], row[5] & 1 == 1);
        let query = if with_action {
            OpcodeQuery::Action(opcode, action.into())
        } else {
            OpcodeQuery::One(opcode)
        };
        let one = opcodes::supported(query, false, |_| true).unwrap();
        let usage = &one[4..];
        let length = match opcode >> 5 {
            0 => 6,
            1 | 2 => 10,
            4 => 16,
            _ => 12,
        };
        assert_eq!(usage.len(), length, "{opcode:02x}h");
        assert_eq!(usize::from(row[7]), length, "{opcode:02x}h");
        assert_eq!((usage[0], usage[length - 1]), (opcode, 0x04));
        if with_action {
            assert_eq!(usage[1] & 0x1f, action, "{opcode:02x}h");
        }
    }
}

/// Each format parses a block that has every bit of its usage bitmap set, or refuses a field of it; never the opcode.
#[test]
fn every_listed_format_is_known_to_the_parser() {
    let list = opcodes::supported(OpcodeQuery::All, false, |_| true).unwrap();
    for row in list[4..].chunks_exact(8) {
        let command = Command::parse(&cdb(&[row[0], row[3]]));
        assert_ne!(
            command,
            Err(Sense::INVALID_OPERATION_CODE.into()),
            "{row:02x?}"
        );
        if let Ok(command) = command {
            assert_eq!(command.cdb()[0], row[0]);
        }
    }
}
