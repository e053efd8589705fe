//! Reservations of one logical unit: RESERVE and RELEASE (SPC-2 §5.5), persistent reservations (SPC-4 §5.13).
//!
//! What an order comes to is decided in pure functions; here it is made durable first, then known to everybody at
//! once. One PERSISTENT RESERVE OUT is carried out at a time.

mod file;
mod legacy;
mod order;
mod parse;
mod persistent;
mod rules;

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::{Arc, LazyLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Instant;

use bytes::Bytes;
use iscsi_proto::scsi::persistent::{LIST_BYTES, TransportId};
use iscsi_proto::scsi::{Command, ReserveIn, Sense};
use iscsi_proto::session::Response;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tracing::warn;

use self::file::StateFile;
use self::order::{Change, Notice, Order};
use self::parse::Fields;
use self::persistent::Persistent;
use crate::asker::Asker;
use crate::complaints::Complaints;
use crate::failure::Failure;
use crate::inquiry;
use crate::sessions::{ItNexus, Whom};

/// Bytes of the longest parameter list of PERSISTENT RESERVE OUT.
const MAX_LIST_BYTES: u32 = 64 << 10;

/// About the files of all units: what fills the log is one disk.
static COMPLAINTS: LazyLock<Complaints> = LazyLock::new(Complaints::default);

/// Who has reserved a logical unit, and what the others may still do. Of a unit that cannot be reserved: nobody.
#[derive(Debug, Default)]
pub(crate) struct Reservations {
    state: Arc<RwLock<State>>,
    /// Held by whoever changes the state, from reading it to the end.
    turn: Arc<tokio::sync::Mutex<()>>,
    file: Option<Arc<StateFile>>,
}

/// All that reserves a unit. There is never a RESERVE beside a registration.
#[derive(Debug, Default)]
struct State {
    persistent: Persistent,
    /// Who has reserved the unit by RESERVE.
    legacy: Option<ItNexus>,
    /// The writes that were let in since somebody was fenced for the last time.
    writing: TaskTracker,
}

/// A write that is under way. Whoever fences its nexus waits until this is dropped, even if the session of the write
/// is long gone.
#[derive(Debug)]
pub(crate) struct Writing {
    _token: TaskTrackerToken,
}

/// What an order leaves to be done.
#[derive(Debug)]
struct Fenced {
    /// Whose commands have to be aborted.
    nexuses: BTreeSet<ItNexus>,
    /// Writes that were let in before; empty when they have ended.
    writing: TaskTracker,
}

impl Reservations {
    /// The reservations that `file` keeps; none if there is no file yet.
    pub(crate) fn open(file: Option<&Path>) -> io::Result<Self> {
        let Some(path) = file else {
            return Ok(Self::default());
        };
        let file = StateFile::new(path);
        let persistent = Persistent {
            can_persist: true,
            ..file.load()?.unwrap_or_default()
        };
        Ok(Self {
            state: Arc::new(RwLock::new(State {
                persistent,
                ..State::default()
            })),
            turn: Arc::default(),
            file: Some(Arc::new(file)),
        })
    }

    /// Decides whether a nexus may send a command (SPC-4 §5.13.1).
    pub(crate) fn check(&self, nexus: &ItNexus, command: &Command) -> Result<(), Failure> {
        self.read().check(nexus, command)
    }

    /// Decides as [`check`](Self::check) does, in one step with taking note of a command that writes.
    pub(crate) fn enter(
        &self,
        nexus: &ItNexus,
        command: &Command,
    ) -> Result<Option<Writing>, Failure> {
        let state = self.read();
        state.check(nexus, command)?;
        Ok(command.alters_medium().then(|| Writing {
            _token: state.writing.token(),
        }))
    }

    /// How many bytes of data a command needs; none if it is no business of reservations.
    pub(crate) fn data_out_bytes(&self, command: &Command) -> Option<Result<u32, Failure>> {
        let Command::PersistentReserveOut {
            parameter_length, ..
        } = *command
        else {
            return None;
        };
        let fits = usize::try_from(parameter_length).is_ok_and(|length| length >= LIST_BYTES)
            && parameter_length <= MAX_LIST_BYTES;
        Some(if fits {
            Ok(parameter_length)
        } else {
            Err(Sense::PARAMETER_LIST_LENGTH_ERROR.into())
        })
    }

    /// Executes a command that was let in; none if it is no business of reservations.
    pub(crate) async fn execute<V>(
        &self,
        command: &Command,
        data: &Bytes,
        asker: &Asker<V>,
        unit: u16,
    ) -> Option<Result<Response, Failure>> {
        if !is_reserving(command) {
            return None;
        }
        Some(match *command {
            Command::PersistentReserveIn { action, allocation } => {
                Ok(inquiry::cut(self.report(action), allocation.into()))
            }
            Command::PersistentReserveOut {
                action,
                scope,
                kind,
                ..
            } => {
                let fields = Fields {
                    action,
                    scope,
                    kind,
                };
                self.execute_out(fields, command, data, asker, unit).await
            }
            _ => self.execute_legacy(command, &asker.nexus).await,
        })
    }

    /// A nexus is gone: what RESERVE gave it is free again.
    pub(crate) fn nexus_lost(&self, nexus: &ItNexus) {
        self.write().release(nexus);
    }

    /// The unit was reset: what RESERVE gave is free again.
    pub(crate) fn reset(&self) {
        self.write().legacy = None;
    }

    fn report(&self, action: ReserveIn) -> Bytes {
        let state = self.read();
        let persistent = &state.persistent;
        match action {
            ReserveIn::ReadKeys => persistent.keys().build(),
            ReserveIn::ReadReservation => persistent.report().build(),
            ReserveIn::ReportCapabilities => persistent.capabilities().build(),
            ReserveIn::ReadFullStatus => persistent.full_status().build(),
        }
    }

    async fn execute_legacy(
        &self,
        command: &Command,
        nexus: &ItNexus,
    ) -> Result<Response, Failure> {
        let _turn = self.turn.lock().await;
        let mut state = self.write();
        state.check(nexus, command)?;
        match command {
            Command::Reserve { .. } => state.reserve(nexus),
            _ => state.release(nexus),
        }
        Ok(Response::good())
    }

    async fn execute_out<V>(
        &self,
        fields: Fields,
        command: &Command,
        data: &Bytes,
        asker: &Asker<V>,
        unit: u16,
    ) -> Result<Response, Failure> {
        let nexus = &asker.nexus;
        let (sessions, target) = (
            Arc::clone(&asker.sessions),
            asker.export.port.target.clone(),
        );
        let known = |id: &TransportId| match id {
            TransportId::Device(name) => sessions.nexuses(&target, name),
            TransportId::Port(name, isid) => vec![ItNexus {
                initiator: name.clone(),
                isid: *isid,
                relative_port: nexus.relative_port,
            }],
        };
        let order = parse::order(fields, data, nexus, known)?;
        let tracker = TaskTracker::new();
        let (own, given) = (nexus.clone(), tracker.clone());
        let tell = move |notices: &[Notice], fenced: Option<&Fenced>| {
            // The order comes first: who is told has lost what it sent before, and nothing that it sends then.
            if let Some(fenced) = fenced {
                let whom = Whom::Among(&fenced.nexuses);
                let cleared = Some(Sense::COMMANDS_CLEARED);
                sessions.order_purge(&target, Some(&own), unit, whom, cleared, &given);
            }
            for (sense, whom) in notices {
                sessions.raise(&target, unit, Whom::Among(whom), *sense);
            }
        };
        if let Some(fenced) = self.carry_out(nexus, &order, command, tell).await? {
            asker.sessions.purged(tracker).await;
            // Whoever is fenced must not write any more when this command is answered: success is a promise, so here
            // it is not given up, however long a volume hangs.
            fenced.writing.wait().await;
        }
        Ok(Response::written(
            u32::try_from(data.len()).unwrap_or(u32::MAX),
        ))
    }

    /// Carries an order out: on the disk, then in memory, then `tell` is called, and nothing comes between. Whoever does
    /// not wait for the end does not change it.
    async fn carry_out(
        &self,
        nexus: &ItNexus,
        order: &Order,
        command: &Command,
        tell: impl FnOnce(&[Notice], Option<&Fenced>) + Send + 'static,
    ) -> Result<Option<Fenced>, Failure> {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let (change, kept) = {
            let state = self.read();
            state.check(nexus, command)?;
            let change = state.persistent.obey(nexus, order)?;
            (change, state.persistent.persists)
        };
        let Some(Change {
            next,
            notices,
            aborted,
        }) = change
        else {
            return Ok(None);
        };
        let state = Arc::clone(&self.state);
        let file = self.file.clone().filter(|_| kept || next.persists);
        let waits = file.is_some();
        let finish = move || {
            if let Some(file) = file {
                file.store(&next)?;
            }
            let fenced = write(&state).replace(next, aborted);
            tell(&notices, fenced.as_ref());
            drop(turn);
            io::Result::Ok(fenced)
        };
        let finished = if waits {
            blocking::unblock(finish).await
        } else {
            finish()
        };
        finished.map_err(|error| {
            if let Some(unsaid) = COMPLAINTS.may_say(Instant::now()) {
                warn!(%error, unsaid, "registrations cannot be kept");
            }
            Sense::INTERNAL_TARGET_FAILURE.into()
        })
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        write(&self.state)
    }
}

impl State {
    /// The registrations from now on. If somebody is fenced by that, whoever writes has been let in either before or
    /// after: whoever comes after meets the new ones.
    fn replace(&mut self, next: Persistent, fenced: BTreeSet<ItNexus>) -> Option<Fenced> {
        self.persistent = next;
        (!fenced.is_empty()).then(|| {
            let writing = std::mem::take(&mut self.writing);
            writing.close();
            Fenced {
                nexuses: fenced,
                writing,
            }
        })
    }
}

fn write(state: &RwLock<State>) -> RwLockWriteGuard<'_, State> {
    state.write().unwrap_or_else(PoisonError::into_inner)
}

/// The commands that reservations are made of.
fn is_reserving(command: &Command) -> bool {
    matches!(
        command,
        Command::PersistentReserveIn { .. }
            | Command::PersistentReserveOut { .. }
            | Command::Reserve { .. }
            | Command::Release { .. }
    )
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
