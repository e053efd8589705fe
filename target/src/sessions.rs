//! Who is logged in: handles, reinstatement, limits (RFC 7143 §6.3.1, §6.3.5).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use iscsi_proto::login::{Identity, LoginStatus};
use iscsi_proto::name::IscsiName;
use iscsi_proto::scsi::Sense;
use iscsi_proto::wire::bhs::Isid;
use tokio_util::sync::CancellationToken;

use crate::asker::Asker;
use crate::attention::Attention;
use crate::exports::Served;

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
    Only(&'a ItNexus),
}

impl Whom<'_> {
    fn includes(self, nexus: &ItNexus) -> bool {
        match self {
            Self::All => true,
            Self::Others(one) => one != nexus,
            Self::Only(one) => one == nexus,
        }
    }
}

/// What makes two logins the same session: the initiator port and the target port (RFC 7143 §4.4.3). Discovery
/// sessions have no target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    initiator: IscsiName,
    isid: Isid,
    target: Option<IscsiName>,
}

impl Key {
    pub(crate) fn of(identity: &Identity) -> Self {
        let Identity {
            initiator_name,
            isid,
            target_name,
            ..
        } = identity;
        Self {
            initiator: initiator_name.clone(),
            isid: *isid,
            target: target_name.clone(),
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
    limit: usize,
}

#[derive(Debug, Default)]
struct Table {
    by_tsih: BTreeMap<u16, Entry>,
    last_tsih: u16,
}

#[derive(Debug)]
struct Entry {
    key: Key,
    nexus: ItNexus,
    peer: SocketAddr,
    close: CancellationToken,
    gone: CancellationToken,
    attention: Arc<Attention>,
}

/// A session's place at the target; giving it up ends the session for everybody else.
#[derive(Debug)]
pub(crate) struct Seat<V> {
    /// The session's handle.
    pub(crate) tsih: u16,
    /// What the session is logged in to; none in a discovery session.
    pub(crate) asker: Option<Arc<Asker<V>>>,
    /// What the initiator must be told.
    pub(crate) attention: Arc<Attention>,
    /// Cancelled when the session has to end.
    pub(crate) close: CancellationToken,
    /// Cancelled when the session that this one reinstates has ended; none if there was none.
    pub(crate) predecessor: Option<CancellationToken>,
    gone: CancellationToken,
    table: Arc<Mutex<Table>>,
}

impl Sessions {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            table: Arc::default(),
            limit,
        }
    }

    /// Begins a session, and ends the one that it reinstates.
    pub(crate) fn enter<V>(
        self: &Arc<Self>,
        key: Key,
        peer: SocketAddr,
        export: Option<Arc<Served<V>>>,
    ) -> Result<Seat<V>, LoginStatus> {
        let mut table = self.lock();
        let older = table
            .by_tsih
            .values()
            .find(|entry| entry.key == key && !entry.close.is_cancelled());
        let predecessor = older.map(|entry| {
            entry.close.cancel();
            entry.gone.clone()
        });
        if table.by_tsih.len() >= self.limit && predecessor.is_none() {
            return Err(LoginStatus::OUT_OF_RESOURCES);
        }
        let tsih = table.free_tsih().ok_or(LoginStatus::OUT_OF_RESOURCES)?;
        let attention = Arc::new(match &export {
            Some(served) => Attention::at_login(served.numbers()),
            None => Attention::at_login(std::iter::empty()),
        });
        let (close, gone) = (CancellationToken::new(), CancellationToken::new());
        let nexus = ItNexus {
            initiator: key.initiator.clone(),
            isid: key.isid,
            relative_port: export
                .as_ref()
                .map_or(0, |export| export.port.relative_port),
        };
        let asker = export.map(|export| {
            Arc::new(Asker {
                nexus: nexus.clone(),
                export,
                sessions: Arc::clone(self),
            })
        });
        let entry = Entry {
            key,
            nexus,
            peer,
            close: close.clone(),
            gone: gone.clone(),
            attention: Arc::clone(&attention),
        };
        table.by_tsih.insert(tsih, entry);
        Ok(Seat {
            tsih,
            asker,
            attention,
            close,
            predecessor,
            gone,
            table: Arc::clone(&self.table),
        })
    }

    /// Why a connection cannot join the session that it names: each has its one connection already.
    pub(crate) fn refusal_to_join(&self, key: &Key, tsih: u16) -> LoginStatus {
        match self.lock().by_tsih.get(&tsih) {
            Some(entry) if entry.key == *key => LoginStatus::TOO_MANY_CONNECTIONS,
            _ => LoginStatus::SESSION_DOES_NOT_EXIST,
        }
    }

    /// Ends all sessions of a target.
    pub(crate) fn close_target(&self, target: &IscsiName) {
        let table = self.lock();
        let entries = table
            .by_tsih
            .values()
            .filter(|entry| entry.key.target.as_ref() == Some(target));
        entries.for_each(|entry| entry.close.cancel());
    }

    /// Raises a unit attention condition in sessions of a target.
    pub(crate) fn raise(&self, target: &IscsiName, unit: u16, whom: Whom<'_>, sense: Sense) {
        let table = self.lock();
        let entries = table
            .by_tsih
            .values()
            .filter(|entry| entry.key.target.as_ref() == Some(target))
            .filter(|entry| whom.includes(&entry.nexus));
        entries.for_each(|entry| entry.attention.raise(unit, sense));
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
    /// The next handle that is free; 0 names no session.
    fn free_tsih(&mut self) -> Option<u16> {
        let candidates = (1..=u16::MAX).map(|step| self.last_tsih.wrapping_add(step));
        let free = candidates
            .into_iter()
            .find(|tsih| *tsih != 0 && !self.by_tsih.contains_key(tsih))?;
        self.last_tsih = free;
        Some(free)
    }
}

impl<V> Drop for Seat<V> {
    fn drop(&mut self) {
        if let Some(asker) = &self.asker {
            for unit in asker.export.units.values() {
                unit.nexus_lost(&asker.nexus);
            }
        }
        self.table
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .by_tsih
            .remove(&self.tsih);
        self.gone.cancel();
    }
}
