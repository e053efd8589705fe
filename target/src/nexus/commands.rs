//! SCSI commands: what may begin, what is answered at once, and how every answer is counted.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use iscsi_proto::scsi::{Command, Sense, SenseData, Status, luns};
use iscsi_proto::session::{self, Response, TargetSession, TaskId};
use iscsi_proto::wire::lun::Lun;
use vmthunder_volume::{Volume, join};

use super::Nexus;
use crate::failure::Failure;
use crate::inquiry;
use crate::metrics::Counters;
use crate::tasks::{Outcome, Work};

/// What becomes of a command that has arrived.
enum Next<V> {
    Answer(Response),
    /// It is queued, and needs so many bytes of write data.
    Queue(Work<V>, u32),
}

impl<V: Volume> Nexus<V> {
    /// A command has arrived: answer it, or queue it.
    pub(super) fn begin(&mut self, command: &session::Command, now: Instant) {
        self.look_around(command.lun, now);
        // Another session gives its order before it raises a condition. So who is told of the condition has lost what
        // it sent before, and loses nothing of what it sends then.
        if self.is_alarmed() {
            self.carry_out_orders();
        }
        if self.purged.contains(&command.task) {
            return;
        }
        let outcome = match self.prepare(command) {
            Ok(Next::Queue(work, length)) => return self.tasks.queue(work, length, now),
            Ok(Next::Answer(response)) => Ok(response),
            Err(failure) => Err(failure),
        };
        let counters = &self.target.counters;
        conclude(&mut self.session, counters, command.task, outcome, true);
    }

    /// The units of the export may have changed, and the session may use one that it did not use before.
    fn look_around(&mut self, lun: Lun, now: Instant) {
        let asker = self.seat.as_mut().and_then(|seat| seat.asker.as_mut());
        let Some(asker) = asker else {
            return;
        };
        if let Some(renewed) = asker.renewed() {
            *asker = Arc::new(renewed);
        }
        if let Some(unit) = asker.unit(lun) {
            self.tasks.know(unit.unit.number, now);
        }
    }

    /// There is something to tell the initiator.
    fn is_alarmed(&self) -> bool {
        self.seat
            .as_ref()
            .is_some_and(|seat| seat.attention.is_pending())
    }

    fn prepare(&self, arrived: &session::Command) -> Result<Next<V>, Failure> {
        let Some((seat, asker)) = self
            .seat
            .as_ref()
            .and_then(|seat| Some((seat, seat.asker.as_ref()?)))
        else {
            return Err(Sense::LOGICAL_UNIT_NOT_SUPPORTED.into());
        };
        let command = Command::parse(&arrived.cdb);
        if let Ok(Command::ReportLuns { select, allocation }) = command {
            // Who reads the list knows that it has changed (SPC-4 §6.33).
            seat.attention.forget(Sense::REPORTED_LUNS_CHANGED);
            return report_luns(asker.units.keys().copied(), select, allocation).map(Next::Answer);
        }
        let Some(unit) = asker.unit(arrived.lun) else {
            // Even an unknown command is answered with the unit's absence (SAM-5 §5.11).
            let command = command.unwrap_or(Command::TestUnitReady);
            return inquiry::answer_without_unit(&command).map(Next::Answer);
        };
        let number = unit.unit.number;
        match command {
            Ok(Command::Inquiry { .. }) => {}
            Ok(Command::RequestSense {
                descriptor,
                allocation,
            }) => {
                let attention = seat.attention.take(number);
                let sense = attention.map_or_else(|| unit.condition(), SenseData::from);
                return Ok(Next::Answer(inquiry::sense(sense, descriptor, allocation)));
            }
            _ => {
                let conflicts = || {
                    let admitted = command.as_ref().map(|command| unit.admit(command, asker));
                    admitted == Ok(Err(Failure::Conflict))
                };
                if let Some(sense) = seat.attention.take_unless(number, conflicts) {
                    return Err(unit.spoken(sense.into()));
                }
            }
        }
        let command = command.map_err(|sense| unit.spoken(sense.into()))?;
        unit.admit(&command, asker)?;
        let length = unit.data_out_bytes(&command, arrived.expected_length)?;
        let work = Work {
            task: arrived.task,
            asker: Arc::clone(asker),
            lun: arrived.lun,
            unit: number,
            command,
        };
        Ok(Next::Queue(work, length))
    }

    pub(super) fn data_ready(&mut self, task: TaskId, data: Vec<Bytes>) {
        let data = join(data);
        Counters::add(
            &self.target.counters.written_bytes,
            u64::try_from(data.len()).unwrap_or(0),
        );
        self.tasks.data_ready(task, data);
    }
}

/// Answers a command; `alone` if its initiator waits for no other command of the unit.
pub(super) fn conclude(
    session: &mut TargetSession,
    counters: &Counters,
    task: TaskId,
    outcome: Outcome,
    alone: bool,
) {
    let response = outcome.unwrap_or_else(|failure| failure.response(alone));
    Counters::add(&counters.commands, 1);
    if response.status != Status::GOOD {
        Counters::add(&counters.failures, 1);
    }
    if response.status == Status::RESERVATION_CONFLICT {
        Counters::add(&counters.reservation_conflicts, 1);
    }
    let read: usize = response.data.iter().map(Bytes::len).sum();
    Counters::add(&counters.read_bytes, u64::try_from(read).unwrap_or(0));
    session.complete(task, response);
}

fn report_luns(
    numbers: impl Iterator<Item = u16>,
    select: u8,
    allocation: u32,
) -> Result<Response, Failure> {
    let luns: Vec<u64> = match select {
        // Units and well known units; the latter do not exist here (SPC-4 table 223).
        0x00 | 0x02 => numbers.map(|number| Lun::from_number(number).0).collect(),
        0x01 => Vec::new(),
        _ => return Err(Sense::INVALID_FIELD_IN_CDB.into()),
    };
    Ok(inquiry::cut(luns::build(&luns), allocation))
}
