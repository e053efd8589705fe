//! An initiator that knows the shape of PDUs and nothing else. Whatever it says, the session keeps its promises.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use iscsi_proto::scsi::Status;
use iscsi_proto::session::{AsyncNotice, ManagementAnswer, Response, TargetEvent, TaskId};
use iscsi_proto::wire::lun::Lun;
use proptest::prelude::{
    Just, Strategy, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest,
};
use proptest::test_runner::TestCaseError;

use crate::harness::{EAGER, Heard, NO_TAG, PATIENT, Say, Wire};

/// Small numbers, so that tags and numbers meet.
fn near(base: u32) -> impl Strategy<Value = u32> {
    prop_oneof![8 => (0u32..8).prop_map(move |n| base.wrapping_add(n)), 1 => Just(NO_TAG), 1 => any::<u32>()]
}

fn pdu() -> impl Strategy<Value = Say> {
    let opcode = prop_oneof![
        6 => Just(0x01u8), 2 => Just(0x41), 6 => Just(0x05), 2 => Just(0x00), 2 => Just(0x40),
        2 => Just(0x42), 1 => Just(0x02), 2 => Just(0x04), 1 => Just(0x44), 1 => any::<u8>(),
    ];
    let flags = prop_oneof![4 => Just(0x80u8), 2 => Just(0xa1), 2 => Just(0x21), 2 => Just(0xc1), 3 => any::<u8>()];
    let length = prop_oneof![4 => Just(0usize), 2 => 0usize..64, 1 => 0usize..5_000];
    let words = (near(0), near(0), near(98), near(0), near(0), near(0));
    (opcode, flags, 0u8..3, words, length).prop_map(
        |(opcode, flags, lun, (tag, w20, cmd_sn, w32, w36, w40), length)| {
            let w20 = if opcode & 0x3f == 0x01 {
                w20.wrapping_mul(1_000) & 0x3fff
            } else {
                w20
            };
            Say::new(opcode, flags, tag)
                .lun(lun)
                .word(20, w20)
                .cmd_sn(cmd_sn)
                .word(32, w32)
                .word(36, w36)
                .word(40, w40 & 0x1fff)
                .data(&vec![b'x'; length])
        },
    )
}

#[derive(Clone, Debug)]
enum Turn {
    Say(Say),
    /// Answer a data request as it was meant, if there is one.
    Honour,
    Complete(usize),
    Receive(usize, u32),
    Manage(usize),
    Pass(u64),
    /// Another nexus ends the tasks of a unit, or of all.
    Purge(Option<u64>),
    Window(u32),
    /// A SCSI event of a unit.
    Notify(u64),
}

fn turn() -> impl Strategy<Value = Turn> {
    prop_oneof![
        10 => pdu().prop_map(Turn::Say),
        3 => Just(Turn::Honour),
        4 => any::<usize>().prop_map(Turn::Complete),
        4 => (any::<usize>(), 0u32..20_000).prop_map(|(pick, length)| Turn::Receive(pick, length)),
        2 => any::<usize>().prop_map(Turn::Manage),
        1 => (0u64..5).prop_map(Turn::Pass),
        1 => prop::option::of(0u64..3).prop_map(Turn::Purge),
        1 => (0u32..5).prop_map(Turn::Window),
        1 => (0u64..3).prop_map(Turn::Notify),
    ]
}

/// What the other side of the wire can see, and what it may expect of it.
#[derive(Default)]
struct Watch {
    stat_sn: Option<u32>,
    window: Option<(u32, u32)>,
    /// Commands that were said, less those that were answered, by tag.
    open: BTreeMap<u32, i64>,
    running: Vec<TaskId>,
    management: Vec<TaskId>,
    requests: Vec<Heard>,
    closed: bool,
}

impl Watch {
    fn hear(&mut self, heard: Heard) -> Result<(), TestCaseError> {
        let (expected, max) = (heard.word(28), heard.word(32));
        prop_assert!(
            max.wrapping_sub(expected).wrapping_add(1) <= 4,
            "MaxCmdSN >= ExpCmdSN - 1, within the depth"
        );
        if let Some((old_expected, old_max)) = self.window {
            prop_assert!(
                expected.wrapping_sub(old_expected) < 1 << 16
                    && max.wrapping_sub(old_max) < 1 << 16
            );
        }
        self.window = Some((expected, max));
        let has_status = heard.opcode() != 0x25 || heard.head[1] & 0x01 != 0;
        let advances = has_status
            && heard.opcode() != 0x31
            && (heard.opcode() != 0x20 || heard.tag() != NO_TAG);
        if let (Some(next), true) = (self.stat_sn, has_status) {
            prop_assert_eq!(heard.stat_sn(), next, "StatSN has no gaps");
        }
        if advances {
            self.stat_sn = Some(heard.stat_sn().wrapping_add(1));
        }
        match heard.opcode() {
            0x21 => self.answered(heard.tag())?,
            0x25 if has_status => self.answered(heard.tag())?,
            0x31 => {
                prop_assert!(
                    heard.word(44) > 0 && heard.word(44) <= 8_192 && heard.word(20) != NO_TAG
                );
                self.requests.push(heard);
            }
            _ => {}
        }
        Ok(())
    }

    fn answered(&mut self, tag: u32) -> Result<(), TestCaseError> {
        let open = self.open.entry(tag).or_default();
        *open -= 1;
        prop_assert!(*open >= 0, "no command is answered twice");
        Ok(())
    }

    fn event(&mut self, event: TargetEvent) {
        match event {
            TargetEvent::Command(command) => self.running.push(command.task),
            TargetEvent::Management { task, affected, .. } => {
                self.running.retain(|running| !affected.contains(running));
                self.management.push(task);
            }
            TargetEvent::Aborted(tasks) => self.running.retain(|running| !tasks.contains(running)),
            TargetEvent::Closed(_) => self.closed = true,
            _ => {}
        }
    }
}

fn act(wire: &mut Wire, watch: &mut Watch, turn: Turn) {
    match turn {
        Turn::Say(pdu) => {
            if pdu.head[0] & 0x3f == 0x01 {
                let tag = u32::from_be_bytes(pdu.head[16..20].try_into().unwrap());
                *watch.open.entry(tag).or_default() += 1;
            }
            wire.say(&pdu);
        }
        Turn::Honour => {
            if let Some(r2t) = watch.requests.pop() {
                let data = vec![b'y'; r2t.word(44) as usize];
                let pdu = Say::new(0x05, 0x80, r2t.tag())
                    .word(20, r2t.word(20))
                    .word(40, r2t.word(40))
                    .data(&data);
                wire.say(&pdu.lun(r2t.head[9]));
            }
        }
        Turn::Complete(pick) if !watch.running.is_empty() => {
            let task = watch.running.remove(pick % watch.running.len());
            let data = vec![Bytes::from(vec![b'z'; pick % 6_000])];
            let status = if pick % 3 == 0 {
                Status(0x08)
            } else {
                Status(0x00)
            };
            wire.session.complete(
                task,
                Response {
                    status,
                    ..Response::read(data)
                },
            );
        }
        Turn::Receive(pick, length) if !watch.running.is_empty() => {
            wire.session
                .receive(watch.running[pick % watch.running.len()], length);
        }
        Turn::Manage(pick) if !watch.management.is_empty() => {
            let task = watch.management.remove(pick % watch.management.len());
            wire.session
                .answer_management(task, ManagementAnswer::Complete);
        }
        Turn::Purge(unit) => {
            let gone = wire.session.purge(unit.map(|number| Lun(number << 48)));
            watch.running.retain(|running| !gone.contains(running));
        }
        Turn::Window(commands) => wire.session.set_window(commands),
        Turn::Notify(unit) => wire.session.notify(AsyncNotice::Scsi {
            lun: Lun(unit << 48),
            sense: Bytes::from_static(&[0x70, 0, 0x06, 0, 0, 0, 0, 10]),
        }),
        Turn::Pass(seconds) => wire.pass(Duration::from_secs(seconds)),
        Turn::Complete(_) | Turn::Receive(..) | Turn::Manage(_) => {}
    }
}

proptest! {
    /// RFC 7143 §4.2.2: StatSN has no gaps, MaxCmdSN never goes back, no command is answered twice, whatever is said.
    #[test]
    fn whatever_is_said_the_numbers_hold(
        keys in prop_oneof![Just(EAGER), Just(PATIENT), Just("SessionType=Discovery")],
        turns in prop::collection::vec(turn(), 0..120),
    ) {
        let mut wire = Wire::logged_in(keys);
        let mut watch = Watch::default();
        for turn in turns {
            act(&mut wire, &mut watch, turn);
            while let Some(event) = wire.event() {
                prop_assert!(!watch.closed, "nothing happens after the end");
                if let TargetEvent::Command(command) = &event {
                    prop_assert!(!watch.running.contains(&command.task));
                }
                watch.event(event);
            }
            for heard in wire.hear() {
                watch.hear(heard)?;
            }
            prop_assert_eq!(watch.closed, wire.session.is_closed());
        }
    }

    /// RFC 7143 §7.7: what cannot be cut into PDUs ends the connection and nothing else.
    #[test]
    fn bytes_without_shape_harm_nobody(bytes in prop::collection::vec(any::<u8>(), 0..2_000), cut in 1usize..200) {
        let mut wire = Wire::logged_in(EAGER);
        for part in bytes.chunks(cut) {
            wire.say_bytes(part);
            while wire.event().is_some() {}
            wire.hear();
        }
    }
}
