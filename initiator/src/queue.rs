//! The commands of a session between their submission and their answer.

use iscsi_proto::session::{Completion, Outcome, RequestId, SubmitError};
use iscsi_proto::wire::lun::Lun;

use crate::Error;
use crate::connection::{Connection, now};
use crate::guard::{Guard, Trust};
use crate::identity::{MAX_TRIES, asks_again, attention, result_of};
use crate::job::{Job, Order, Repeat};
use crate::link::Link;

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
            Order::Close(reply) => self.closing = Some(reply),
        }
    }

    /// Sends what waits, oldest first. Stops at a command for a unit that has to be fenced or verified before.
    pub(crate) fn submit_queue(&mut self, connection: &mut Connection) -> Option<Lun> {
        while let Some(&number) = self.queue.first() {
            let Some(job) = self.jobs.get(&number) else {
                self.queue.pop_first();
                continue;
            };
            if job.is_abandoned() {
                self.queue.pop_first();
                self.jobs.remove(&number);
                continue;
            }
            if job.is_superseded() {
                self.answer(number, Err(Error::Interrupted));
                continue;
            }
            let lun = job.request.lun;
            if self.strays.contains_key(&lun) {
                return Some(lun);
            }
            match self.guards.get(&lun).map(Guard::trust) {
                Some(Trust::Doubted) => return Some(lun),
                Some(Trust::Changed) => self.answer(number, Err(Error::Changed)),
                Some(Trust::Same) | None => {
                    match connection.session.submit(now(), job.request.clone()) {
                        Ok(request) => {
                            self.queue.pop_first();
                            self.sent.insert(request, number);
                        }
                        Err(SubmitError::TooLong) => self.answer(number, Err(Error::TooLong)),
                        // Later: after answers, or after the next login.
                        Err(
                            SubmitError::QueueFull | SubmitError::Closed | SubmitError::NotLoggedIn,
                        ) => return None,
                    }
                }
            }
        }
        None
    }

    pub(crate) fn complete(&mut self, request: RequestId, outcome: Outcome) {
        let Some(number) = self.sent.remove(&request) else {
            return;
        };
        let Some(job) = self.jobs.get_mut(&number) else {
            return;
        };
        let lun = job.request.lun;
        if outcome == Outcome::Unsent {
            self.queue.insert(number);
            return;
        }
        if job.tries < MAX_TRIES && job.asks_again(&outcome) {
            job.tries += 1;
            self.queue.insert(number);
            if let Some(sense) = attention(&outcome) {
                self.status.attention(sense);
                self.doubt(lun);
            }
            return;
        }
        let repeat = job.repeat;
        match self.guards.get(&lun).map(Guard::trust) {
            Some(Trust::Changed) => self.answer(number, Err(Error::Changed)),
            // The unit may have been another one when it answered this.
            Some(Trust::Doubted) if repeat == Repeat::Always => {
                self.queue.insert(number);
            }
            _ => {
                let result = result_of(outcome);
                if result.is_ok() {
                    self.supersede(number, lun, repeat);
                }
                self.answer(number, result);
            }
        }
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

    pub(crate) fn answer(&mut self, number: u64, result: Result<Completion, Error>) {
        self.queue.remove(&number);
        if let Some(job) = self.jobs.remove(&number) {
            job.answer(result);
        }
    }
}

impl Job {
    /// True if the outcome asks for another try: the command was not carried out, or can be carried out twice.
    fn asks_again(&mut self, outcome: &Outcome) -> bool {
        match outcome {
            // It may have been carried out in part.
            Outcome::Aborted if !self.repeat.is_never() => {
                self.in_doubt = true;
                true
            }
            // It was carried out; only what it read was lost.
            Outcome::Damaged => !self.repeat.is_never(),
            outcome => asks_again(outcome),
        }
    }

    /// True if it may have been carried out, and must not be carried out again.
    fn is_superseded(&self) -> bool {
        self.in_doubt && self.repeat.is_never()
    }
}
