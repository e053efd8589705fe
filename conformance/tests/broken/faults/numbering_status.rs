//! Targets that number their answers wrongly.

use iscsi_proto::wire::Header;
use iscsi_proto::wire::bhs::STATUS;

use crate::broken::{Fault, edit};

use super::numbering::{STAT_SN, add, plain, set};

pub(crate) const FAULTS: &[Fault] = &[
    plain(
        "each stage of the login numbers anew",
        "numbering.statsn.login",
        || {
            edit::responses(|pdu| {
                if matches!(pdu.header, Header::LoginResponse(_)) {
                    set(pdu, STAT_SN, 0);
                }
            })
        },
    ),
    plain(
        "the last Login Response skips a number",
        "numbering.statsn.login",
        || {
            edit::responses(|pdu| {
                if matches!(&pdu.header, Header::LoginResponse(login) if login.flags & 0x83 == 0x83)
                {
                    add(pdu, STAT_SN, 1);
                }
            })
        },
    ),
    plain(
        "a ping uses no StatSN up",
        "numbering.statsn.continuity",
        || {
            let mut pings = 0;
            edit::responses(move |pdu| {
                if !matches!(pdu.header, Header::LoginResponse(_)) {
                    add(pdu, STAT_SN, 0u32.wrapping_sub(pings));
                }
                pings += u32::from(matches!(pdu.header, Header::NopIn(_)));
            })
        },
    ),
    plain(
        "Task Management Responses carry no StatSN",
        "numbering.statsn.continuity",
        || {
            edit::responses(|pdu| {
                if matches!(pdu.header, Header::TaskManagementResponse(_)) {
                    set(pdu, STAT_SN, 0);
                }
            })
        },
    ),
    plain(
        "Data-In with status carries no StatSN",
        "numbering.statsn.continuity",
        || {
            edit::responses(|pdu| {
                if matches!(&pdu.header, Header::DataIn(data) if data.flags & STATUS != 0) {
                    set(pdu, STAT_SN, 0);
                }
            })
        },
    ),
    plain(
        "CHECK CONDITION skips a StatSN",
        "numbering.statsn.check-condition",
        || {
            edit::responses(|pdu| {
                if matches!(&pdu.header, Header::ScsiResponse(response) if response.status == 2) {
                    add(pdu, STAT_SN, 1);
                }
            })
        },
    ),
    plain(
        "every Data-In uses a StatSN up",
        "numbering.statsn.data-in",
        || {
            let mut more = 0;
            edit::responses(move |pdu| {
                if !matches!(pdu.header, Header::LoginResponse(_)) {
                    add(pdu, STAT_SN, more);
                }
                more += u32::from(
                    matches!(&pdu.header, Header::DataIn(data) if data.flags & STATUS == 0),
                );
            })
        },
    ),
    plain(
        "R2Ts repeat the last StatSN",
        "numbering.statsn.r2t",
        || {
            edit::responses(|pdu| {
                if matches!(pdu.header, Header::ReadyToTransfer(_)) {
                    add(pdu, STAT_SN, u32::MAX);
                }
            })
        },
    ),
    plain("every R2T uses a StatSN up", "numbering.statsn.r2t", || {
        let mut more = 0;
        edit::responses(move |pdu| {
            if !matches!(pdu.header, Header::LoginResponse(_)) {
                add(pdu, STAT_SN, more);
            }
            more += u32::from(matches!(pdu.header, Header::ReadyToTransfer(_)));
        })
    }),
];
