//! Which lists are orders, and whom TransportIDs mean.

use iscsi_proto::scsi::ReserveOut;
use iscsi_proto::scsi::persistent::{MoveList, OutList, TransportId};

use super::{Fields, Order, order};
use crate::failure::Failure;
use crate::reservations::testing::{nexus, register, register_others, reserve};
use crate::sessions::ItNexus;

/// The port of nexus 2 is the only one of its initiator, 3 has two of them.
fn known(id: &TransportId) -> Vec<ItNexus> {
    let mut second = nexus(3);
    second.isid[5] = 0x77;
    match id {
        TransportId::Device(name) => [nexus(2), nexus(3), second]
            .into_iter()
            .filter(|nexus| nexus.initiator == *name)
            .collect(),
        TransportId::Port(name, isid) => vec![ItNexus {
            initiator: name.clone(),
            isid: *isid,
            relative_port: 1,
        }],
    }
}

fn fields(action: ReserveOut) -> Fields {
    Fields {
        action,
        scope: 0,
        kind: 1,
    }
}

fn parse(action: ReserveOut, list: &[u8]) -> Result<Order, Vec<u8>> {
    parse_as(fields(action), list)
}

fn parse_as(fields: Fields, list: &[u8]) -> Result<Order, Vec<u8>> {
    order(fields, list, &nexus(1), known).map_err(|failure| match failure {
        Failure::Check(sense) => sense.to_fixed_bytes()[12..].to_vec(),
        other => panic!("{other:?}"),
    })
}

fn device(number: u8) -> TransportId {
    TransportId::Device(nexus(number).initiator)
}

fn port(number: u8) -> TransportId {
    TransportId::Port(nexus(number).initiator, nexus(number).isid)
}

fn registering(initiators: &[TransportId]) -> OutList {
    OutList {
        action_key: 5,
        initiators: Some(initiators.to_vec()),
        ..OutList::default()
    }
}

fn moving(initiator: TransportId) -> MoveList {
    MoveList {
        key: 1,
        action_key: 2,
        unregister: false,
        persist: false,
        relative_port: 1,
        initiator,
    }
}

#[test]
fn lists_become_orders() {
    let list = OutList {
        key: 7,
        action_key: 8,
        ..OutList::default()
    };
    let list = list.build();
    assert_eq!(parse(ReserveOut::Register, &list), Ok(register(7, 8)));
    let write_exclusive = iscsi_proto::scsi::persistent::ReservationType::WriteExclusive;
    assert_eq!(
        parse(ReserveOut::Reserve, &list),
        Ok(reserve(7, write_exclusive))
    );
    assert_eq!(parse(ReserveOut::Clear, &list), Ok(Order::Clear { key: 7 }));
    assert_eq!(
        parse(ReserveOut::PreemptAndAbort, &list),
        Ok(Order::Preempt {
            key: 7,
            victims: 8,
            kind: Ok(write_exclusive),
            abort: true,
        })
    );
}

/// SPC-4 §6.16.2: only the logical unit can be reserved, in one of six ways. Who does not reserve may say anything.
#[test]
fn scopes_and_types() {
    let list = OutList::default().build();
    for (scope, kind, bit) in [
        (1, 1, 0xcf),
        (2, 1, 0xcf),
        (0, 0, 0xcb),
        (0, 2, 0xcb),
        (0, 9, 0xcb),
    ] {
        let fields = |action| Fields {
            action,
            scope,
            kind,
        };
        let Ok(Order::Reserve {
            kind: Err(sense), ..
        }) = parse_as(fields(ReserveOut::Reserve), &list)
        else {
            panic!("{scope} {kind}");
        };
        assert_eq!(sense.to_fixed_bytes()[12..], [0x24, 0, 0, bit, 0, 2]);
        assert!(parse_as(fields(ReserveOut::Register), &list).is_ok());
    }
}

/// SPC-4 §7.6.4.6: a name without ISID is all ports of the initiator that are known.
#[test]
fn whom_a_transport_id_means() {
    let list = registering(&[port(9), device(2)]).build();
    let order = parse(ReserveOut::Register, &list);
    assert_eq!(order, Ok(register_others(0, 5, &[9, 2])));
    let Ok(Order::Register(both)) = parse(ReserveOut::Register, &registering(&[device(3)]).build())
    else {
        panic!();
    };
    assert_eq!(both.others.map(|others| others.len()), Some(2));
    let nobody = parse(ReserveOut::Register, &registering(&[device(9)]).build());
    assert_eq!(nobody, Err(vec![0x26, 0, 0, 0x8f, 0, 24]));
}

/// SPC-4 §6.16.3: SPEC_I_PT goes with REGISTER only.
#[test]
fn others_cannot_be_named_elsewhere() {
    let list = registering(&[port(2)]).build();
    for action in [
        ReserveOut::Reserve,
        ReserveOut::Release,
        ReserveOut::Clear,
        ReserveOut::Preempt,
        ReserveOut::PreemptAndAbort,
        ReserveOut::RegisterAndIgnore,
    ] {
        assert_eq!(parse(action, &list), Err(vec![0x26, 0, 0, 0x8b, 0, 20]));
    }
}

#[test]
fn where_a_reservation_moves() {
    let mut list = moving(port(9));
    let Ok(Order::Move(order)) = parse(ReserveOut::RegisterAndMove, &list.build()) else {
        panic!();
    };
    assert_eq!((order.key, order.new_key, order.to), (1, 2, nexus(9)));
    assert!(parse(ReserveOut::RegisterAndMove, &moving(device(2)).build()).is_ok());
    for unclear in [device(3), device(9)] {
        let refused = parse(ReserveOut::RegisterAndMove, &moving(unclear).build());
        assert_eq!(refused, Err(vec![0x26, 0, 0, 0x8f, 0, 24]));
    }
    list.relative_port = 2;
    let refused = parse(ReserveOut::RegisterAndMove, &list.build());
    assert_eq!(refused, Err(vec![0x26, 0, 0, 0x8f, 0, 18]));
}
