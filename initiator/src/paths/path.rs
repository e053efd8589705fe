//! One way to the unit: a session, and what is known of it.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use iscsi_proto::scsi::port_groups::AccessState;
use iscsi_proto::session::{Completion, Transfer};
use iscsi_proto::wire::lun::Lun;
use tokio::sync::Notify;
use vmthunder_volume::Class;

use super::access::Access;
use super::choice::Candidate;
use super::load::Load;
use super::penalty::Penalty;
use super::{PathState, PathStatus};
use crate::connection::now;
use crate::job::{Repeat, UnitSize};
use crate::{Error, Session};

/// One way to the unit.
#[derive(Debug)]
pub(crate) struct Path {
    pub(crate) address: String,
    pub(crate) lun: Lun,
    /// Made once; it reconnects by itself. With the size of the unit as it was told here last.
    session: OnceLock<(Session, UnitSize)>,
    record: Mutex<Record>,
    /// Whoever keeps the path has to ask how its port reaches the unit.
    pub(crate) question: Notify,
}

/// What is known of a path.
#[derive(Debug)]
struct Record {
    access: Access,
    /// Why it is not used any more, ever.
    refused: Option<Error>,
    /// What went wrong before there was a session, or with the last command.
    failure: Option<Error>,
    load: Load,
    penalty: Penalty,
    /// How often the unit told here that it was reset or switched on, as far as that was looked at.
    restarts: u64,
    /// Changes were sent on this login, or before it, that the target may still carry out.
    doubt: Option<Login>,
}

/// One login of a session among all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Login {
    number: u64,
    /// The nexus that it led into, counted.
    nexus: u64,
}

/// A command as it is sent.
#[derive(Clone, Debug)]
pub(crate) struct Shipment {
    pub(crate) cdb: [u8; 16],
    pub(crate) repeat: Repeat,
    pub(crate) transfer: Transfer,
    pub(crate) class: Class,
}

impl Path {
    /// A path without a session yet.
    pub(crate) fn new(address: String, lun: Lun) -> Self {
        Self {
            address,
            lun,
            session: OnceLock::new(),
            record: Mutex::new(Record {
                access: Access::SYMMETRIC,
                refused: None,
                failure: None,
                load: Load::default(),
                penalty: Penalty::default(),
                restarts: 0,
                doubt: None,
            }),
            question: Notify::new(),
        }
    }

    /// Gives the path its session; the first one stays. What the unit told at first is about nothing that we did.
    pub(crate) fn open(&self, session: Session, size: UnitSize) {
        self.record().restarts = session.restarts();
        let _ = self.session.set((session, size));
    }

    pub(crate) fn session(&self) -> Option<&Session> {
        self.session.get().map(|(session, _)| session)
    }

    /// The blocks of the unit as they were told here last.
    pub(crate) fn blocks(&self) -> Option<u64> {
        self.session.get().map(|(_, size)| size.blocks())
    }

    /// True if commands may be sent here, as far as is known.
    pub(crate) fn is_active(&self) -> bool {
        self.is_connected() && self.access().state.is_active()
    }

    /// True if both lead to the same target.
    pub(crate) fn is_of_target_of(&self, other: &Self) -> bool {
        match (self.session(), other.session()) {
            (Some(own), Some(other)) => own.dialer().leads_to_target_of(other.dialer()),
            _ => false,
        }
    }

    /// True if the unit told here that it was reset or switched on, and that was not looked at.
    pub(crate) fn has_restart(&self) -> bool {
        let told = self.session().map_or(0, Session::restarts);
        told > self.record().restarts
    }

    /// The same; it is looked at now.
    pub(crate) fn take_restart(&self) -> bool {
        let told = self.session().map_or(0, Session::restarts);
        told > std::mem::replace(&mut self.record().restarts, told)
    }

    /// True if a command would be sent at once.
    pub(crate) fn is_connected(&self) -> bool {
        self.session().is_some_and(Session::is_connected) && self.record().refused.is_none()
    }

    /// The login that a command is sent on now.
    fn login(&self) -> Login {
        // In this order: a nexus is counted before the login that led into it.
        let number = self.session().map_or(0, Session::logins);
        let nexus = self.session().map_or(0, Session::moves);
        Login { number, nexus }
    }

    /// Carries a command out here, whatever its status.
    pub(crate) async fn carry(&self, shipment: Shipment) -> Result<Completion, Error> {
        let session = self.session().ok_or(Error::Closed)?;
        let flight = self.record().load.begin(now());
        let flight = Flight { path: self, flight };
        let Shipment {
            cdb,
            repeat,
            transfer,
            class,
        } = shipment;
        let pending = session
            .submit(self.lun, cdb, repeat, transfer, class)
            .await?;
        let result = pending.end().await;
        flight.end(result.is_ok());
        result
    }

    /// The path as one that could take a command; `None` while it cannot.
    pub(crate) fn candidate(&self, place: usize, now: Instant) -> Option<Candidate> {
        if !self.is_connected() {
            return None;
        }
        let record = self.record();
        let state = record.access.state;
        state.is_active().then(|| Candidate {
            place,
            optimized: state == AccessState::ACTIVE_OPTIMIZED,
            shunned: record.penalty.is_shunned(now),
            in_flight: record.load.in_flight(),
            service_time: record.load.service_time(now),
            oldest: record.load.oldest(now),
        })
    }

    /// Gives the connection up if a command has been under way for so long.
    pub(crate) fn give_up_if_busy(&self, patience: Duration) {
        let oldest = self.record().load.oldest(now());
        if oldest.is_some_and(|oldest| oldest >= patience)
            && let Some(session) = self.session().filter(|session| session.is_connected())
        {
            tracing::warn!(
                address = self.address,
                "connection given up: its commands do not end while another path's have to be"
            );
            session.reconnect();
        }
    }

    pub(crate) fn access(&self) -> Access {
        self.record().access
    }

    /// The port reaches the unit like this now; what it was before.
    pub(crate) fn set_access(&self, access: Access) -> Access {
        let mut record = self.record();
        let group = access.group.or(record.access.group);
        std::mem::replace(&mut record.access, Access { group, ..access })
    }

    /// True if the port is on its way to another state, and there is a connection to wait for it.
    pub(crate) fn is_in_transition(&self) -> bool {
        self.is_connected() && self.access().state == AccessState::TRANSITIONING
    }

    /// The path was lost and is back.
    pub(crate) fn was_lost(&self) {
        self.record().penalty.lost(now());
    }

    /// Something went wrong here.
    pub(crate) fn failed(&self, error: Error) {
        self.record().failure = Some(error);
    }

    /// The path is never used again.
    pub(crate) fn refuse(&self, error: &Error) {
        let mut record = self.record();
        if record.refused.is_none() {
            tracing::error!(address = self.address, %error, "path refused");
            record.refused = Some(error.clone());
        }
    }

    /// True if the path is never used again.
    pub(crate) fn is_refused(&self) -> bool {
        self.record().refused.is_some()
    }

    /// Why the path cannot be used, as far as is known.
    pub(crate) fn obstacle(&self) -> Option<Error> {
        let lost = self.session().and_then(Session::last_failure);
        let record = self.record();
        record
            .refused
            .clone()
            .or(lost)
            .or_else(|| record.failure.clone())
    }

    /// A change that was sent here so far may still be carried out; true if that was not known of this login yet.
    pub(crate) fn doubt(&self) -> bool {
        let login = self.login();
        self.record().doubt.replace(login) != Some(login)
    }

    /// True if the target may still carry out a change that was sent here. A later login in the same nexus ended the
    /// session of the earlier one and all its tasks (RFC 7143 §6.3.5).
    pub(crate) fn is_in_doubt(&self) -> bool {
        let now = self.login();
        let mut record = self.record();
        record.doubt = record
            .doubt
            .filter(|login| login.number >= now.number || login.nexus != now.nexus);
        record.doubt.is_some()
    }

    /// Nothing that was sent here so far will be carried out any more.
    pub(crate) fn settle(&self) {
        self.record().doubt = None;
    }

    /// What users may know of the path.
    pub(crate) fn status(&self, in_use: bool) -> PathStatus {
        let obstacle = self.obstacle();
        let session = self.session();
        let (commands, failures) = session.map_or((0, 0), Session::counted);
        let record = self.record();
        let changed = session.is_some_and(|session| session.has_changed(self.lun));
        let refused = record.refused.clone();
        let refused = refused.or_else(|| changed.then_some(Error::Changed));
        let state = match (refused, session.is_some_and(Session::is_connected)) {
            (Some(error), _) => PathState::Refused(error),
            (None, true) => PathState::Connected,
            (None, false) => PathState::Lost(obstacle.unwrap_or(Error::Closed)),
        };
        PathStatus {
            address: self.address.clone(),
            portal_group_tag: session.and_then(Session::portal_group_tag),
            port_group: record.access.group,
            access: record.access.state,
            state,
            in_use,
            commands,
            failures,
            logins: session.map_or(0, Session::logins),
            in_flight: session.map_or(0, Session::in_flight),
            service_time: record.load.service_time(now()),
        }
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A command under way on a path.
struct Flight<'a> {
    path: &'a Path,
    flight: u64,
}

impl Flight<'_> {
    fn end(self, answered: bool) {
        self.path.record().load.end(self.flight, answered, now());
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        // Without effect on one that ended.
        self.path.record().load.end(self.flight, false, now());
    }
}
