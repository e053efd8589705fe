//! Several paths to one logical unit.
//!
//! A [`Remote`](crate::Remote) stands on the paths that it was given, each a session of its own. With one path its
//! commands go straight to the session, which waits for its target and repeats commands by its own rules. With more,
//! each command takes the path that [`choice`] names, and when a path is lost it is carried out on another:
//!
//! * **All paths lead to the same unit.** Size and names are compared before a path is used, and after each reconnect
//!   the session compares them with what they were. A path that leads elsewhere is refused for good.
//! * **Asymmetric access.** The state of a path's port is asked for when the path is made, after each reconnect, on a
//!   Unit Attention or a NOT READY that tells of a change, and from time to time, since an idle path hears nothing. Only
//!   active paths carry commands, optimized ones first. States change by the target's own decision (implicit); SET TARGET
//!   PORT GROUPS is never sent, and PREF, which says where to send one, is not looked at.
//!
//! # Why no write is lost or doubled
//!
//! A read, and a command that was certainly not sent, is carried out on another path at once. A change whose answer was
//! lost is *in doubt*: the target may hold its task, and carry it out at any time. Three rules keep that from doing harm:
//!
//! 1. **A change that overlaps an older one that has not ended waits for it** ([`ranges`]). So while a change is in
//!    doubt, nobody has written its blocks: carrying it out twice writes the same bytes twice with nothing between. The
//!    wait ends no later than the older change does.
//! 2. **No change is sent while another is in doubt**, be it a repeated one or a new one. First all of our commands on
//!    all paths end, and none begins; then the tasks of the lost path are ended ([`fence`]): by a later login of the same
//!    session, which reinstates it and so ends every task of its predecessor (RFC 7143 §6.3.5), or else by LOGICAL UNIT
//!    RESET through a living path, which aborts the tasks of all nexuses of the unit (SAM-5 §6.3.3, RFC 7143 §11.5.1). When
//!    it was answered, what was in doubt has been carried out or never will be. Since no other command of ours was under
//!    way, the reset takes nothing of ours away.
//! 3. **What was begun is ended by a task of its own.** Whoever drops the future of a change does not take its place among
//!    the overlapping ones away, nor the doubt: if it was not sent, it never will be; if it was, its end is awaited.
//!
//! A change that ends in doubt for its user ([`Error::Interrupted`]: the policy's time is over, or it must not be repeated,
//! like COMPARE AND WRITE) leaves its doubt with the path, so rule 2 holds for whatever comes after it.
//!
//! Ending what is in doubt waits for what is under way, and so for a path that went silent, but only for
//! [`Options::ping_timeout`](crate::Options::ping_timeout): then the connections whose commands do not end are given up
//! too, and what they had sent is in doubt as well. Whoever waits for it gives up when the policy for outages says so;
//! the ending itself goes on.
//!
//! # What is said of the unit on one path
//!
//! * **Another size** ([`Resize::Follow`](crate::Resize::Follow)): every session compares names and block length for itself
//!   before anything more is sent there, and the others are asked as soon as one was told. The unit counts as large as the
//!   least that an active path says, so nobody uses blocks of which some path does not know.
//! * **A restart**, with which a volatile write cache may be lost: see [`cache`].
//!
//! Reservations belong to one path each (an I_T nexus); this module neither makes nor moves them.

mod access;
mod cache;
mod choice;
mod connect;
mod fence;
mod keeper;
mod load;
mod operation;
mod path;
mod penalty;
mod ranges;
mod set;
mod unit;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use iscsi_proto::scsi::Command;
use iscsi_proto::scsi::port_groups::AccessState;
use iscsi_proto::session::{Completion, Transfer};
use iscsi_proto::wire::lun::Lun;
use tokio_util::sync::DropGuard;
use vmthunder_volume::Class;

pub use choice::PathPolicy;
pub use connect::find_portals;

use crate::identity::{INQUIRY_BYTES, good_or_unknown, page_command};
use crate::job::{Pending, Repeat, UnitSize};
use crate::{Error, Session};
use operation::Operation;
use path::{Path, Shipment};
use set::PathSet;

/// The paths of a unit. Cheap to clone; when the last clone is gone, the sessions log out.
#[derive(Clone, Debug)]
pub(crate) struct Paths {
    set: Arc<PathSet>,
    /// Whoever keeps the paths goes with the last handle.
    _over: Option<Arc<DropGuard>>,
}

/// One path of a unit, at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PathStatus {
    /// The portal: host:port.
    pub address: String,
    /// The portal group that the target named at the last login (RFC 7143 §13.9), if it did.
    pub portal_group_tag: Option<u16>,
    /// The target port group that the path's port is in (ALUA, SPC-4 §5.15); `None` where the unit makes no difference
    /// between its ports, and where there is only one path, whose port nobody asks.
    pub port_group: Option<u16>,
    /// How the target port reaches the unit; active/optimized where there is no port group.
    pub access: AccessState,
    /// Whether there is a connection.
    pub state: PathState,
    /// Whether commands take this path at the moment: it is connected and active, and none is better.
    pub in_use: bool,
    /// Commands that ended on the path, our own questions included.
    pub commands: u64,
    /// Those of them that ended without an answer of the unit: the connection was lost, or they took too long.
    pub failures: u64,
    /// How often the path's session logged in.
    pub logins: u64,
    /// Commands of the path's session that did not end.
    pub in_flight: usize,
    /// How long commands took lately; measured where there are several paths.
    pub service_time: Option<Duration>,
}

/// Whether a path can be used.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum PathState {
    /// It is logged in.
    Connected,
    /// It is not, for this reason; it is tried again.
    Lost(Error),
    /// It leads to another unit, or was closed; it is never used again.
    Refused(Error),
}

impl Paths {
    /// A session as the only path. Its own policy for outages holds.
    pub(crate) fn one(session: Session, lun: Lun, size: UnitSize) -> Self {
        let path = Path::new(session.dialer().reached().to_owned(), lun);
        path.open(session, size);
        Self {
            set: Arc::new(PathSet::alone(path)),
            _over: None,
        }
    }

    /// Submits a command; it goes on whether or not anybody waits for its end.
    pub(crate) async fn start(
        &self,
        command: &Command,
        transfer: Transfer,
        class: Class,
    ) -> Result<Pending, Error> {
        self.submit(command.cdb(), Repeat::of(command), transfer, class)
            .await
    }

    /// Submits the bytes of a command.
    pub(crate) async fn submit(
        &self,
        cdb: [u8; 16],
        repeat: Repeat,
        transfer: Transfer,
        class: Class,
    ) -> Result<Pending, Error> {
        if let [path] = self.set.paths.as_slice()
            && let Some(session) = path.session()
        {
            return session.submit(path.lun, cdb, repeat, transfer, class).await;
        }
        let shipment = Shipment {
            cdb,
            repeat,
            transfer,
            class,
        };
        Ok(Operation::begin(&self.set, shipment))
    }

    /// Carries a command out, whatever its status.
    pub(crate) async fn execute(
        &self,
        command: &Command,
        transfer: Transfer,
        class: Class,
    ) -> Result<Completion, Error> {
        self.start(command, transfer, class).await?.end().await
    }

    /// A page of vital product data, as the unit sent it; `None` if the unit does not have it.
    pub(crate) async fn vital_page(&self, page: u8) -> Result<Option<Bytes>, Error> {
        let transfer = Transfer::Read(INQUIRY_BYTES.into());
        let page = page_command(page);
        good_or_unknown(self.execute(&page, transfer, Class::Demand).await?)
    }

    /// How many parts of one read or write are under way at once.
    pub(crate) fn parts_in_flight(&self) -> usize {
        let sessions = self.set.paths.iter().filter_map(Path::session);
        sessions.map(Session::parts_in_flight).max().unwrap_or(1)
    }

    /// Every path, in the order in which they were given.
    pub(crate) fn statuses(&self) -> Vec<PathStatus> {
        let used = self.set.in_use();
        let paths = self.set.paths.iter().enumerate();
        paths
            .map(|(place, path)| path.status(used.contains(&place)))
            .collect()
    }

    /// How often the unit may have lost what it acknowledged, whichever path told it.
    pub(crate) fn cache_losses(&self) -> u64 {
        match self.set.paths.as_slice() {
            [path] => path.session().map_or(0, Session::cache_losses),
            _ => self.set.cache.losses(),
        }
    }

    /// Logs every session out.
    pub(crate) async fn close(&self) {
        self.set.close().await;
    }
}
