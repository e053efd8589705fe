//! One way to the unit: a session, and what is known of it.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use iscsi_proto::scsi::port_groups::AccessState;
use iscsi_proto::session::{Completion, Transfer};
use iscsi_proto::wire::lun::Lun;
use tokio::sync::Notify;
use vmthunder_volume::Class;

use super::access::Access;
use super::choice::Candidate;
use super::load::Load;
use super::penalty::Penalty;
use crate::connection::now;
use crate::job::Repeat;
use crate::{Error, Session};

/// One way to the unit.
#[derive(Debug)]
pub(crate) struct Path {
    pub(crate) address: String,
    pub(crate) lun: Lun,
    /// Made once; it reconnects by itself.
    session: OnceLock<Session>,
    record: Mutex<Record>,
    /// Whoever keeps the path has to ask how its port reaches the unit.
    pub(crate) question: Notify,
}

/// What is known of a path.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) access: Access,
    /// Why it is not used any more, ever.
    pub(crate) refused: Option<Error>,
    /// What went wrong last.
    pub(crate) failure: Option<Arc<Error>>,
    pub(crate) load: Load,
    pub(crate) penalty: Penalty,
    /// Changes were sent on this login, or an earlier one, and the target may still carry them out.
    pub(crate) doubt: Option<u64>,
}

/// The bytes of a command, and what they mean for whoever sends them.
#[derive(Clone, Debug)]
pub(crate) struct Bytes16 {
    pub(crate) cdb: [u8; 16],
    pub(crate) repeat: Repeat,
    pub(crate) transfer: Transfer,
    pub(crate) class: Class,
}
