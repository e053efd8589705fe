//! The commands of a session between their submission and their answer.

use std::time::Duration;

use iscsi_proto::scsi::Status;
use iscsi_proto::session::{Completion, Outcome, RequestId, SubmitError};
use iscsi_proto::wire::lun::Lun;
use tokio::time::Instant;

use crate::caches::{CacheWatch, is_flush};
use crate::connection::{Connection, now};
use crate::guard::{Guard, Trust};
use crate::identity::{MAX_TRIES, attention, result_of};
use crate::job::{Job, Order, Repeat};
use crate::link::Link;
use crate::options::pause;
use crate::{Error, Outage};

impl Link {
    pub(crate) fn accept_or_desert(&mut self, order: Option<Order>) {
        match order {
            Some(order) => self.accept(order),
            None => self.deserted = true,
        }
    }

    pub(crate) fn accept(&mut self, order: Order) {
        match order {
            Order::Run(job) if job.is_abandoned() => {}
            Order::Run(job) => {
                self.jobs.insert(self.next_job, job);
                self.queue.insert(self.next_job);
                self.next_job += 1;
            }
            Order::Attach { lun, reply } => self.attaching.push((lun, reply)),
            Order::Reset { lun, reply } => self.resets.push_back((lun, reply)),
            Order::Reconnect => self.gives_up = true,
            Order::Close(reply) => self.closing = Some(reply),
        }
    }

    /// Sends what waits, oldest first. Stops at a command for a unit that has to be fenced or examined before.
    pub(crate) fn submit_queue(&mut self, connection: &mut Connection) -> Option<Lun> {
        let mut from = 0;
        while let Some(&number) = self.queue.range(from..).next() {
            from = number + 1;
            let Some(job) = self.jobs.get(&number) else {
                self.queue.remove(&number);
                continue;
            };
            if job.is_abandoned() {
                self.forget(number);
                continue;
            }
            if job.is_superseded() {
                self.answer(number, Err(Error::Interrupted));
                continue;
            }
            let lun = job.request.lun;
            let flushes = is_flush(&job.request.cdb);
            let cache = self.caches.get(&lun);
            let suspect = flushes && cache.is_some_and(CacheWatch::is_suspect);
            if suspect || self.strays.contains_key(&lun) {
                return Some(lun);
            }
            match self.guards.get(&lun).map(Guard::trust) {
                Some(Trust::Doubted) => return Some(lun),
                Some(Trust::Changed) => self.answer(number, Err(Error::Changed)),
                Some(Trust::Same) | None if flushes && self.tells_of_loss(lun) => {
                    self.answer(number, Err(Error::CacheLost));
                }
                Some(Trust::Same) | None if self.follows_a_ghost(number) => {}
                Some(Trust::Same) | None => {
                    if !self.submit(connection, number) {
                        return None;
                    }
                }
            }
        }
        None
    }

    /// True once after a unit lost what it acknowledged.
    fn tells_of_loss(&mut self, lun: Lun) -> bool {
        self.caches.get_mut(&lun).is_some_and(CacheWatch::tell)
    }

    /// False if the session takes nothing now: later, after answers, or after the next login.
    fn submit(&mut self, connection: &mut Connection, number: u64) -> bool {
        let Some(job) = self.jobs.get_mut(&number) else {
            return true;
        };
        let request = job.request.clone();
        match connection
            .session
            .submit_within(now(), request, job.terms.timeout)
        {
            Ok(request) => {
                job.sent_after = self.changes;
                self.queue.remove(&number);
                self.sent.insert(request, number);
                true
            }
            Err(SubmitError::TooLong) => {
                self.answer(number, Err(Error::TooLong));
                true
            }
            Err(SubmitError::QueueFull | SubmitError::Closed | SubmitError::NotLoggedIn) => false,
        }
    }

    /// True if nobody waits any more for an older change of the same blocks, and it was sent: who gave it up must not
    /// find it carried out behind a newer one.
    fn follows_a_ghost(&self, number: u64) -> bool {
        if self.status.abandoned() == 0 {
            return false;
        }
        let Some(job) = self.jobs.get(&number) else {
            return false;
        };
        self.sent
            .values()
            .filter(|older| **older < number)
            .any(|older| {
                self.jobs.get(older).is_some_and(|older| {
                    older.is_abandoned()
                        && older.request.lun == job.request.lun
                        && older.repeat.overlaps(job.repeat)
                })
            })
    }

    /// Forgets what nobody waits for and what the target did not see yet.
    pub(crate) fn withdraw_abandoned(&mut self, connection: &mut Connection) {
        let ever = self.status.ever_abandoned();
        if ever == self.seen_abandoned {
            return;
        }
        self.seen_abandoned = ever;
        let jobs = &mut self.jobs;
        self.sent.retain(|request, number| {
            let abandoned = jobs.get(number).is_none_or(Job::is_abandoned);
            let withdrawn = abandoned && connection.session.withdraw(*request);
            if withdrawn {
                jobs.remove(number);
            }
            !withdrawn
        });
    }

    /// The same while there is no connection.
    pub(crate) fn forget_abandoned(&mut self) {
        self.jobs.retain(|_, job| !job.is_abandoned());
        self.queue.retain(|number| self.jobs.contains_key(number));
    }

    /// What rested long enough waits to be sent again.
    pub(crate) fn wake_rested(&mut self) {
        let now = Instant::now();
        while let Some(&(due, number)) = self.resting.first()
            && due <= now
        {
            self.resting.pop_first();
            self.queue.insert(number);
        }
    }

    pub(crate) fn complete(&mut self, request: RequestId, outcome: Outcome) {
        let Some(number) = self.sent.remove(&request) else {
            return;
        };
        let Some(job) = self.jobs.get_mut(&number) else {
            return;
        };
        let lun = job.request.lun;
        let again = job.judge(&outcome, self.options.reconnect.outage);
        if let Some(sense) = attention(&outcome) {
            self.hear_attention(lun, sense);
        }
        match again {
            Again::Now => {
                self.queue.insert(number);
            }
            Again::After(pause) => {
                self.resting.insert((Instant::now() + pause, number));
            }
            Again::No => self.finish(number, lun, outcome),
        }
    }

    /// A command ended, well or not.
    fn finish(&mut self, number: u64, lun: Lun, outcome: Outcome) {
        let Some(job) = self.jobs.get(&number) else {
            return;
        };
        let (repeat, sent_after) = (job.repeat, job.sent_after);
        let flushes = is_flush(&job.request.cdb);
        match self.guards.get(&lun).map(Guard::trust) {
            Some(Trust::Changed) => return self.answer(number, Err(Error::Changed)),
            // The unit may have been another one when it answered this.
            Some(Trust::Doubted) if repeat == Repeat::Always => {
                self.queue.insert(number);
                return;
            }
            _ => {}
        }
        let lapsed = outcome == Outcome::Lapsed && repeat != Repeat::Always;
        let result = match lapsed {
            true => Err(Error::Interrupted),
            false => result_of(outcome),
        };
        if lapsed {
            self.note_stray(lun);
        }
        if result.is_ok() {
            self.supersede(number, lun, repeat);
        }
        let good = matches!(&result, Ok(completion) if completion.status == Status::GOOD);
        if good && repeat.alters() {
            self.note_change(lun);
        }
        if good && flushes && !self.note_flush(lun, sent_after) {
            self.queue.insert(number);
            return;
        }
        self.answer(number, result);
    }

    /// A change was acknowledged: older changes of the same blocks must not be repeated any more.
    fn supersede(&mut self, number: u64, lun: Lun, change: Repeat) {
        for (_, older) in self.jobs.range_mut(..number) {
            if older.request.lun == lun && older.repeat.overlaps(change) {
                older.repeat = older.repeat.forbidden();
            }
        }
    }

    /// What waits for a unit fails, since the unit does not say what it is.
    pub(crate) fn fail_unit(&mut self, lun: Lun, error: &Error) {
        let of_unit = |number: &u64| {
            self.jobs
                .get(number)
                .is_some_and(|job| job.request.lun == lun)
        };
        let numbers: Vec<u64> = self.queue.iter().copied().filter(of_unit).collect();
        for number in numbers {
            self.queue.remove(&number);
            if let Some(job) = self.jobs.remove(&number) {
                job.give_up(error);
            }
        }
    }

    /// Nobody waits for it.
    fn forget(&mut self, number: u64) {
        self.queue.remove(&number);
        self.jobs.remove(&number);
    }

    pub(crate) fn answer(&mut self, number: u64, result: Result<Completion, Error>) {
        self.queue.remove(&number);
        if let Some(job) = self.jobs.remove(&number) {
            job.answer(result);
        }
    }
}

/// What becomes of a command that the target is done with.
enum Again {
    /// It is answered.
    No,
    /// It is sent again.
    Now,
    /// It is sent again after this time.
    After(Duration),
}

impl Job {
    fn judge(&mut self, outcome: &Outcome, outage: Outage) -> Again {
        let again = match outcome {
            Outcome::Unsent => return Again::Now,
            // It may have been carried out in part.
            Outcome::Aborted => self.after_abort(),
            // It was carried out; only what it read was lost.
            Outcome::Damaged => !self.repeat.is_never(),
            Outcome::Answered(completion) => match completion.status {
                Status::BUSY | Status::TASK_SET_FULL => return self.rest(outage),
                Status::TASK_ABORTED => self.after_abort(),
                _ => attention(outcome).is_some(),
            },
            _ => false,
        };
        if again && self.tries < MAX_TRIES {
            self.tries += 1;
            return Again::Now;
        }
        Again::No
    }

    fn after_abort(&mut self) -> bool {
        self.in_doubt = true;
        !self.repeat.is_never()
    }

    /// The unit has no time for it.
    fn rest(&mut self, outage: Outage) -> Again {
        let since = *self.busy_since.get_or_insert_with(Instant::now);
        let patient = match outage {
            Outage::Wait => true,
            Outage::Deadline(patience) => since.elapsed() < patience,
            Outage::Fail => self.pauses < FEW_PAUSES,
        };
        if !patient || !self.terms.waits {
            return Again::No;
        }
        let length = pause(FIRST_PAUSE, LONGEST_PAUSE, self.pauses);
        self.pauses = self.pauses.saturating_add(1);
        Again::After(length)
    }

    /// True if it may have been carried out, and must not be carried out again.
    fn is_superseded(&self) -> bool {
        self.in_doubt && self.repeat.is_never()
    }
}

/// Pauses before a command is repeated that the unit had no time for.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How many there are with [`Outage::Fail`].
const FEW_PAUSES: u32 = 4;
