//! Short ways to break what a logical unit does: commands by their CDB, and what answers them.

use std::collections::BTreeMap;

use bytes::Bytes;
use iscsi_proto::wire::bhs::{DataIn, FINAL, STATUS, ScsiResponse};
use iscsi_proto::wire::{Header, Pdu};

use super::{Act, Fault, Kind, Saboteur, Seen};

/// A command descriptor block.
pub(crate) type Cdb = [u8; 16];

/// A fault in front of the plain target.
pub(crate) const fn fault(
    name: &'static str,
    trips: &'static str,
    saboteur: fn() -> Saboteur,
) -> Fault {
    Fault {
        name,
        trips,
        behind: Kind::Plain,
        saboteur,
    }
}

/// The command that a PDU begins, if it begins one.
pub(crate) fn cdb(pdu: &Pdu) -> Option<Cdb> {
    match &pdu.header {
        Header::ScsiCommand(command) => Some(command.cdb),
        _ => None,
    }
}

/// PERSISTENT RESERVE OUT with this service action.
pub(crate) fn is_out(cdb: &Cdb, action: u8) -> bool {
    cdb[0] == 0x5f && cdb[1] == action
}

/// PERSISTENT RESERVE IN with this service action.
pub(crate) fn is_in(cdb: &Cdb, action: u8) -> bool {
    cdb[0] == 0x5e && cdb[1] == action
}

/// Rewrites commands and whatever goes with them before the target sees them.
pub(crate) fn commands(
    mut edit: impl FnMut(&mut Cdb, &mut u32, &mut Bytes) + Send + 'static,
) -> Saboteur {
    super::edit::requests(move |pdu| {
        if let Header::ScsiCommand(command) = &mut pdu.header {
            let mut expected = command.expected_data_transfer_length.get();
            edit(&mut command.cdb, &mut expected, &mut pdu.data);
            command.expected_data_transfer_length = expected.into();
        }
    })
}

/// Rewrites CDBs before the target sees them.
pub(crate) fn cdbs(mut edit: impl FnMut(&mut Cdb) + Send + 'static) -> Saboteur {
    commands(move |cdb, _, _| edit(cdb))
}

/// Rewrites what answers commands: Data-In and SCSI Response, with the CDB that the initiator sent.
pub(crate) fn replies(mut edit: impl FnMut(&Cdb, &mut Pdu) + Send + 'static) -> Saboteur {
    let mut asked: BTreeMap<(usize, u32), Cdb> = BTreeMap::new();
    Box::new(move |seen, lane| match seen {
        Seen::Request(pdu) => {
            if let Some(cdb) = cdb(pdu) {
                asked.insert((lane.number, tag(pdu)), cdb);
            }
            Act::Pass
        }
        Seen::Response(pdu) => match asked.get(&(lane.number, tag(pdu))) {
            Some(cdb) if answers(pdu) => {
                let mut pdu = pdu.clone();
                edit(cdb, &mut pdu);
                Act::Replace(vec![pdu])
            }
            _ => Act::Pass,
        },
        Seen::TargetClosed => Act::Pass,
    })
}

/// Commands that the target says it has carried out, and has not: TEST UNIT READY stands in for them.
pub(crate) fn idle(mut which: impl FnMut(&Cdb) -> bool + Send + 'static) -> Saboteur {
    cdbs(move |cdb| {
        if which(cdb) {
            *cdb = [0; 16];
        }
    })
}

/// Two faults in one target: the first is nearer to the initiator for requests and answers alike.
pub(crate) fn both(mut first: Saboteur, mut second: Saboteur) -> Saboteur {
    Box::new(move |seen, lane| match seen {
        Seen::Request(pdu) => match first(Seen::Request(pdu), lane) {
            Act::Pass => second(Seen::Request(pdu), lane),
            Act::Replace(pdus) => {
                let mut out = Vec::new();
                for pdu in pdus {
                    match second(Seen::Request(&pdu), lane) {
                        Act::Pass => out.push(pdu),
                        Act::Replace(pdus) => out.extend(pdus),
                    }
                }
                Act::Replace(out)
            }
        },
        Seen::Response(pdu) => match second(Seen::Response(pdu), lane) {
            Act::Pass => first(Seen::Response(pdu), lane),
            Act::Replace(pdus) => {
                let mut out = Vec::new();
                for pdu in pdus {
                    match first(Seen::Response(&pdu), lane) {
                        Act::Pass => out.push(pdu),
                        Act::Replace(pdus) => out.extend(pdus),
                    }
                }
                Act::Replace(out)
            }
        },
        Seen::TargetClosed => Act::Pass,
    })
}

/// A fault that only one connection meets; the first one has number 1.
pub(crate) fn on_lane(number: usize, mut saboteur: Saboteur) -> Saboteur {
    Box::new(move |seen, lane| {
        if lane.number == number {
            saboteur(seen, lane)
        } else {
            Act::Pass
        }
    })
}

/// The status that a PDU brings, if it brings one.
pub(crate) fn status(pdu: &Pdu) -> Option<u8> {
    match &pdu.header {
        Header::ScsiResponse(response) => Some(response.status),
        Header::DataIn(data) if data.flags & STATUS != 0 => Some(data.status),
        _ => None,
    }
}

/// Makes it GOOD, if it brings a status.
pub(crate) fn good(pdu: &mut Pdu) {
    end(pdu, 0, Bytes::new());
}

/// Makes it RESERVATION CONFLICT, if it brings a status.
pub(crate) fn conflict(pdu: &mut Pdu) {
    end(pdu, 0x18, Bytes::new());
}

/// Makes it CHECK CONDITION, if it brings a status.
pub(crate) fn fail(pdu: &mut Pdu, key: u8, asc: u8, ascq: u8) {
    fail_with(pdu, key, asc, ascq, None);
}

/// Makes it CHECK CONDITION with INFORMATION, if it brings a status.
pub(crate) fn fail_with(pdu: &mut Pdu, key: u8, asc: u8, ascq: u8, information: Option<u32>) {
    let valid = if information.is_some() { 0x80 } else { 0 };
    let [a, b, c, d] = information.unwrap_or(0).to_be_bytes();
    let sense = [
        0,
        18,
        0x70 | valid,
        0,
        key,
        a,
        b,
        c,
        d,
        10,
        0,
        0,
        0,
        0,
        asc,
        ascq,
        0,
        0,
        0,
        0,
    ];
    end(pdu, 2, Bytes::copy_from_slice(&sense));
}

/// A byte of the data that a PDU carries becomes another one.
pub(crate) fn spoil(data: &mut Bytes, at: usize) {
    let mut bytes = data.to_vec();
    if let Some(byte) = bytes.get_mut(at) {
        *byte = !*byte;
    }
    *data = bytes.into();
}

/// Bytes of the data that a PDU carries become these.
pub(crate) fn patch(data: &mut Bytes, at: usize, with: &[u8]) {
    let mut bytes = data.to_vec();
    if let Some(place) = bytes.get_mut(at..at + with.len()) {
        place.copy_from_slice(with);
    }
    *data = bytes.into();
}

/// Ends the command with a SCSI Response, whatever it was that brought the status.
fn end(pdu: &mut Pdu, status: u8, sense: Bytes) {
    let response = match &pdu.header {
        Header::ScsiResponse(response) => *response,
        Header::DataIn(data) if data.flags & STATUS != 0 => from_data(data),
        _ => return,
    };
    let response = ScsiResponse {
        flags: FINAL,
        status,
        residual_count: 0.into(),
        ..response
    };
    *pdu = Pdu::new(response, sense);
}

fn from_data(data: &DataIn) -> ScsiResponse {
    ScsiResponse {
        initiator_task_tag: data.initiator_task_tag,
        stat_sn: data.stat_sn,
        exp_cmd_sn: data.exp_cmd_sn,
        max_cmd_sn: data.max_cmd_sn,
        ..ScsiResponse::default()
    }
}

fn answers(pdu: &Pdu) -> bool {
    matches!(pdu.header, Header::ScsiResponse(_) | Header::DataIn(_))
}

fn tag(pdu: &Pdu) -> u32 {
    pdu.header.common().initiator_task_tag.get()
}
