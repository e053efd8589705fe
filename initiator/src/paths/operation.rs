//! One command, from its submission to its end, over whatever paths it takes.

use std::collections::BTreeSet;
use std::sync::Arc;

use iscsi_proto::scsi::Status;
use iscsi_proto::scsi::port_groups::AccessState;
use iscsi_proto::session::Completion;
use tokio::sync::oneshot;
use tokio::time::Instant;
use vmthunder_volume::Class;

use super::access::{Access, state_in, state_of};
use super::path::{Path, Shipment};
use super::ranges::Turn;
use super::set::{Passage, PathSet};
use crate::caches::is_flush;
use crate::identity::good;
use crate::job::{Pending, Repeat};
use crate::{Error, Outage};

/// One command, from its submission to its end.
#[derive(Debug)]
pub(crate) struct Operation {
    set: Arc<PathSet>,
    shipment: Shipment,
    /// Its place among the changes that overlap it, if it is one.
    turn: Option<Turn>,
}

/// What to do after a command came back from a path.
enum Next {
    Answer(Result<Completion, Error>),
    Repeat,
}

/// What went wrong with a command so far, and what it needs.
#[derive(Debug)]
pub(crate) struct Trouble {
    pub(crate) class: Class,
    /// It changes the unit: nothing may be in doubt when it is sent.
    pub(crate) settles: bool,
    /// It was sent on a path that was lost.
    in_doubt: bool,
    /// The paths where it took too long.
    avoided: BTreeSet<usize>,
    /// Since when it has been in trouble.
    since: Option<Instant>,
    /// The last reason.
    pub(crate) reason: Option<Error>,
}

impl Operation {
    /// Submits a command. Changes that overlap are carried out in the order of these calls.
    pub(crate) fn begin(set: &Arc<PathSet>, shipment: Shipment) -> Pending {
        let (reply, answer) = oneshot::channel();
        let changed = match shipment.repeat {
            Repeat::Always => None,
            Repeat::Changes { first, end } | Repeat::Never { first, end } => Some(first..end),
        };
        let operation = Self {
            turn: changed.map(|blocks| set.changes.announce(blocks)),
            set: Arc::clone(set),
            shipment,
        };
        tokio::spawn(operation.run(reply));
        Pending::of(answer)
    }

    async fn run(self, mut reply: oneshot::Sender<Result<Completion, Error>>) {
        if let Some(result) = self.carry_out(&mut reply).await {
            // A dropped future is no error: its command ends without harm.
            let _ = reply.send(result);
        }
    }

    /// `None` if nobody waits any more and nothing is under way.
    async fn carry_out(
        &self,
        reply: &mut oneshot::Sender<Result<Completion, Error>>,
    ) -> Option<Result<Completion, Error>> {
        if let Some(turn) = &self.turn {
            tokio::select! {
                biased;
                () = turn.come() => {}
                () = reply.closed() => return None,
                () = self.set.over.cancelled() => return Some(Err(Error::Closed)),
            }
        }
        let mut trouble = Trouble::new(&self.shipment);
        loop {
            let passage = tokio::select! {
                biased;
                () = reply.closed() => return None,
                passage = self.set.passage(&mut trouble) => passage,
            };
            let passage = match passage {
                Ok(passage) => passage,
                Err(error) => return Some(Err(error)),
            };
            let result = self.carry(&passage).await;
            let (place, path) = (passage.place, passage.path);
            // Judged before the gate is free: a doubt must be known to whoever looks for it behind the gate.
            match self.judge(place, path, result, &mut trouble) {
                Next::Answer(result) => return Some(result),
                Next::Repeat => trouble.begin(),
            }
        }
    }

    /// Carries the command out on a path; a change or a flush that ended well is noted.
    async fn carry(&self, passage: &Passage<'_>) -> Result<Completion, Error> {
        let changes = self.set.cache.changes();
        let completion = passage.path.carry(self.shipment.clone()).await?;
        if completion.status == Status::GOOD && self.shipment.repeat.alters() {
            self.set.cache.changed();
        }
        if completion.status == Status::GOOD && is_flush(&self.shipment.cdb) {
            self.set.end_of_flush(changes).await?;
        }
        Ok(completion)
    }

    fn judge(
        &self,
        place: usize,
        path: &Path,
        result: Result<Completion, Error>,
        trouble: &mut Trouble,
    ) -> Next {
        let repeat = self.shipment.repeat;
        let error = match result {
            Ok(completion) if state_in(&completion).is_none() => {
                return Next::Answer(Ok(completion));
            }
            Ok(completion) => match good(completion) {
                Ok(_) => Error::Malformed,
                Err(error) => error,
            },
            Err(error) => error,
        };
        match &error {
            Error::Interrupted if repeat != Repeat::Always => {
                trouble.in_doubt = true;
                // It was sent on this login at the latest. One loss is said once.
                if path.doubt() {
                    tracing::warn!(address = path.address, "path lost with changes in doubt");
                }
                if repeat.is_never() {
                    return Next::Answer(Err(error));
                }
            }
            Error::Interrupted | Error::Unreachable(_) => {}
            // The session is over, or the unit is another one.
            Error::Closed | Error::Changed => path.refuse(&error),
            // It was aborted: it has no effect any more.
            Error::TimedOut if !repeat.is_never() => {
                trouble.avoided.insert(place);
                if trouble.avoided.len() >= self.set.paths.len() {
                    return Next::Answer(Err(error));
                }
            }
            // The port does not reach the unit now: the command was not carried out.
            _ if let Some(state) = state_of(&error) => self.demote(path, state),
            _ => return Next::Answer(Err(error)),
        }
        trouble.reason = Some(error);
        Next::Repeat
    }

    fn demote(&self, path: &Path, state: AccessState) {
        let before = path.set_access(Access::varying(state));
        if before.state != state {
            tracing::info!(address = path.address, %state, "the port does not reach the unit now");
        }
        self.set.question_all();
    }
}

impl Trouble {
    fn new(shipment: &Shipment) -> Self {
        Self {
            class: shipment.class,
            settles: shipment.repeat != Repeat::Always,
            in_doubt: false,
            avoided: BTreeSet::new(),
            since: None,
            reason: None,
        }
    }

    /// The command is in trouble, if it was not before.
    pub(crate) fn begin(&mut self) {
        self.since.get_or_insert_with(Instant::now);
    }

    pub(crate) fn since(&self) -> Instant {
        self.since.unwrap_or_else(Instant::now)
    }

    pub(crate) fn avoids(&self, place: usize) -> bool {
        self.avoided.contains(&place)
    }

    /// Paths that come and go must not keep anybody for ever.
    pub(crate) fn check(&self, set: &PathSet) -> Result<(), Error> {
        match (set.outage, self.since) {
            (Outage::Deadline(patience), Some(since)) if since.elapsed() > patience => {
                Err(self.verdict(set))
            }
            _ => Ok(()),
        }
    }

    /// Why the command is given up.
    pub(crate) fn verdict(&self, set: &PathSet) -> Error {
        if self.in_doubt {
            return Error::Interrupted;
        }
        let obstacle = set.paths.iter().find_map(Path::obstacle);
        match self.reason.clone().or(obstacle) {
            Some(error @ (Error::Changed | Error::Closed | Error::TimedOut)) => error,
            Some(error @ (Error::Unreachable(_) | Error::OtherUnit)) => error,
            Some(reason) => Error::Unreachable(Arc::new(reason)),
            None => Error::Closed,
        }
    }
}
