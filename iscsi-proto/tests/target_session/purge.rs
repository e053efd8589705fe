//! What other nexuses do to this session: their resets and preemptions take its tasks away (RFC 7143 §4.2.3.3).

use std::collections::{BTreeMap, BTreeSet};

use iscsi_proto::scsi::Status;
use iscsi_proto::session::{Response, TargetEvent, TaskId};
use iscsi_proto::wire::lun::Lun;
use proptest::prelude::{Strategy, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest};
use proptest::test_runner::TestCaseError;

use crate::harness::{
    EAGER, Heard, NO_TAG, PATIENT, Say, Wire, data_out, manage, ping, read, write,
};

/// The unit with this number, in peripheral device addressing.
fn unit(number: u64) -> Lun {
    Lun(number << 48)
}

/// RFC 7143 §4.2.3.3: tasks that another initiator's reset ended are never answered; the others go on.
#[test]
fn what_another_nexus_ended_is_never_answered() {
    let mut wire = Wire::logged_in(EAGER);
    wire.say(&read(1, 100, 512));
    wire.say(&read(2, 101, 512).lun(1));
    let (gone, kept) = (wire.command().task, wire.command().task);
    assert_eq!(wire.session.purge(Some(unit(0))), [gone]);
    assert!(wire.hear().is_empty() && wire.event().is_none());
    wire.good(gone);
    assert!(wire.hear().is_empty());
    wire.good(kept);
    let heard = wire.hear_one();
    assert_eq!(
        (heard.tag(), heard.word(28), heard.word(32)),
        (2, 102, 105),
        "both places are free"
    );
    assert!(wire.session.purge(None).is_empty());
    assert_eq!(wire.session.stats().aborted, 1);
}

/// RFC 7143 §4.2.3.3: data for purged tasks may still be on its way; it is no error, and nobody waits for it.
#[test]
fn data_for_a_purged_task_is_swallowed() {
    let mut wire = Wire::logged_in(PATIENT);
    wire.say(&write(1, 100, 16_384, true, b""));
    let task = wire.command().task;
    wire.session.receive(task, 16_384);
    let transfers: Vec<u32> = wire.hear().iter().map(|r2t| r2t.word(20)).collect();
    assert_eq!(transfers.len(), 2);
    assert_eq!(wire.session.purge(None), [task]);
    // With no other answer due, the initiator hears of its place.
    assert_eq!(wire.hear_one().opcode(), 0x20);
    wire.say(&data_out(1, transfers[0], 0, 0, false, &[0; 4_096]));
    wire.say(&data_out(1, transfers[0], 1, 4_096, true, &[0; 4_096]));
    wire.say(&data_out(1, transfers[1], 0, 8_192, true, &[0; 8_192]));
    assert!(wire.hear().is_empty() && wire.event().is_none());
    let stray = data_out(1, transfers[1], 1, 0, true, &[0; 4]);
    wire.say(&stray);
    wire.hear_reject(0x09, &stray);
}

/// RFC 7143 §4.2.3.3: the same for data that was never asked for.
#[test]
fn unsolicited_data_for_a_purged_task_is_swallowed() {
    let mut wire = Wire::logged_in(EAGER);
    wire.say(&write(1, 100, 4_096, false, &[1; 1_024]));
    let task = wire.command().task;
    assert_eq!(wire.session.purge(None), [task]);
    wire.hear();
    wire.say(&data_out(1, NO_TAG, 0, 1_024, false, &[1; 1_024]));
    wire.say(&data_out(1, NO_TAG, 1, 2_048, true, &[1; 2_048]));
    assert!(wire.hear().is_empty() && wire.event().is_none());
}

/// RFC 7143 §11.6.1 c: an initiator that asks for the abort of a task that vanished hears that there is none.
#[test]
fn the_abort_of_a_purged_task_finds_no_task() {
    let mut wire = Wire::logged_in(EAGER);
    wire.say(&read(1, 100, 512));
    wire.command();
    wire.session.purge(None);
    wire.hear();
    wire.say(&manage(1, 9, 101, 1, 100));
    let heard = wire.hear_one();
    assert_eq!((heard.opcode(), heard.head[2], heard.tag()), (0x22, 1, 9));
}

/// RFC 7143 §4.2.3.3: commands that were not delivered to the unit yet are none of its tasks.
#[test]
fn a_command_that_waits_for_its_turn_is_not_purged() {
    let mut wire = Wire::logged_in(EAGER);
    wire.say(&read(2, 101, 512));
    assert!(wire.session.purge(None).is_empty());
    wire.say(&read(1, 100, 512));
    wire.command();
    wire.command();
}

/// RFC 7143 §11.4.11: when MaxCmdSN changes and no PDU is due that would carry it, a NOP-In does.
#[test]
fn an_initiator_that_waits_for_the_window_hears_that_it_opened() {
    let mut wire = Wire::logged_in(EAGER);
    wire.say(&read(9, 100, 0).byte(0, 0x41).lun(1));
    wire.command();
    for number in 0..4 {
        wire.say(&read(number, 100 + number, 0));
        wire.command();
    }
    wire.say(&ping(50, 104, b""));
    let pong = wire.hear_one();
    assert_eq!((pong.word(28), pong.word(32)), (104, 103), "closed");
    assert_eq!(wire.session.purge(Some(unit(0))).len(), 4);
    let heard = wire.hear_one();
    assert_eq!(
        (heard.opcode(), heard.head[1], heard.tag(), heard.word(20)),
        (0x20, 0x80, NO_TAG, NO_TAG),
        "a NOP-In that wants no answer"
    );
    assert_eq!(
        (heard.stat_sn(), heard.word(28), heard.word(32)),
        (pong.stat_sn() + 1, 104, 107)
    );
    assert!(heard.data.is_empty());
    wire.say(&ping(51, 104, b""));
    assert_eq!(
        wire.hear_one().stat_sn(),
        pong.stat_sn() + 1,
        "StatSN was shown, not used"
    );
}

/// What a well-behaved initiator does next, and what happens to it.
#[derive(Clone, Debug)]
enum Turn {
    Read(u8),
    /// A unit, a length, immediate bytes, and whether unsolicited data follows.
    Write(u8, u32, u32, bool),
    /// Send one Data-Out PDU of this length that is due.
    Send(usize, u32),
    Receive(usize),
    Complete(usize),
    /// Another nexus ends the tasks of a unit, or of all.
    Purge(Option<u8>),
    Window(u32),
}

fn turn() -> impl Strategy<Value = Turn> {
    let size = 1u32..12_000;
    prop_oneof![
        2 => (0u8..2).prop_map(Turn::Read),
        4 => (0u8..2, size, 0u32..2_048, any::<bool>())
            .prop_map(|(lun, length, immediate, more)| Turn::Write(lun, length, immediate, more)),
        8 => (any::<usize>(), 1u32..6_000).prop_map(|(pick, length)| Turn::Send(pick, length)),
        4 => any::<usize>().prop_map(Turn::Receive),
        3 => any::<usize>().prop_map(Turn::Complete),
        2 => prop::option::of(0u8..2).prop_map(Turn::Purge),
        1 => (1u32..9).prop_map(Turn::Window),
    ]
}

/// Data that is due from the initiator.
#[derive(Debug)]
struct Due {
    tag: u32,
    transfer: u32,
    lun: u8,
    data_sn: u32,
    offset: u32,
    end: u32,
}

/// The initiator, the driver, and what both may expect.
struct World {
    wire: Wire,
    next: u32,
    max: u32,
    open: BTreeMap<u32, u8>,
    due: Vec<Due>,
    running: Vec<(TaskId, u8, bool)>,
    received: BTreeSet<TaskId>,
    purged: BTreeSet<u32>,
}

impl World {
    fn new() -> Self {
        Self {
            wire: Wire::logged_in(EAGER),
            next: 100,
            max: 103,
            open: BTreeMap::new(),
            due: Vec::new(),
            running: Vec::new(),
            received: BTreeSet::new(),
            purged: BTreeSet::new(),
        }
    }

    /// Sends a command if the window is open; the tag is its number.
    fn command(
        &mut self,
        lun: u8,
        pdu: impl FnOnce(u32) -> Say,
    ) -> Result<Option<u32>, TestCaseError> {
        let number = self.next;
        if number > self.max {
            return Ok(None);
        }
        self.next += 1;
        self.open.insert(number, lun);
        let stats = *self.wire.session.stats();
        self.wire.say(&pdu(number).lun(lun));
        prop_assert_eq!(
            self.wire.session.stats().ignored,
            stats.ignored,
            "inside the window"
        );
        Ok(Some(number))
    }

    fn act(&mut self, turn: Turn) -> Result<(), TestCaseError> {
        match turn {
            Turn::Read(lun) => {
                self.command(lun, |number| read(number, number, 512))?;
            }
            Turn::Write(lun, length, immediate, more) => {
                let first = length.min(4_096);
                let immediate = immediate.min(first);
                let said = vec![7; immediate as usize];
                let tag =
                    self.command(lun, |number| write(number, number, length, !more, &said))?;
                if let Some(tag) = tag.filter(|_| more) {
                    self.due.push(Due {
                        tag,
                        transfer: NO_TAG,
                        lun: 0,
                        data_sn: 0,
                        offset: immediate,
                        end: first,
                    });
                }
            }
            Turn::Send(pick, length) => self.send(pick, length),
            Turn::Receive(pick) if !self.running.is_empty() => {
                let (task, _, writes) = self.running[pick % self.running.len()];
                if writes && self.received.insert(task) {
                    self.wire.session.receive(task, u32::MAX);
                }
            }
            Turn::Complete(pick) if !self.running.is_empty() => {
                let index = pick % self.running.len();
                let (task, ..) = self.running.remove(index);
                self.wire
                    .session
                    .complete(task, Response::status(Status(0x08)));
            }
            Turn::Purge(lun) => self.purge(lun)?,
            Turn::Window(commands) => self.wire.session.set_window(commands),
            Turn::Receive(_) | Turn::Complete(_) => {}
        }
        self.look()
    }

    /// An initiator answers the R2Ts of a task in order (RFC 7143 §11.8).
    fn send(&mut self, pick: usize, length: u32) {
        if self.due.is_empty() {
            return;
        }
        let tag = self.due[pick % self.due.len()].tag;
        let Some(index) = self.due.iter().position(|due| due.tag == tag) else {
            return;
        };
        let due = &mut self.due[index];
        let length = length.min(due.end - due.offset);
        let last = due.offset + length == due.end;
        let data = vec![7; length as usize];
        let pdu = data_out(tag, due.transfer, due.data_sn, due.offset, last, &data).lun(due.lun);
        due.data_sn += 1;
        due.offset += length;
        if last {
            self.due.remove(index);
        }
        self.wire.say(&pdu);
    }

    fn purge(&mut self, lun: Option<u8>) -> Result<(), TestCaseError> {
        let known = self.wire.session.purge(lun.map(|lun| unit(lun.into())));
        let is_hit = |of: u8| lun.is_none_or(|lun| lun == of);
        let (hit, kept): (Vec<_>, Vec<_>) =
            self.running.drain(..).partition(|&(_, of, _)| is_hit(of));
        let hit: BTreeSet<TaskId> = hit.into_iter().map(|(task, ..)| task).collect();
        self.running = kept;
        prop_assert_eq!(known.into_iter().collect::<BTreeSet<_>>(), hit);
        for (&tag, _) in self.open.iter().filter(|&(_, &of)| is_hit(of)) {
            self.purged.insert(tag);
        }
        self.open.retain(|_, of| !is_hit(*of));
        Ok(())
    }

    fn look(&mut self) -> Result<(), TestCaseError> {
        while let Some(event) = self.wire.event() {
            match event {
                TargetEvent::Command(command) => {
                    let lun = u8::try_from(command.lun.0 >> 48).unwrap();
                    self.running.push((command.task, lun, command.writes));
                }
                TargetEvent::DataReady { task, .. } => {
                    prop_assert!(self.running.iter().any(|(running, ..)| *running == task));
                }
                other => prop_assert!(false, "{:?}", other),
            }
        }
        for heard in self.wire.hear() {
            self.hear(heard)?;
        }
        Ok(())
    }

    fn hear(&mut self, heard: Heard) -> Result<(), TestCaseError> {
        prop_assert!(heard.word(32) >= self.max, "MaxCmdSN never goes back");
        self.max = heard.word(32);
        prop_assert!(self.max + 1 >= heard.word(28), "MaxCmdSN >= ExpCmdSN - 1");
        match heard.opcode() {
            0x21 => {
                let answered = self.open.remove(&heard.tag());
                prop_assert!(
                    answered.is_some(),
                    "{} is answered once, and was not purged",
                    heard.tag()
                );
            }
            0x31 => {
                prop_assert!(!self.purged.contains(&heard.tag()));
                self.due.push(Due {
                    tag: heard.tag(),
                    transfer: heard.word(20),
                    lun: heard.head[9],
                    data_sn: 0,
                    offset: heard.word(40),
                    end: heard.word(40) + heard.word(44),
                });
            }
            0x20 => prop_assert_eq!((heard.tag(), heard.word(20)), (NO_TAG, NO_TAG)),
            other => prop_assert!(
                false,
                "{:02x}: a well-behaved initiator is never rejected",
                other
            ),
        }
        Ok(())
    }

    /// Everything that is due comes, every command ends.
    fn finish(&mut self) -> Result<(), TestCaseError> {
        while !self.due.is_empty() || !self.running.is_empty() {
            self.act(Turn::Send(0, u32::MAX))?;
            self.act(Turn::Complete(0))?;
        }
        prop_assert!(self.open.is_empty(), "unanswered: {:?}", self.open);
        self.wire.session.set_window(4);
        self.look()?;
        self.wire.say(&ping(NO_TAG - 1, self.next, b"end"));
        let heard = self.wire.hear_one();
        prop_assert_eq!((heard.opcode(), heard.word(28)), (0x20, self.next));
        prop_assert!(
            heard.word(32) >= self.next + 3,
            "every place was given back"
        );
        Ok(())
    }
}

proptest! {
    /// RFC 7143 §4.2.3.3: whatever others end meanwhile, each command is answered once or was purged, nothing that
    /// comes late is an error, and no place of the window is lost.
    #[test]
    fn whoever_ends_its_tasks_a_session_stays_whole(turns in prop::collection::vec(turn(), 0..150)) {
        let mut world = World::new();
        for turn in turns {
            world.act(turn)?;
        }
        world.finish()?;
    }
}
