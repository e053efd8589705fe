//! PDUs as a target would write them.

use bytes::Bytes;

use crate::login::InitiatorOutcome;
use crate::params::Params;
use crate::wire::Pdu;
use crate::wire::bhs::{
    DataIn, LogoutResponse, NopIn, ReadyToTransfer, ScsiResponse, TaskManagementResponse,
    TextResponse, U24,
};
use crate::wire::serial::Serial;

/// READ(16) of two blocks, which no session looks into.
pub(super) const READ_CDB: [u8; 16] = [0x88, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0];

/// Parameters whose limits a short test reaches.
pub(super) fn small_params() -> Params {
    Params {
        initial_r2t: false,
        immediate_data: true,
        first_burst_length: 2048,
        max_burst_length: 2048,
        max_send_data_segment_length: 1024,
        max_recv_data_segment_length: 4096,
        max_outstanding_r2t: 1,
        ..Params::default()
    }
}

/// What a bench starts from.
pub(super) fn outcome(params: Params) -> InitiatorOutcome {
    InitiatorOutcome {
        params,
        tsih: 1,
        portal_group_tag: Some(1),
        target_alias: None,
        cmd_sn: Serial(100),
        exp_stat_sn: Serial(7),
        exp_cmd_sn: Serial(100),
        max_cmd_sn: Serial(110),
    }
}

pub(super) fn low_byte(number: u32) -> u8 {
    number.to_be_bytes()[3]
}

pub(super) fn good_response(tag: u32, stat_sn: u32) -> Pdu {
    Pdu::bare(ScsiResponse {
        flags: 0x80,
        initiator_task_tag: tag.into(),
        stat_sn: stat_sn.into(),
        exp_cmd_sn: 101.into(),
        max_cmd_sn: 110.into(),
        ..ScsiResponse::default()
    })
}

pub(super) fn data_in(tag: u32, data_sn: u32, offset: u32, flags: u8, data: Vec<u8>) -> Pdu {
    let header = DataIn {
        flags,
        data_segment_length: U24::new(u32::try_from(data.len()).unwrap()),
        initiator_task_tag: tag.into(),
        target_transfer_tag: 0xffff_ffff.into(),
        data_sn: data_sn.into(),
        buffer_offset: offset.into(),
        exp_cmd_sn: 101.into(),
        max_cmd_sn: 110.into(),
        ..DataIn::default()
    };
    Pdu::new(header, data.into())
}

pub(super) fn r2t(tag: u32, transfer_tag: u32, r2t_sn: u32, offset: u32, length: u32) -> Pdu {
    Pdu::bare(ReadyToTransfer {
        flags: 0x80,
        initiator_task_tag: tag.into(),
        target_transfer_tag: transfer_tag.into(),
        stat_sn: 7.into(),
        exp_cmd_sn: 101.into(),
        max_cmd_sn: 110.into(),
        r2t_sn: r2t_sn.into(),
        buffer_offset: offset.into(),
        desired_data_transfer_length: length.into(),
        ..ReadyToTransfer::default()
    })
}

pub(super) fn nop_in(
    tag: u32,
    transfer_tag: u32,
    stat_sn: u32,
    exp_cmd_sn: u32,
    max_cmd_sn: u32,
) -> Pdu {
    Pdu::bare(NopIn {
        flags: 0x80,
        initiator_task_tag: tag.into(),
        target_transfer_tag: transfer_tag.into(),
        stat_sn: stat_sn.into(),
        exp_cmd_sn: exp_cmd_sn.into(),
        max_cmd_sn: max_cmd_sn.into(),
        ..NopIn::default()
    })
}

pub(super) fn management_response(tag: u32, response: u8, stat_sn: u32) -> Pdu {
    Pdu::bare(TaskManagementResponse {
        flags: 0x80,
        response,
        initiator_task_tag: tag.into(),
        stat_sn: stat_sn.into(),
        exp_cmd_sn: 101.into(),
        max_cmd_sn: 110.into(),
        ..TaskManagementResponse::default()
    })
}

pub(super) fn logout_response(tag: u32, stat_sn: u32) -> Pdu {
    Pdu::bare(LogoutResponse {
        flags: 0x80,
        initiator_task_tag: tag.into(),
        stat_sn: stat_sn.into(),
        ..LogoutResponse::default()
    })
}

pub(super) fn text(
    tag: u32,
    flags: u8,
    transfer_tag: u32,
    stat_sn: u32,
    data: &'static [u8],
) -> Pdu {
    let header = TextResponse {
        flags,
        initiator_task_tag: tag.into(),
        target_transfer_tag: transfer_tag.into(),
        stat_sn: stat_sn.into(),
        exp_cmd_sn: 101.into(),
        max_cmd_sn: 110.into(),
        ..TextResponse::default()
    };
    Pdu::new(header, Bytes::from_static(data))
}
