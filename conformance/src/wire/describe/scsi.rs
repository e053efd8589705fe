//! Commands, statuses and functions in words.

use std::fmt::Write as _;

use iscsi_proto::scsi::{SenseData, Status};
use iscsi_proto::wire::bhs::{OVERFLOW, READ, UNDERFLOW, WRITE};

use super::hex;

/// The command's name, its range where it has one, and the bytes of its descriptor block.
pub(super) fn command(cdb: &[u8; 16]) -> String {
    let [opcode, action, ..] = *cdb;
    let mut text = format!("\"{}\"", name(opcode, action & 0x1f));
    if let Some((lba, blocks)) = range(cdb) {
        let _ = write!(text, " LBA {lba} x {blocks}");
    }
    let length = match opcode >> 5 {
        0 => 6,
        1 | 2 => 10,
        5 => 12,
        _ => 16,
    };
    let (block, padding) = cdb.split_at_checked(length).unwrap_or((cdb, &[]));
    // Padding that is not zero is worth a look.
    let block = if padding.iter().all(|byte| *byte == 0) {
        block
    } else {
        cdb
    };
    let _ = write!(text, " CDB={}", hex(block));
    text
}

/// Read, write and the task attribute (RFC 7143 §11.3.1).
pub(super) fn attributes(flags: u8) -> String {
    let mut text = String::new();
    for (bit, letter) in [(READ, " R"), (WRITE, " W")] {
        if flags & bit != 0 {
            text += letter;
        }
    }
    text += match flags & 0x07 {
        0 => " untagged",
        1 => " simple",
        2 => " ordered",
        3 => " head of queue",
        4 => " ACA",
        _ => " reserved attribute",
    };
    text
}

/// A status, and the sense of a CHECK CONDITION: the data is a length of two bytes, then the sense (RFC 7143 §11.4.7).
pub(super) fn status(status: u8, data: &[u8]) -> String {
    let mut text = Status(status).to_string().replace('_', " ");
    let sense = data.get(2..).filter(|sense| !sense.is_empty());
    if let Some(found) = sense.and_then(SenseData::parse) {
        let sense = found.sense;
        let _ = write!(
            text,
            " {:x}/{:02x}/{:02x}",
            sense.key, sense.asc, sense.ascq
        );
    }
    text
}

/// The residual, if one is declared.
pub(super) fn residual(flags: u8, count: u32) -> String {
    match (flags & OVERFLOW != 0, flags & UNDERFLOW != 0) {
        (true, false) => format!(" O residual={count}"),
        (false, true) => format!(" U residual={count}"),
        (true, true) => format!(" O U residual={count}"),
        (false, false) if count != 0 => format!(" residual={count} without O or U"),
        (false, false) => String::new(),
    }
}

/// A task management function (RFC 7143 §11.5.1, RFC 7144 §4).
pub(super) fn function(number: u8) -> String {
    words(
        number,
        &[
            (1, "ABORT TASK"),
            (2, "ABORT TASK SET"),
            (3, "CLEAR ACA"),
            (4, "CLEAR TASK SET"),
            (5, "LOGICAL UNIT RESET"),
            (6, "TARGET WARM RESET"),
            (7, "TARGET COLD RESET"),
            (8, "TASK REASSIGN"),
            (9, "QUERY TASK"),
            (10, "QUERY TASK SET"),
            (11, "I_T NEXUS RESET"),
            (12, "QUERY ASYNCHRONOUS EVENT"),
        ],
    )
}

/// What became of a task management function (RFC 7143 §11.6.1, RFC 7144 §4.2).
pub(super) fn function_answer(number: u8) -> String {
    words(
        number,
        &[
            (0, "function complete"),
            (1, "task does not exist"),
            (2, "LUN does not exist"),
            (3, "task still allegiant"),
            (4, "reassignment not supported"),
            (5, "function not supported"),
            (6, "authorization failed"),
            (7, "function succeeded"),
            (255, "function rejected"),
        ],
    )
}

/// The name of a number, and the number.
pub(super) fn words(number: u8, names: &[(u8, &str)]) -> String {
    let found = names.iter().find(|(known, _)| *known == number);
    format!("{} ({number})", found.map_or("unknown", |(_, name)| name))
}

/// Where the command begins and how many blocks it is for.
fn range(cdb: &[u8; 16]) -> Option<(u64, u32)> {
    let [opcode, b1, b2, b3, b4, b5, b6, b7, b8, b9, ..] = *cdb;
    let [.., b10, b11, b12, b13, _, _] = *cdb;
    let short = u64::from(u32::from_be_bytes([b2, b3, b4, b5]));
    Some(match opcode {
        // Zero blocks are 256 here (SBC-3 §5.8).
        0x08 | 0x0a => (
            u32::from_be_bytes([0, b1 & 0x1f, b2, b3]).into(),
            if b4 == 0 { 256 } else { b4.into() },
        ),
        0x28 | 0x2a | 0x2e | 0x2f | 0x34 | 0x35 | 0x41 => {
            (short, u16::from_be_bytes([b7, b8]).into())
        }
        0xa8 | 0xaa | 0xae | 0xaf => (short, u32::from_be_bytes([b6, b7, b8, b9])),
        0x88 | 0x8a | 0x8b | 0x8e..=0x91 | 0x93 => (
            u64::from_be_bytes([b2, b3, b4, b5, b6, b7, b8, b9]),
            u32::from_be_bytes([b10, b11, b12, b13]),
        ),
        _ => return None,
    })
}

fn name(opcode: u8, action: u8) -> &'static str {
    let found = NAMES
        .iter()
        .find(|(code, which, _)| *code == opcode && which.is_none_or(|which| which == action));
    found.map_or("unknown command", |(_, _, name)| name)
}

/// Operation codes, service actions and names (SPC-4 annex E).
#[rustfmt::skip]
const NAMES: [(u8, Option<u8>, &str); 75] = [
    (0x00, None, "TEST UNIT READY"), (0x03, None, "REQUEST SENSE"), (0x04, None, "FORMAT UNIT"),
    (0x08, None, "READ (6)"), (0x0a, None, "WRITE (6)"), (0x12, None, "INQUIRY"),
    (0x15, None, "MODE SELECT (6)"), (0x16, None, "RESERVE (6)"), (0x17, None, "RELEASE (6)"),
    (0x1a, None, "MODE SENSE (6)"), (0x1b, None, "START STOP UNIT"), (0x1d, None, "SEND DIAGNOSTIC"),
    (0x1e, None, "PREVENT ALLOW MEDIUM REMOVAL"), (0x25, None, "READ CAPACITY (10)"), (0x28, None, "READ (10)"),
    (0x2a, None, "WRITE (10)"), (0x2e, None, "WRITE AND VERIFY (10)"), (0x2f, None, "VERIFY (10)"),
    (0x34, None, "PRE-FETCH (10)"), (0x35, None, "SYNCHRONIZE CACHE (10)"), (0x37, None, "READ DEFECT DATA (10)"),
    (0x3b, None, "WRITE BUFFER"), (0x3c, None, "READ BUFFER"), (0x41, None, "WRITE SAME (10)"),
    (0x42, None, "UNMAP"), (0x48, None, "SANITIZE"), (0x4d, None, "LOG SENSE"),
    (0x55, None, "MODE SELECT (10)"), (0x56, None, "RESERVE (10)"), (0x57, None, "RELEASE (10)"),
    (0x5a, None, "MODE SENSE (10)"),
    (0x5e, Some(0), "PERSISTENT RESERVE IN, READ KEYS"),
    (0x5e, Some(1), "PERSISTENT RESERVE IN, READ RESERVATION"),
    (0x5e, Some(2), "PERSISTENT RESERVE IN, REPORT CAPABILITIES"),
    (0x5e, Some(3), "PERSISTENT RESERVE IN, READ FULL STATUS"),
    (0x5e, None, "PERSISTENT RESERVE IN"),
    (0x5f, Some(0), "PERSISTENT RESERVE OUT, REGISTER"),
    (0x5f, Some(1), "PERSISTENT RESERVE OUT, RESERVE"),
    (0x5f, Some(2), "PERSISTENT RESERVE OUT, RELEASE"),
    (0x5f, Some(3), "PERSISTENT RESERVE OUT, CLEAR"),
    (0x5f, Some(4), "PERSISTENT RESERVE OUT, PREEMPT"),
    (0x5f, Some(5), "PERSISTENT RESERVE OUT, PREEMPT AND ABORT"),
    (0x5f, Some(6), "PERSISTENT RESERVE OUT, REGISTER AND IGNORE EXISTING KEY"),
    (0x5f, Some(7), "PERSISTENT RESERVE OUT, REGISTER AND MOVE"),
    (0x5f, None, "PERSISTENT RESERVE OUT"),
    (0x83, None, "EXTENDED COPY"), (0x84, None, "RECEIVE COPY RESULTS"), (0x88, None, "READ (16)"),
    (0x89, None, "COMPARE AND WRITE"), (0x8a, None, "WRITE (16)"), (0x8b, None, "ORWRITE (16)"),
    (0x8e, None, "WRITE AND VERIFY (16)"), (0x8f, None, "VERIFY (16)"), (0x90, None, "PRE-FETCH (16)"),
    (0x91, None, "SYNCHRONIZE CACHE (16)"), (0x93, None, "WRITE SAME (16)"), (0x9c, None, "WRITE ATOMIC (16)"),
    (0x9e, Some(0x10), "READ CAPACITY (16)"), (0x9e, Some(0x12), "GET LBA STATUS"),
    (0x9e, None, "SERVICE ACTION IN (16)"), (0xa0, None, "REPORT LUNS"),
    (0xa3, Some(0x0a), "REPORT TARGET PORT GROUPS"),
    (0xa3, Some(0x0c), "REPORT SUPPORTED OPERATION CODES"),
    (0xa3, Some(0x0d), "REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS"),
    (0xa3, Some(0x0f), "REPORT TIMESTAMP"), (0xa3, None, "MAINTENANCE IN"),
    (0xa4, Some(0x0a), "SET TARGET PORT GROUPS"), (0xa4, None, "MAINTENANCE OUT"),
    (0xa8, None, "READ (12)"), (0xaa, None, "WRITE (12)"), (0xae, None, "WRITE AND VERIFY (12)"),
    (0xaf, None, "VERIFY (12)"), (0xb7, None, "READ DEFECT DATA (12)"), (0x9f, None, "SERVICE ACTION OUT (16)"),
    (0x7f, None, "variable length command"),
];
