//! Targets that break the rules of `notices`.

use bytes::Bytes;
use iscsi_proto::wire::bhs::{AsyncMessage, FINAL, RESERVED_TAG};
use iscsi_proto::wire::{Header, Pdu};

use crate::broken::{Act, Fault, Kind, Lane, Saboteur, Seen};

pub(crate) const FAULTS: &[Fault] = &[
    fault(
        "notices.reinstatement",
        "a drop is announced for another connection",
        || {
            parting(|message, _| {
                message.async_event = 2;
                message.parameter_1 = 9.into();
            })
        },
    ),
    fault(
        "notices.reinstatement",
        "an event that there is not",
        || parting(|message, _| message.async_event = 6),
    ),
    fault(
        "notices.reinstatement",
        "tasks end in a way that nobody agreed to",
        || parting(|message, _| message.async_event = 5),
    ),
    fault("notices.reinstatement", "a message has a task tag", || {
        parting(|message, _| message.initiator_task_tag = 3.into())
    }),
    fault(
        "notices.reinstatement",
        "a message has no StatSN of its own",
        || parting(|message, _| message.stat_sn = message.stat_sn.get().wrapping_sub(1).into()),
    ),
    fault(
        "notices.reinstatement",
        "an iSCSI event has sense data",
        || parting(|_, data| *data = Bytes::from_static(&[0, 4, 0x70, 0, 6, 0])),
    ),
    fault(
        "notices.unit-reset",
        "a SCSI event has no sense data",
        || ahead_of_echoes(|message, _| message.async_event = 0),
    ),
    fault(
        "notices.unit-reset",
        "a message has a code for vendors",
        || ahead_of_echoes(|message, _| message.async_vcode = 1),
    ),
    fault(
        "notices.discovery",
        "discovery sessions are told of their end",
        || parting(|_, _| {}),
    ),
];

const fn fault(trips: &'static str, name: &'static str, saboteur: fn() -> Saboteur) -> Fault {
    Fault {
        name,
        trips,
        behind: Kind::Plain,
        saboteur,
    }
}

/// A Session Drop Notification, changed.
fn message(lane: &Lane, edit: fn(&mut AsyncMessage, &mut Bytes)) -> Pdu {
    let (stat_sn, exp_cmd_sn, max_cmd_sn) = lane.numbers;
    let mut message = AsyncMessage {
        flags: FINAL,
        initiator_task_tag: RESERVED_TAG.into(),
        stat_sn: stat_sn.wrapping_add(1).into(),
        exp_cmd_sn: exp_cmd_sn.into(),
        max_cmd_sn: max_cmd_sn.into(),
        async_event: 3,
        ..AsyncMessage::default()
    };
    let mut data = Bytes::new();
    edit(&mut message, &mut data);
    Pdu::new(message, data)
}

/// Says this before a connection closes.
fn parting(edit: fn(&mut AsyncMessage, &mut Bytes)) -> Saboteur {
    Box::new(move |seen, lane| {
        if matches!(seen, Seen::TargetClosed) {
            let message = message(lane, edit);
            lane.to_initiator(message);
        }
        Act::Pass
    })
}

/// Says this before each answer to a ping.
fn ahead_of_echoes(edit: fn(&mut AsyncMessage, &mut Bytes)) -> Saboteur {
    Box::new(move |seen, lane| match seen {
        Seen::Response(pdu) if matches!(pdu.header, Header::NopIn(_)) => {
            Act::Replace(vec![message(lane, edit), pdu.clone()])
        }
        _ => Act::Pass,
    })
}
