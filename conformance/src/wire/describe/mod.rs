//! A PDU in one line, for people.

mod scsi;

use std::fmt::Write as _;

use iscsi_proto::login::LoginStatus;
use iscsi_proto::wire::bhs::{CONTINUE, FINAL, IMMEDIATE, RESERVED_TAG, STATUS, ScsiResponse};
use iscsi_proto::wire::lun::Lun;
use iscsi_proto::wire::{Header, Pdu};

/// The PDU's name, its fields that say something, and the beginning of its data, which had `length` bytes.
pub(super) fn describe(pdu: &Pdu, length: usize) -> String {
    let common = pdu.header.common();
    let mut line = name(&pdu.header).to_owned();
    if common.opcode & IMMEDIATE != 0 && common.opcode & 0x20 == 0 {
        line += " I";
    }
    if common.flags & FINAL != 0 {
        line += " F";
    }
    let _ = write!(line, " ITT={}", tag(common.initiator_task_tag.get()));
    fields(pdu, &mut line);
    if !pdu.ahs.is_empty() {
        let _ = write!(line, " AHS={}", hex(&pdu.ahs));
    }
    if !pdu.data.is_empty() {
        let _ = write!(line, " data[{}]={}", length, shown(pdu, length));
    }
    line
}

/// What RFC 7143 calls the PDU.
pub(crate) fn name(header: &Header) -> &'static str {
    match header {
        Header::NopOut(_) => "NOP-Out",
        Header::ScsiCommand(_) => "SCSI Command",
        Header::TaskManagementRequest(_) => "Task Management Request",
        Header::LoginRequest(_) => "Login Request",
        Header::TextRequest(_) => "Text Request",
        Header::DataOut(_) => "Data-Out",
        Header::LogoutRequest(_) => "Logout Request",
        Header::SnackRequest(_) => "SNACK Request",
        Header::NopIn(_) => "NOP-In",
        Header::ScsiResponse(_) => "SCSI Response",
        Header::TaskManagementResponse(_) => "Task Management Response",
        Header::LoginResponse(_) => "Login Response",
        Header::TextResponse(_) => "Text Response",
        Header::DataIn(_) => "Data-In",
        Header::LogoutResponse(_) => "Logout Response",
        Header::ReadyToTransfer(_) => "R2T",
        Header::AsyncMessage(_) => "Async Message",
        Header::Reject(_) => "Reject",
        Header::Unknown(_) => "PDU of an unknown opcode",
    }
}

macro_rules! put {
    ($line:ident, $header:ident: $($label:literal $field:ident),*) => {
        {
            $(let _ = write!($line, concat!(" ", $label, "={}"), $header.$field.get());)*
        }
    };
}

fn fields(pdu: &Pdu, line: &mut String) {
    match &pdu.header {
        Header::NopOut(h) => {
            transfer_tag(line, h.target_transfer_tag.get());
            put!(line, h: "CmdSN" cmd_sn, "ExpStatSN" exp_stat_sn);
        }
        Header::ScsiCommand(h) => {
            let _ = write!(
                line,
                "{} LUN={} {}",
                scsi::attributes(h.flags),
                Lun(h.lun.get()),
                scsi::command(&h.cdb)
            );
            put!(line, h: "EDTL" expected_data_transfer_length, "CmdSN" cmd_sn, "ExpStatSN" exp_stat_sn);
        }
        Header::TaskManagementRequest(h) => {
            let _ = write!(
                line,
                " {} LUN={} RTT={}",
                scsi::function(h.function & 0x7f),
                Lun(h.lun.get()),
                tag(h.referenced_task_tag.get())
            );
            put!(line, h: "RefCmdSN" ref_cmd_sn, "CmdSN" cmd_sn, "ExpStatSN" exp_stat_sn);
        }
        Header::LoginRequest(h) => {
            stages(line, h.flags);
            let _ = write!(
                line,
                " ISID={} TSIH={} CID={}",
                hex(&h.isid),
                h.tsih.get(),
                h.cid.get()
            );
            put!(line, h: "CmdSN" cmd_sn, "ExpStatSN" exp_stat_sn);
        }
        Header::TextRequest(h) => {
            transfer_tag(line, h.target_transfer_tag.get());
            put!(line, h: "CmdSN" cmd_sn, "ExpStatSN" exp_stat_sn);
        }
        Header::DataOut(h) => {
            transfer_tag(line, h.target_transfer_tag.get());
            put!(line, h: "ExpStatSN" exp_stat_sn, "DataSN" data_sn, "offset" buffer_offset);
        }
        Header::LogoutRequest(h) => {
            let _ = write!(line, " {}", scsi::words(h.reason & 0x7f, &LOGOUT_REASONS));
            put!(line, h: "CID" cid, "CmdSN" cmd_sn, "ExpStatSN" exp_stat_sn);
        }
        Header::SnackRequest(h) => {
            let _ = write!(line, " {}", scsi::words(h.kind & 0x0f, &SNACK_TYPES));
            transfer_tag(line, h.target_transfer_tag.get());
            put!(line, h: "BegRun" beg_run, "RunLength" run_length, "ExpStatSN" exp_stat_sn);
        }
        _ => answers(pdu, line),
    }
}

fn answers(pdu: &Pdu, line: &mut String) {
    match &pdu.header {
        Header::NopIn(h) => {
            transfer_tag(line, h.target_transfer_tag.get());
            put!(line, h: "StatSN" stat_sn, "ExpCmdSN" exp_cmd_sn, "MaxCmdSN" max_cmd_sn);
        }
        Header::ScsiResponse(h) => {
            command_end(line, h, &pdu.data);
            put!(line, h: "StatSN" stat_sn, "ExpCmdSN" exp_cmd_sn, "MaxCmdSN" max_cmd_sn, "ExpDataSN" exp_data_sn);
        }
        Header::TaskManagementResponse(h) => {
            let _ = write!(line, " {}", scsi::function_answer(h.response));
            put!(line, h: "StatSN" stat_sn, "ExpCmdSN" exp_cmd_sn, "MaxCmdSN" max_cmd_sn);
        }
        Header::LoginResponse(h) => {
            stages(line, h.flags);
            let status = LoginStatus {
                class: h.status_class,
                detail: h.status_detail,
            };
            let _ = write!(line, " {status} TSIH={}", h.tsih.get());
            put!(line, h: "StatSN" stat_sn, "ExpCmdSN" exp_cmd_sn, "MaxCmdSN" max_cmd_sn);
        }
        Header::TextResponse(h) => {
            transfer_tag(line, h.target_transfer_tag.get());
            put!(line, h: "StatSN" stat_sn, "ExpCmdSN" exp_cmd_sn, "MaxCmdSN" max_cmd_sn);
        }
        Header::DataIn(h) => {
            if h.flags & ACKNOWLEDGE != 0 {
                *line += " A";
            }
            if h.flags & STATUS != 0 {
                let _ = write!(line, " S {}", scsi::status(h.status, &[]));
            }
            *line += &scsi::residual(h.flags, h.residual_count.get());
            transfer_tag(line, h.target_transfer_tag.get());
            put!(line, h: "StatSN" stat_sn, "DataSN" data_sn, "offset" buffer_offset);
        }
        Header::LogoutResponse(h) => {
            let _ = write!(line, " {}", scsi::words(h.response, &LOGOUT_ANSWERS));
            put!(line, h: "StatSN" stat_sn, "ExpCmdSN" exp_cmd_sn, "MaxCmdSN" max_cmd_sn);
        }
        Header::ReadyToTransfer(h) => {
            transfer_tag(line, h.target_transfer_tag.get());
            put!(line, h: "StatSN" stat_sn, "R2TSN" r2t_sn, "offset" buffer_offset, "length" desired_data_transfer_length);
        }
        Header::AsyncMessage(h) => {
            let _ = write!(line, " {}", scsi::words(h.async_event, &ASYNC_EVENTS));
            put!(line, h: "StatSN" stat_sn, "ExpCmdSN" exp_cmd_sn, "MaxCmdSN" max_cmd_sn);
        }
        Header::Reject(h) => {
            let _ = write!(line, " {}", scsi::words(h.reason, &REJECT_REASONS));
            put!(line, h: "StatSN" stat_sn, "ExpCmdSN" exp_cmd_sn, "MaxCmdSN" max_cmd_sn);
        }
        other => {
            let _ = write!(line, " header={}", hex(other.as_bytes()));
        }
    }
}

fn command_end(line: &mut String, response: &ScsiResponse, data: &[u8]) {
    // With any other response the status says nothing (RFC 7143 §11.4.3).
    if response.response == 0 {
        let _ = write!(line, " {}", scsi::status(response.status, data));
    } else {
        let answer = scsi::words(response.response, &[(1, "target failure")]);
        let _ = write!(line, " {answer}");
    }
    *line += &scsi::residual(response.flags, response.residual_count.get());
    let flags = response.flags & 0x18;
    if flags != 0 {
        let count = response.bidirectional_read_residual_count.get();
        // The same two bits, two places higher.
        let _ = write!(line, " read:{}", scsi::residual(flags >> 2, count));
    }
}

fn transfer_tag(line: &mut String, number: u32) {
    let _ = write!(line, " TTT={}", tag(number));
}

/// A task's or a transfer's tag.
pub(super) fn tag(number: u32) -> String {
    if number == RESERVED_TAG {
        "reserved".to_owned()
    } else {
        format!("{number:08x}")
    }
}

fn stages(line: &mut String, flags: u8) {
    let stage = |number: u8| match number & 3 {
        0 => "security",
        1 => "operational",
        3 => "full feature",
        _ => "(2)",
    };
    if flags & CONTINUE != 0 {
        *line += " C";
    }
    let _ = write!(line, " {}", stage(flags >> 2));
    if flags & FINAL != 0 {
        let _ = write!(line, " to {}", stage(flags));
    }
}

/// So much of a PDU's data is shown at most.
pub(super) fn most_shown(header: &Header) -> usize {
    if is_text(header) {
        MOST_TEXT
    } else {
        MOST_BYTES
    }
}

fn is_text(header: &Header) -> bool {
    matches!(
        header,
        Header::LoginRequest(_)
            | Header::LoginResponse(_)
            | Header::TextRequest(_)
            | Header::TextResponse(_)
    )
}

/// Text where it is text, else the first bytes.
fn shown(pdu: &Pdu, length: usize) -> String {
    if is_text(&pdu.header) {
        let text = String::from_utf8_lossy(&pdu.data);
        let mut pairs: Vec<&str> = text.split('\0').filter(|pair| !pair.is_empty()).collect();
        pairs.truncate(MOST_PAIRS);
        return format!("{{{}}}", pairs.join(" "));
    }
    let first = pdu.data.get(..MOST_BYTES).unwrap_or(&pdu.data);
    let rest = if first.len() < length { ".." } else { "" };
    format!("{}{rest}", hex(first))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

const MOST_PAIRS: usize = 40;
const MOST_BYTES: usize = 64;
const MOST_TEXT: usize = 2048;
/// Bit 0x40 of byte 1 of Data-In: the target wants to know what has arrived (RFC 7143 §11.7.2).
const ACKNOWLEDGE: u8 = 0x40;
const LOGOUT_REASONS: [(u8, &str); 3] = [
    (0, "close the session"),
    (1, "close the connection"),
    (2, "remove the connection for recovery"),
];
const LOGOUT_ANSWERS: [(u8, &str); 4] = [
    (0, "closed"),
    (1, "CID not found"),
    (2, "recovery not supported"),
    (3, "cleanup failed"),
];
const ASYNC_EVENTS: [(u8, &str); 7] = [
    (0, "SCSI event"),
    (1, "logout requested"),
    (2, "connection will be dropped"),
    (3, "session will be dropped"),
    (4, "negotiation requested"),
    (5, "tasks terminated"),
    (255, "vendor's event"),
];
const REJECT_REASONS: [(u8, &str); 10] = [
    (2, "data digest error"),
    (3, "SNACK reject"),
    (4, "protocol error"),
    (5, "command not supported"),
    (6, "immediate command reject"),
    (7, "task in progress"),
    (8, "invalid data ack"),
    (9, "invalid PDU field"),
    (10, "long operation reject"),
    (12, "waiting for logout"),
];
const SNACK_TYPES: [(u8, &str); 4] = [
    (0, "Data/R2T"),
    (1, "Status"),
    (2, "DataACK"),
    (3, "R-Data"),
];

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    /// A header of bytes at offsets, decoded and told, with data.
    fn told(bytes: &[(usize, &[u8])], data: &'static [u8]) -> String {
        let mut header = [0; 48];
        for (at, field) in bytes {
            header[*at..*at + field.len()].copy_from_slice(field);
        }
        let pdu = Pdu::new(Header::decode(&header), Bytes::from_static(data));
        describe(&pdu, data.len())
    }

    #[test]
    fn a_command_is_told_by_name_and_range() {
        let read = told(
            &[
                (0, &[0x01, 0xc1]),
                (9, &[3]),
                (19, &[7]),
                (22, &[0x10, 0]),
                (32, &[0x28, 0, 0, 0, 0, 5, 0, 0, 8, 0]),
            ],
            &[],
        );
        assert_eq!(
            read,
            "SCSI Command F ITT=00000007 R simple LUN=3 \"READ (10)\" LBA 5 x 8 CDB=28000000000500000800 EDTL=4096 CmdSN=0 ExpStatSN=0"
        );
        let capacity = told(&[(0, &[0x41, 0x80]), (32, &[0x9e, 0x10])], &[]);
        assert!(capacity.contains(" I F "), "{capacity}");
        assert!(capacity.contains("untagged LUN=0 \"READ CAPACITY (16)\" CDB=9e10"));
    }

    #[test]
    fn an_end_is_told_with_sense_and_residual() {
        let attention = told(
            &[(0, &[0x21, 0x82, 0, 2]), (46, &[2, 0])],
            &[
                0, 18, 0x70, 0, 6, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x29, 0, 0, 0, 0, 0,
            ],
        );
        assert!(
            attention.contains(" CHECK CONDITION 6/29/00 U residual=512 "),
            "{attention}"
        );
        let full = told(&[(0, &[0x21, 0x80, 0, 0x28])], &[]);
        assert!(full.contains(" TASK SET FULL StatSN=0 "), "{full}");
        let data = told(&[(0, &[0x25, 0x81, 0, 8]), (20, &[0xff; 4])], &[]);
        assert!(data.contains(" S BUSY TTT=reserved "), "{data}");
    }

    #[test]
    fn requests_and_answers_are_told_in_words() {
        for (bytes, words) in [
            ([0x02, 0x85, 0, 0], " LOGICAL UNIT RESET (5) LUN=0 "),
            ([0x22, 0x80, 1, 0], " task does not exist (1) "),
            ([0x22, 0x80, 9, 0], " unknown (9) "),
            ([0x06, 0x81, 0, 0], " close the connection (1) "),
            ([0x26, 0x80, 2, 0], " recovery not supported (2) "),
            ([0x10, 0x82, 0, 0], " DataACK (2) "),
            ([0x3f, 0x80, 4, 0], " protocol error (4) "),
        ] {
            let line = told(&[(0, &bytes)], &[]);
            assert!(line.contains(words), "{line}");
        }
        let refused = told(&[(0, &[0x23]), (36, &[2, 1])], &[]);
        assert!(
            refused.contains(" authentication failure (0201h) "),
            "{refused}"
        );
    }
}
