//! A PDU in one line, for people.

use std::fmt::Write as _;

use iscsi_proto::wire::bhs::{CONTINUE, FINAL, IMMEDIATE};
use iscsi_proto::wire::opcode::{AsyncEvent, RejectReason};
use iscsi_proto::wire::{Header, Pdu};

/// The PDU's name, its fields that say something, and the beginning of its data.
pub(crate) fn describe(pdu: &Pdu) -> String {
    let common = pdu.header.common();
    let mut line = name(&pdu.header).to_owned();
    if common.opcode & IMMEDIATE != 0 && common.opcode & 0x20 == 0 {
        line += " I";
    }
    if common.flags & FINAL != 0 {
        line += " F";
    }
    let _ = write!(line, " ITT={:08x}", common.initiator_task_tag.get());
    fields(&pdu.header, &mut line);
    if !pdu.ahs.is_empty() {
        let _ = write!(line, " AHS={}", hex(&pdu.ahs));
    }
    if !pdu.data.is_empty() {
        let _ = write!(line, " data[{}]={}", pdu.data.len(), shown(pdu));
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

fn fields(header: &Header, line: &mut String) {
    match header {
        Header::NopOut(h) => {
            put!(line, h: "TTT" target_transfer_tag, "CmdSN" cmd_sn, "ExpStatSN" exp_stat_sn);
        }
        Header::ScsiCommand(h) => {
            let _ = write!(
                line,
                " flags={:02x} LUN={:x} CDB={}",
                h.flags,
                h.lun.get(),
                hex(&h.cdb)
            );
            put!(line, h: "EDTL" expected_data_transfer_length, "CmdSN" cmd_sn, "ExpStatSN" exp_stat_sn);
        }
        Header::TaskManagementRequest(h) => {
            let _ = write!(
                line,
                " function={} LUN={:x} RTT={:08x}",
                h.function & 0x7f,
                h.lun.get(),
                h.referenced_task_tag.get()
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
            put!(line, h: "TTT" target_transfer_tag, "CmdSN" cmd_sn, "ExpStatSN" exp_stat_sn);
        }
        Header::DataOut(h) => {
            put!(line, h: "TTT" target_transfer_tag, "ExpStatSN" exp_stat_sn, "DataSN" data_sn, "offset" buffer_offset);
        }
        Header::LogoutRequest(h) => {
            let _ = write!(line, " reason={}", h.reason & 0x7f);
            put!(line, h: "CID" cid, "CmdSN" cmd_sn, "ExpStatSN" exp_stat_sn);
        }
        Header::SnackRequest(h) => {
            let _ = write!(line, " type={}", h.kind & 0x0f);
            put!(line, h: "TTT" target_transfer_tag, "BegRun" beg_run, "RunLength" run_length, "ExpStatSN" exp_stat_sn);
        }
        other => answers(other, line),
    }
}

fn answers(header: &Header, line: &mut String) {
    match header {
        Header::NopIn(h) => {
            put!(line, h: "TTT" target_transfer_tag, "StatSN" stat_sn, "ExpCmdSN" exp_cmd_sn, "MaxCmdSN" max_cmd_sn);
        }
        Header::ScsiResponse(h) => {
            let _ = write!(
                line,
                " flags={:02x} response={:02x} status={:02x}",
                h.flags, h.response, h.status
            );
            put!(line, h: "StatSN" stat_sn, "ExpCmdSN" exp_cmd_sn, "MaxCmdSN" max_cmd_sn, "ExpDataSN" exp_data_sn, "residual" residual_count);
        }
        Header::TaskManagementResponse(h) => {
            let _ = write!(line, " response={}", h.response);
            put!(line, h: "StatSN" stat_sn, "ExpCmdSN" exp_cmd_sn, "MaxCmdSN" max_cmd_sn);
        }
        Header::LoginResponse(h) => {
            stages(line, h.flags);
            let _ = write!(
                line,
                " status={:02x}{:02x} TSIH={}",
                h.status_class,
                h.status_detail,
                h.tsih.get()
            );
            put!(line, h: "StatSN" stat_sn, "ExpCmdSN" exp_cmd_sn, "MaxCmdSN" max_cmd_sn);
        }
        Header::TextResponse(h) => {
            put!(line, h: "TTT" target_transfer_tag, "StatSN" stat_sn, "ExpCmdSN" exp_cmd_sn, "MaxCmdSN" max_cmd_sn);
        }
        Header::DataIn(h) => {
            let _ = write!(line, " flags={:02x} status={:02x}", h.flags, h.status);
            put!(line, h: "TTT" target_transfer_tag, "StatSN" stat_sn, "DataSN" data_sn, "offset" buffer_offset, "residual" residual_count);
        }
        Header::LogoutResponse(h) => {
            let _ = write!(line, " response={}", h.response);
            put!(line, h: "StatSN" stat_sn, "ExpCmdSN" exp_cmd_sn, "MaxCmdSN" max_cmd_sn);
        }
        Header::ReadyToTransfer(h) => {
            put!(line, h: "TTT" target_transfer_tag, "StatSN" stat_sn, "R2TSN" r2t_sn, "offset" buffer_offset, "length" desired_data_transfer_length);
        }
        Header::AsyncMessage(h) => {
            let _ = write!(line, " event={:?}", AsyncEvent(h.async_event));
            put!(line, h: "StatSN" stat_sn, "ExpCmdSN" exp_cmd_sn, "MaxCmdSN" max_cmd_sn);
        }
        Header::Reject(h) => {
            let _ = write!(line, " reason={:?}", RejectReason(h.reason));
            put!(line, h: "StatSN" stat_sn, "ExpCmdSN" exp_cmd_sn, "MaxCmdSN" max_cmd_sn);
        }
        other => {
            let _ = write!(line, " header={}", hex(other.as_bytes()));
        }
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

/// Text where it is text, else the first bytes.
fn shown(pdu: &Pdu) -> String {
    let is_text = matches!(
        pdu.header,
        Header::LoginRequest(_)
            | Header::LoginResponse(_)
            | Header::TextRequest(_)
            | Header::TextResponse(_)
    );
    if is_text {
        let text = String::from_utf8_lossy(&pdu.data);
        let mut pairs: Vec<&str> = text.split('\0').filter(|pair| !pair.is_empty()).collect();
        pairs.truncate(MOST_PAIRS);
        return format!("{{{}}}", pairs.join(" "));
    }
    let first = pdu.data.get(..MOST_BYTES).unwrap_or(&pdu.data);
    let rest = if first.len() < pdu.data.len() {
        ".."
    } else {
        ""
    };
    format!("{}{rest}", hex(first))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

const MOST_PAIRS: usize = 40;
const MOST_BYTES: usize = 64;
