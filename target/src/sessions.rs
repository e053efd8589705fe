//! Who is logged in: handles, reinstatement, limits (RFC 7143 §6.3.1, §6.3.5).

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use iscsi_proto::login::{Identity, LoginStatus};
use iscsi_proto::name::IscsiName;
use iscsi_proto::params::Params;
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

/// What makes two logins the same session: the initiator port and the target port (RFC 7143 §4.4.3). A discovery
/// session need not name a target; then the portal takes its place (RFC 7143 §7.4.2.1).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    initiator: IscsiName,
    target: Option<IscsiName>,
    isid: Isid,
    portal: Option<SocketAddr>,
}

/// Who asks for a seat.
#[derive(Debug)]
pub(crate) struct Guest {
    pub(crate) key: Key,
    pub(crate) peer: SocketAddr,
    /// The account that the initiator has proven to be.
    pub(crate) account: Option<String>,
    /// The session whose connection is to be replaced; 0 for a new session.
    pub(crate) tsih: u16,
    /// The connection.
    pub(crate) cid: u16,
}

impl Guest {
    pub(crate) fn new(identity: &Identity, peer: SocketAddr, account: Option<String>) -> Self {
        let key = Key {
            initiator: identity.initiator_name.clone(),
            target: identity.target_name.clone(),
            isid: identity.isid,
            portal: None,
        };
        Self {
            key,
            peer,
            account,
            tsih: identity.tsih,
            cid: identity.cid,
        }
    }

    /// Who came in by this portal.
    pub(crate) fn at(mut self, portal: SocketAddr) -> Self {
        self.key.portal = self.key.target.is_none().then_some(portal);
        self
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
    /// How long the answer to a reset, or to a preemption, waits for writes that are under way.
    grace: Duration,
}

#[derive(Debug, Default)]
struct Table {
    by_tsih: BTreeMap<u16, Entry>,
    /// Several sessions have the same key while old ones come to their end.
    by_key: BTreeSet<(Key, u16)>,
    by_target: BTreeMap<IscsiName, BTreeSet<u16>>,
    last_tsih: u16,
    last_owner: u64,
}

#[derive(Debug)]
struct Entry {
    key: Key,
    nexus: ItNexus,
    peer: SocketAddr,
    account: Option<String>,
    /// The seat that the session has now: a connection that is replaced leaves its seat to the next.
    owner: u64,
    /// What was agreed upon, and on which connection, once the login is over.
    operational: Option<(u16, Params)>,
    /// Seats that the session had, until each is given up.
    former: Vec<CancellationToken>,
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
    /// Each is cancelled when a session, or a connection, that this one reinstates has ended.
    pub(crate) predecessors: Vec<CancellationToken>,
    owner: u64,
    gone: CancellationToken,
    table: Arc<Mutex<Table>>,
}

impl Sessions {
    pub(crate) fn new(limits: TargetLimits, grace: Duration) -> Self {
        Self {
            table: Arc::default(),
            limits,
            grace,
        }
    }

    /// What was agreed upon for the session whose connection somebody wants to replace (RFC 7143 §6.3.4).
    pub(crate) fn continued(&self, guest: &Guest) -> Result<Params, LoginStatus> {
        let table = self.lock();
        let (_, params) = table.replaceable(guest)?;
        Ok(params.clone())
    }

    /// Begins a session, or a connection of a session, and ends the one that it reinstates. Whoever asks has been
    /// authenticated.
    pub(crate) fn enter<V>(
        self: &Arc<Self>,
        guest: Guest,
        export: Option<Arc<Served<V>>>,
    ) -> Result<Seat<V>, LoginStatus> {
        let mut table = self.lock();
        let nexus = ItNexus {
            initiator: guest.key.initiator.clone(),
            isid: guest.key.isid,
            relative_port: export
                .as_ref()
                .map_or(0, |export| export.port.relative_port),
        };
        let asker =
            export.map(|export| Arc::new(Asker::new(nexus.clone(), export, Arc::clone(self))));
        let (tsih, predecessors) = if guest.tsih == 0 {
            let units = asker.iter().flat_map(|asker| asker.units.keys().copied());
            table.begin(guest, nexus, units, self.limits)?
        } else {
            (guest.tsih, table.take_over(&guest)?)
        };
        let entry = table
            .by_tsih
            .get(&tsih)
            .ok_or(LoginStatus::SESSION_DOES_NOT_EXIST)?;
        Ok(Seat {
            tsih,
            initiator: entry.nexus.initiator.clone(),
            asker,
            attention: Arc::clone(&entry.attention),
            orders: Arc::clone(&entry.orders),
            close: entry.close.clone(),
            predecessors,
            owner: entry.owner,
            gone: entry.gone.clone(),
            table: Arc::clone(&self.table),
        })
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

    /// Waits until the tasks of a purge have ended, but not for a volume that hangs: what hangs is left behind, keeps
    /// others off the blocks that it touches, and ends some day.
    pub(crate) fn purged(&self, tracker: TaskTracker) -> impl Future<Output = ()> + use<> {
        let grace = self.grace;
        async move {
            tracker.close();
            let _ = timeout(grace, tracker.wait()).await;
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

impl Table {
    /// Begins a session, and ends those of the same key; gives the handle, and what is cancelled when each has ended.
    fn begin(
        &mut self,
        guest: Guest,
        nexus: ItNexus,
        units: impl Iterator<Item = u16>,
        limits: TargetLimits,
    ) -> Result<(u16, Vec<CancellationToken>), LoginStatus> {
        let older: Vec<u16> = self.of_key(&guest.key).collect();
        self.check_accounts(&older, guest.account.as_deref())?;
        if older.is_empty() {
            self.check_room(&guest.key.initiator, limits)?;
        }
        let tsih = self.free_tsih().ok_or(LoginStatus::OUT_OF_RESOURCES)?;
        let predecessors = self.close_all(&older);
        let first_news = if predecessors.is_empty() {
            Sense::POWER_ON_OR_RESET
        } else {
            Sense::NEXUS_LOST
        };
        self.last_owner += 1;
        let entry = Entry {
            key: guest.key,
            nexus,
            peer: guest.peer,
            account: guest.account,
            owner: self.last_owner,
            operational: None,
            former: Vec::new(),
            close: CancellationToken::new(),
            gone: CancellationToken::new(),
            attention: Arc::new(Attention::at_login(units, first_news)),
            orders: Arc::default(),
        };
        self.insert(tsih, entry);
        Ok((tsih, predecessors))
    }

    /// Ends the connection of a session, and lets the session go on with another; gives what is cancelled when each
    /// former seat is given up.
    fn take_over(&mut self, guest: &Guest) -> Result<Vec<CancellationToken>, LoginStatus> {
        self.replaceable(guest)?;
        self.check_accounts(&[guest.tsih], guest.account.as_deref())?;
        self.last_owner += 1;
        let owner = self.last_owner;
        let entry = self
            .by_tsih
            .get_mut(&guest.tsih)
            .ok_or(LoginStatus::SESSION_DOES_NOT_EXIST)?;
        entry.close.cancel();
        entry.former.retain(|gone| !gone.is_cancelled());
        entry.former.push(entry.gone.clone());
        entry.owner = owner;
        entry.peer = guest.peer;
        (entry.close, entry.gone) = Default::default();
        Ok(entry.former.clone())
    }

    /// The connection that somebody wants to replace. Another one beside it there cannot be (RFC 7143 §6.3.1).
    fn replaceable(&self, guest: &Guest) -> Result<&(u16, Params), LoginStatus> {
        let entry = self.by_tsih.get(&guest.tsih);
        let alive = |entry: &&Entry| entry.key == guest.key && !entry.close.is_cancelled();
        let entry = entry
            .filter(alive)
            .ok_or(LoginStatus::SESSION_DOES_NOT_EXIST)?;
        match &entry.operational {
            // Only a session that is operational can be given another connection (RFC 7143 §6.3.3).
            None => Err(LoginStatus::SESSION_DOES_NOT_EXIST),
            Some((cid, _)) if *cid != guest.cid || guest.key.target.is_none() => {
                Err(LoginStatus::TOO_MANY_CONNECTIONS)
            }
            Some(operational) => Ok(operational),
        }
    }

    /// Who has proven to be somebody is replaced by nobody else, whatever name that one claims.
    fn check_accounts(&self, older: &[u16], account: Option<&str>) -> Result<(), LoginStatus> {
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
            portal: None,
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
            [&entry.former[..], std::slice::from_ref(&entry.gone)].concat()
        };
        entries.flat_map(close).collect()
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

impl<V> Seat<V> {
    /// The login is over: from now on the connection can be replaced.
    pub(crate) fn is_operational(&self, cid: u16, params: Params) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = table.owned_by(self) {
            entry.operational = Some((cid, params));
        }
    }
}

impl Table {
    /// The session of a seat, unless another seat has it by now.
    fn owned_by<V>(&mut self, seat: &Seat<V>) -> Option<&mut Entry> {
        self.by_tsih
            .get_mut(&seat.tsih)
            .filter(|entry| entry.owner == seat.owner)
    }
}

impl<V> Drop for Seat<V> {
    fn drop(&mut self) {
        let table = Arc::clone(&self.table);
        let lock = || table.lock().unwrap_or_else(PoisonError::into_inner);
        // From here on nobody can take the session over; who reinstates it waits for the end of it.
        let owned = lock()
            .owned_by(self)
            .inspect(|entry| entry.close.cancel())
            .is_some();
        if owned {
            let asker = self.asker.iter();
            let units = asker.map(|asker| (asker, asker.export.units().0));
            for (asker, units) in units {
                units
                    .values()
                    .for_each(|unit| unit.nexus_lost(&asker.nexus));
            }
            lock().remove(self.tsih);
        }
        self.gone.cancel();
    }
}
