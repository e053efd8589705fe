//! From a PERSISTENT RESERVE OUT command and its parameter list to an order (SPC-4 §6.16).

use iscsi_proto::scsi::persistent::{MoveList, OutList, ReservationType, TransportId};
use iscsi_proto::scsi::{ReserveOut, SenseData};

use super::order::{Kind, Moving, Order, Registering};
use crate::failure::Failure;
use crate::sessions::ItNexus;

/// The fields of the command.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields {
    pub(super) action: ReserveOut,
    pub(super) scope: u8,
    pub(super) kind: u8,
}

/// Reads the order of `nexus`. `known` tells which ports of an initiator there are at the port of `nexus`, which is the
/// only port that the unit is behind.
pub(super) fn order(
    fields: Fields,
    list: &[u8],
    nexus: &ItNexus,
    known: impl Fn(&TransportId) -> Vec<ItNexus>,
) -> Result<Order, Failure> {
    if fields.action == ReserveOut::RegisterAndMove {
        return moving(&MoveList::parse(list)?, nexus, known).map(Order::Move);
    }
    let list = OutList::parse(list)?;
    if list.initiators.is_some() && fields.action != ReserveOut::Register {
        return Err(SenseData::list_field(LIST_FLAGS, 3).into());
    }
    let (key, action_key) = (list.key, list.action_key);
    let kind = kind(fields);
    let preempt = |abort| Order::Preempt {
        key,
        victims: action_key,
        kind,
        abort,
    };
    Ok(match fields.action {
        ReserveOut::Reserve => Order::Reserve { key, kind },
        ReserveOut::Release => Order::Release { key, kind },
        ReserveOut::Clear => Order::Clear { key },
        ReserveOut::Preempt => preempt(false),
        ReserveOut::PreemptAndAbort => preempt(true),
        ReserveOut::Register | ReserveOut::RegisterAndIgnore | ReserveOut::RegisterAndMove => {
            Order::Register(Registering {
                key: (fields.action == ReserveOut::Register).then_some(key),
                new_key: action_key,
                others: others(list.initiators.as_deref(), known)?,
                persist: list.persist,
            })
        }
    })
}

/// Whom TransportIDs mean. One that means nobody is refused: its owner would believe to be registered.
fn others(
    ids: Option<&[TransportId]>,
    known: impl Fn(&TransportId) -> Vec<ItNexus>,
) -> Result<Option<Vec<ItNexus>>, Failure> {
    let Some(ids) = ids else {
        return Ok(None);
    };
    let mut others = Vec::new();
    for id in ids {
        let found = known(id);
        if found.is_empty() {
            return Err(SenseData::list_field(LIST_INITIATORS, 7).into());
        }
        others.extend(found);
    }
    Ok(Some(others))
}

fn moving(
    list: &MoveList,
    nexus: &ItNexus,
    known: impl Fn(&TransportId) -> Vec<ItNexus>,
) -> Result<Moving, Failure> {
    if list.relative_port != nexus.relative_port {
        return Err(SenseData::list_field(LIST_MOVE_PORT, 7).into());
    }
    // A reservation has one holder, so it has to be clear whom the TransportID means.
    let Ok([to]) = <[ItNexus; 1]>::try_from(known(&list.initiator)) else {
        return Err(SenseData::list_field(LIST_MOVE_ID, 7).into());
    };
    Ok(Moving {
        key: list.key,
        new_key: list.action_key,
        to,
        unregister: list.unregister,
        persist: list.persist,
    })
}

fn kind(fields: Fields) -> Kind {
    if fields.scope != SCOPE_LOGICAL_UNIT {
        return Err(SenseData::cdb_field(CDB_SCOPE_AND_TYPE, 7));
    }
    ReservationType::from_code(fields.kind)
        .ok_or_else(|| SenseData::cdb_field(CDB_SCOPE_AND_TYPE, 3))
}

const SCOPE_LOGICAL_UNIT: u8 = 0;

/// Where sense data points in the command and in the parameter lists.
const CDB_SCOPE_AND_TYPE: usize = 2;
const LIST_FLAGS: usize = 20;
const LIST_INITIATORS: usize = 24;
const LIST_MOVE_PORT: usize = 18;
const LIST_MOVE_ID: usize = 24;

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
