//! Who is logged in: handles, reinstatement, limits (RFC 7143 §6.3.1, §6.3.5).

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use iscsi_proto::login::{Identity, LoginStatus};
use iscsi_proto::name::IscsiName;
use iscsi_proto::scsi::Sense;
use iscsi_proto::wire::bhs::Isid;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::TargetLimits;
use crate::asker::Asker;
use crate::attention::Attention;
use crate::exports::Served;
use crate::orders::{Order, Orders};

/// How long the answer to a reset, or to a preemption, waits for writes that are under way.
const PURGE_GRACE: Duration = Duration::from_secs(2);

/// Who asks: an initiator port at a port of the target (SAM-5 §4.7).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ItNexus {
    pub(crate) initiator: IscsiName,
    pub(crate) isid: Isid,
    pub(crate) relative_port: u16,
}

/// Which sessions of a target something concerns.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Whom<'a> {
    All,
    Others(&'a ItNexus),
    Among(&'a BTreeSet<ItNexus>),
}

impl Whom<'_> {
    fn includes(self, nexus: &ItNexus) -> bool {
        match self {
            Self::All => true,
            Self::Others(one) => one != nexus,
            Self::Among(some) => some.contains(nexus),
        }
    }
}

/// What makes two logins the same session: the initiator port and the target port (RFC 7143 §4.4.3). Discovery
/// sessions have no target.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    initiator: IscsiName,
    target: Option<IscsiName>,
    isid: Isid,
}

/// Who asks for a seat.
#[derive(Debug)]
pub(crate) struct Guest {
    pub(crate) key: Key,
    pub(crate) peer: SocketAddr,
    /// The account that the initiator has proven to be.
    pub(crate) account: Option<String>,
    /// The session that a connection is to be added to; 0 for a new one.
    pub(crate) tsih: u16,
}

impl Guest {
    pub(crate) fn new(identity: &Identity, peer: SocketAddr, account: Option<String>) -> Self {
        let key = Key {
            initiator: identity.initiator_name.clone(),
            target: identity.target_name.clone(),
            isid: identity.isid,
        };
        Self {
            key,
            peer,
            account,
            tsih: identity.tsih,
        }
    }
}

/// A session, for whoever asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionSummary {
    /// The target session identifying handle.
    pub tsih: u16,
    /// The initiator's name.
    pub initiator: IscsiName,
    /// The target's name; none in a discovery session.
    pub target: Option<IscsiName>,
    /// Where the initiator connected from.
    pub peer: SocketAddr,
}

/// All sessions of a target.
#[derive(Debug)]
pub(crate) struct Sessions {
    table: Arc<Mutex<Table>>,
    limits: TargetLimits,
}

#[derive(Debug, Default)]
struct Table {
    by_tsih: BTreeMap<u16, Entry>,
    /// Several sessions have the same key while old ones come to their end.
    by_key: BTreeSet<(Key, u16)>,
    by_target: BTreeMap<IscsiName, BTreeSet<u16>>,
    last_tsih: u16,
}

#[derive(Debug)]
struct Entry {
    key: Key,
    nexus: ItNexus,
    peer: SocketAddr,
    account: Option<String>,
    close: CancellationToken,
    gone: CancellationToken,
    attention: Arc<Attention>,
    orders: Arc<Orders>,
}

/// A session's place at the target; giving it up ends the session for everybody else.
#[derive(Debug)]
pub(crate) struct Seat<V> {
    /// The session's handle.
    pub(crate) tsih: u16,
    /// Who has it.
    pub(crate) initiator: IscsiName,
    /// What the session is logged in to; none in a discovery session.
    pub(crate) asker: Option<Arc<Asker<V>>>,
    /// What the initiator must be told.
    pub(crate) attention: Arc<Attention>,
    /// What others want of the session.
    pub(crate) orders: Arc<Orders>,
    /// Cancelled when the session has to end.
    pub(crate) close: CancellationToken,
    /// Each is cancelled when a session that this one reinstates has ended.
    pub(crate) predecessors: Vec<CancellationToken>,
    gone: CancellationToken,
    table: Arc<Mutex<Table>>,
}

impl Sessions {
    pub(crate) fn new(limits: TargetLimits) -> Self {
        Self {
            table: Arc::default(),
            limits,
        }
    }

    /// Begins a session, and ends the one that it reinstates. Whoever asks has been authenticated.
    pub(crate) fn enter<V>(
        self: &Arc<Self>,
        guest: Guest,
        export: Option<Arc<Served<V>>>,
    ) -> Result<Seat<V>, LoginStatus> {
        let Guest {
            key,
            peer,
            account,
            tsih,
        } = guest;
        let mut table = self.lock();
        if tsih != 0 {
            return Err(table.refusal_to_join(&key, tsih));
        }
        let older: Vec<u16> = table.of_key(&key).collect();
        table.check_reinstatement(&older, account.as_deref())?;
        if older.is_empty() {
            table.check_room(&key.initiator, self.limits)?;
        }
        let tsih = table.free_tsih().ok_or(LoginStatus::OUT_OF_RESOURCES)?;
        let predecessors = table.close_all(&older);
        let nexus = ItNexus {
            initiator: key.initiator.clone(),
            isid: key.isid,
            relative_port: export
                .as_ref()
                .map_or(0, |export| export.port.relative_port),
        };
        let asker =
            export.map(|export| Arc::new(Asker::new(nexus.clone(), export, Arc::clone(self))));
        let units = asker.iter().flat_map(|asker| asker.units.keys().copied());
        let first_news = if predecessors.is_empty() {
            Sense::POWER_ON_OR_RESET
        } else {
            Sense::NEXUS_LOST
        };
        let entry = Entry {
            key,
            nexus,
            peer,
            account,
            close: CancellationToken::new(),
            gone: CancellationToken::new(),
            attention: Arc::new(Attention::at_login(units, first_news)),
            orders: Arc::default(),
        };
        let seat = Seat {
            tsih,
            initiator: entry.nexus.initiator.clone(),
            asker,
            attention: Arc::clone(&entry.attention),
            orders: Arc::clone(&entry.orders),
            close: entry.close.clone(),
            predecessors,
            gone: entry.gone.clone(),
            table: Arc::clone(&self.table),
        };
        table.insert(tsih, entry);
        Ok(seat)
    }

    /// Ends all sessions of a target; gives what is cancelled when each has ended.
    pub(crate) fn close_target(
        &self,
        target: &IscsiName,
        whom: Whom<'_>,
    ) -> Vec<CancellationToken> {
        let table = self.lock();
        let close = |entry: &Entry| {
            entry.close.cancel();
            entry.gone.clone()
        };
        table.of_target(target, whom).map(close).collect()
    }

    /// Raises a unit attention condition in sessions of a target.
    pub(crate) fn raise(&self, target: &IscsiName, unit: u16, whom: Whom<'_>, sense: Sense) {
        let table = self.lock();
        table
            .of_target(target, whom)
            .for_each(|entry| entry.attention.raise(unit, sense));
    }

    /// Tells initiators of a target that can take it what happened to a unit.
    pub(crate) fn announce(&self, target: &IscsiName, unit: u16, sense: Sense) {
        let table = self.lock();
        for entry in table.of_target(target, Whom::All) {
            entry.orders.give(Order::Notice { unit, sense });
        }
    }

    /// A unit of a target is no more: whatever was to be told about it is moot.
    pub(crate) fn forget_unit(&self, target: &IscsiName, unit: u16) {
        let table = self.lock();
        table
            .of_target(target, Whom::All)
            .for_each(|entry| entry.attention.forget_unit(unit));
    }

    /// Lets sessions other than one's own take the tasks of a unit away, without an answer. The tracker is empty when
    /// none of these tasks touches the volume any more.
    pub(crate) fn order_purge(
        &self,
        target: &IscsiName,
        own: Option<&ItNexus>,
        unit: u16,
        whom: Whom<'_>,
        cleared: Option<Sense>,
        tracker: &TaskTracker,
    ) {
        let table = self.lock();
        let others = table.of_target(target, whom);
        for entry in others.filter(|entry| Some(&entry.nexus) != own) {
            entry.orders.give(Order::Purge {
                unit,
                cleared,
                waiter: tracker.token(),
            });
        }
    }

    /// The ports of an initiator that are logged in to a target.
    pub(crate) fn nexuses(&self, target: &IscsiName, initiator: &IscsiName) -> Vec<ItNexus> {
        let table = self.lock();
        let nexuses = table.of_target(target, Whom::All).map(|entry| &entry.nexus);
        let found = nexuses.filter(|nexus| nexus.initiator == *initiator);
        // A session that is being reinstated is there twice.
        let found: BTreeSet<_> = found.cloned().collect();
        found.into_iter().collect()
    }

    pub(crate) fn summaries(&self) -> Vec<SessionSummary> {
        let table = self.lock();
        let summary = |(tsih, entry): (&u16, &Entry)| SessionSummary {
            tsih: *tsih,
            initiator: entry.key.initiator.clone(),
            target: entry.key.target.clone(),
            peer: entry.peer,
        };
        table.by_tsih.iter().map(summary).collect()
    }

    pub(crate) fn count(&self) -> usize {
        self.lock().by_tsih.len()
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits until the tasks of a purge have ended, but not for a volume that hangs.
pub(crate) async fn purged(tracker: TaskTracker) {
    tracker.close();
    // What hangs is left behind: it ends some day, and holds the blocks that it touches until then.
    let _ = timeout(PURGE_GRACE, tracker.wait()).await;
}

impl Table {
    /// Why a connection cannot join the session that it names: each has its one connection, and that one is not
    /// replaced (RFC 7143 §6.3.1).
    fn refusal_to_join(&self, key: &Key, tsih: u16) -> LoginStatus {
        match self.by_tsih.get(&tsih) {
            Some(entry) if entry.key == *key => LoginStatus::TOO_MANY_CONNECTIONS,
            _ => LoginStatus::SESSION_DOES_NOT_EXIST,
        }
    }

    /// Who has proven to be somebody is replaced by nobody else, whatever name that one claims.
    fn check_reinstatement(&self, older: &[u16], account: Option<&str>) -> Result<(), LoginStatus> {
        let owner = |tsih: &u16| self.by_tsih.get(tsih)?.account.as_deref();
        if older
            .iter()
            .filter_map(owner)
            .any(|owner| Some(owner) != account)
        {
            return Err(LoginStatus::AUTHORIZATION_FAILURE);
        }
        Ok(())
    }

    fn check_room(&self, initiator: &IscsiName, limits: TargetLimits) -> Result<(), LoginStatus> {
        let first = Key {
            initiator: initiator.clone(),
            target: None,
            isid: [0; 6],
        };
        let own = self
            .by_key
            .range((first, 0)..)
            .take_while(|(key, _)| key.initiator == *initiator)
            .take(limits.sessions_per_initiator);
        if self.by_tsih.len() >= limits.sessions || own.count() >= limits.sessions_per_initiator {
            return Err(LoginStatus::OUT_OF_RESOURCES);
        }
        Ok(())
    }

    fn of_key(&self, key: &Key) -> impl Iterator<Item = u16> {
        self.by_key
            .range((key.clone(), 0)..=(key.clone(), u16::MAX))
            .map(|(_, tsih)| *tsih)
    }

    fn of_target<'a>(
        &'a self,
        target: &IscsiName,
        whom: Whom<'a>,
    ) -> impl Iterator<Item = &'a Entry> {
        self.by_target
            .get(target)
            .into_iter()
            .flatten()
            .filter_map(|tsih| self.by_tsih.get(tsih))
            .filter(move |entry| whom.includes(&entry.nexus))
    }

    /// Ends sessions; gives what is cancelled when each has ended.
    fn close_all(&self, sessions: &[u16]) -> Vec<CancellationToken> {
        let entries = sessions.iter().filter_map(|tsih| self.by_tsih.get(tsih));
        let close = |entry: &Entry| {
            entry.close.cancel();
            entry.gone.clone()
        };
        entries.map(close).collect()
    }

    fn insert(&mut self, tsih: u16, entry: Entry) {
        self.by_key.insert((entry.key.clone(), tsih));
        if let Some(target) = &entry.key.target {
            self.by_target
                .entry(target.clone())
                .or_default()
                .insert(tsih);
        }
        self.by_tsih.insert(tsih, entry);
    }

    fn remove(&mut self, tsih: u16) {
        let Some(entry) = self.by_tsih.remove(&tsih) else {
            return;
        };
        if let Some(target) = &entry.key.target
            && let Some(of_target) = self.by_target.get_mut(target)
        {
            of_target.remove(&tsih);
            if of_target.is_empty() {
                self.by_target.remove(target);
            }
        }
        self.by_key.remove(&(entry.key, tsih));
    }

    /// The next handle that is free; 0 names no session.
    fn free_tsih(&mut self) -> Option<u16> {
        let mut candidates = (1..=u16::MAX).map(|step| self.last_tsih.wrapping_add(step));
        let free = candidates.find(|tsih| *tsih != 0 && !self.by_tsih.contains_key(tsih))?;
        self.last_tsih = free;
        Some(free)
    }
}

impl<V> Drop for Seat<V> {
    fn drop(&mut self) {
        if let Some(asker) = &self.asker {
            for unit in asker.export.units().0.values() {
                unit.nexus_lost(&asker.nexus);
            }
        }
        self.table
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(self.tsih);
        self.gone.cancel();
    }
}
