//! What a session's handles can see of it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use iscsi_proto::params::Params;
use iscsi_proto::scsi::Sense;
use iscsi_proto::wire::lun::Lun;
use tokio::sync::{Notify, watch};

use crate::Error;
use crate::connection::Connection;

/// What a session's handles can see of it.
#[derive(Debug)]
pub(crate) struct Status {
    logins: AtomicU64,
    cache_losses: AtomicU64,
    /// How often a unit told that it was reset or switched on.
    restarts: AtomicU64,
    /// Commands that ended, and those of them without an answer.
    ended: AtomicU64,
    failed: AtomicU64,
    /// Commands under way that nobody waits for any more, and all that there ever were.
    abandoned: AtomicU64,
    ever_abandoned: AtomicU64,
    abandonment: Notify,
    standing: watch::Sender<Standing>,
    /// The portal group that the target named at the last login.
    portal_group_tag: Mutex<Option<u16>>,
    /// How often a login led into another nexus than the one before.
    moves: AtomicU64,
    /// How often a unit told something that has to be looked at on all paths to it.
    news: watch::Sender<u64>,
    settled: Mutex<Settled>,
    /// Units that are not what they were, and are not asked any more.
    changed: Mutex<BTreeSet<Lun>>,
}

/// What a login settled.
#[derive(Clone, Debug)]
pub struct Settled {
    /// Where the connection goes to; `None` if it was lost at once.
    pub portal: Option<SocketAddr>,
    /// The negotiated keys.
    pub params: Params,
    /// How many commands the target took at once then (RFC 7143 §4.2.2.1).
    pub window: u32,
}

impl Settled {
    fn of(connection: &Connection) -> Self {
        Self {
            portal: connection.peer(),
            params: connection.session.params().cloned().unwrap_or_default(),
            window: connection.session.window(),
        }
    }
}

/// Where a session stands.
#[derive(Clone, Debug)]
pub(crate) enum Standing {
    /// It is logged in.
    Connected,
    /// The connection is lost; the last thing that went wrong.
    Lost(Arc<Error>),
    /// It was closed.
    Over,
}

impl Status {
    /// Before the first login was counted.
    pub(crate) fn new(first: &Connection) -> Self {
        Self {
            logins: AtomicU64::new(0),
            cache_losses: AtomicU64::new(0),
            restarts: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            abandoned: AtomicU64::new(0),
            ever_abandoned: AtomicU64::new(0),
            abandonment: Notify::new(),
            standing: watch::Sender::new(Standing::Connected),
            portal_group_tag: Mutex::default(),
            moves: AtomicU64::new(0),
            news: watch::Sender::new(0),
            settled: Mutex::new(Settled::of(first)),
            changed: Mutex::default(),
        }
    }

    /// A login is about to be counted.
    pub(crate) fn entered(&self, portal_group_tag: Option<u16>, moved: bool) {
        *self
            .portal_group_tag
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = portal_group_tag;
        self.moves.fetch_add(moved.into(), Ordering::Relaxed);
    }

    pub(crate) fn portal_group_tag(&self) -> Option<u16> {
        *self
            .portal_group_tag
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn moves(&self) -> u64 {
        self.moves.load(Ordering::Acquire)
    }

    pub(crate) fn logged_in(&self, connection: &Connection) {
        *self.settled.lock().unwrap_or_else(PoisonError::into_inner) = Settled::of(connection);
        self.logins.fetch_add(1, Ordering::Release);
        self.standing.send_replace(Standing::Connected);
    }

    pub(crate) fn failed(&self, error: Error) {
        self.standing.send_replace(Standing::Lost(Arc::new(error)));
    }

    pub(crate) fn ended(&self) {
        self.standing.send_replace(Standing::Over);
    }

    /// A unit is not what it was.
    pub(crate) fn changed(&self, lun: Lun) {
        let mut changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        changed.insert(lun);
    }

    pub(crate) fn has_changed(&self, lun: Lun) -> bool {
        let changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        changed.contains(&lun)
    }

    /// A unit reports something by itself.
    pub(crate) fn attention(&self, sense: Sense) {
        if let Sense::ACCESS_STATE_CHANGED
        | Sense::IMPLICIT_TRANSITION_FAILED
        | Sense::CAPACITY_CHANGED = sense
        {
            self.news.send_modify(|news| *news += 1);
        }
    }

    /// A unit tells that it was reset or switched on.
    pub(crate) fn restarted(&self) {
        self.restarts.fetch_add(1, Ordering::Release);
        self.news.send_modify(|news| *news += 1);
    }

    /// How often that was.
    pub(crate) fn restarts(&self) -> u64 {
        self.restarts.load(Ordering::Acquire)
    }

    /// A command ended, with an answer or without.
    pub(crate) fn count(&self, answered: bool) {
        self.ended.fetch_add(1, Ordering::Relaxed);
        self.failed.fetch_add((!answered).into(), Ordering::Relaxed);
    }

    /// Commands that ended, and those of them without an answer.
    pub(crate) fn counted(&self) -> (u64, u64) {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (of(&self.ended), of(&self.failed))
    }

    pub(crate) fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    pub(crate) fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    /// What the last login settled.
    pub(crate) fn settled(&self) -> Settled {
        self.settled
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn logins(&self) -> u64 {
        self.logins.load(Ordering::Acquire)
    }

    pub(crate) fn cache_lost(&self) {
        self.cache_losses.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn cache_losses(&self) -> u64 {
        self.cache_losses.load(Ordering::Relaxed)
    }

    /// Nobody waits for a command any more.
    pub(crate) fn abandon(&self) {
        self.abandoned.fetch_add(1, Ordering::SeqCst);
        self.ever_abandoned.fetch_add(1, Ordering::SeqCst);
        self.abandonment.notify_one();
    }

    /// Waits until nobody waits for some command any more.
    pub(crate) async fn abandonment(&self) {
        self.abandonment.notified().await;
    }

    /// A command ended that nobody waited for.
    pub(crate) fn forget_abandoned(&self) {
        self.abandoned.fetch_sub(1, Ordering::SeqCst);
    }

    /// Commands under way that nobody waits for.
    pub(crate) fn abandoned(&self) -> u64 {
        self.abandoned.load(Ordering::SeqCst)
    }

    /// All such commands since the session began.
    pub(crate) fn ever_abandoned(&self) -> u64 {
        self.ever_abandoned.load(Ordering::SeqCst)
    }

    pub(crate) fn is_connected(&self) -> bool {
        matches!(*self.standing.borrow(), Standing::Connected)
    }

    /// What went wrong last, while the session is not connected.
    pub(crate) fn last_failure(&self) -> Option<Arc<Error>> {
        match &*self.standing.borrow() {
            Standing::Lost(error) => Some(Arc::clone(error)),
            Standing::Connected | Standing::Over => None,
        }
    }

    /// Why a command cannot be sent; `None` while it can.
    pub(crate) fn obstacle(&self) -> Option<Error> {
        match &*self.standing.borrow() {
            Standing::Connected => None,
            Standing::Lost(error) => Some(Error::Unreachable(Arc::clone(error))),
            Standing::Over => Some(Error::Closed),
        }
    }

    /// Waits until the session is connected, or over.
    pub(crate) async fn connected(&self) -> Result<(), Error> {
        let mut standing = self.standing.subscribe();
        let settled = standing
            .wait_for(|standing| !matches!(standing, Standing::Lost(_)))
            .await
            .map_err(|_| Error::Closed)?;
        match *settled {
            Standing::Connected => Ok(()),
            Standing::Lost(_) | Standing::Over => Err(Error::Closed),
        }
    }
}
