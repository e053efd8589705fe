//! An iSCSI target: serves volumes to any initiator.
//!
//! A [`Target`] holds [`Export`]s: target names with logical units, each a volume. [`Target::serve`] accepts
//! connections on a listener; each connection is one task that drives one
//! [`TargetSession`](iscsi_proto::session::TargetSession) and executes in place what needs no waiting. Exports come
//! and go at run time. Nothing that an initiator sends makes this crate panic or grow beyond its limits.
#![forbid(unsafe_code)]

mod access;
mod asker;
mod attention;
mod budget;
mod complaints;
mod connection;
mod exports;
mod failure;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod inquiry;
mod lobby;
mod metrics;
mod nexus;
mod orders;
mod portal;
mod reservations;
mod sessions;
mod tasks;
mod transmit;
mod unit;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use iscsi_proto::discovery::TargetRecord;
use iscsi_proto::login::{Identity, LoginStatus};
use iscsi_proto::name::IscsiName;
use iscsi_proto::params::SessionType;
use iscsi_proto::scsi::Sense;
use iscsi_proto::session::TargetConfig;
use tokio_util::task::TaskTracker;
use vmthunder_volume::Volume;

use crate::access::LoginFailures;
pub use crate::access::{
    AccessRules, ChapRules, ChapRulesError, DerivedChap, NamePattern, Network, NetworkError,
    PatternError, PortalAddress, PortalAddressError, Redirect,
};
use crate::budget::Budget;
use crate::complaints::Complaints;
pub use crate::exports::{Export, ExportError};
use crate::exports::{Exports, Served};
use crate::lobby::Lobby;
use crate::metrics::Counters;
pub use crate::metrics::TargetStats;
use crate::portal::Portals;
pub use crate::sessions::SessionSummary;
use crate::sessions::{Sessions, Whom};
pub use crate::unit::{Unit, UnitIdentity};

/// How a target behaves.
#[derive(Clone, Debug)]
pub struct TargetOptions {
    /// The portal group of all portals of this target; not 0.
    pub portal_group_tag: u16,
    /// What each session is like.
    pub session: TargetConfig,
    /// Who may ask what exports there are. Redirects have no meaning here.
    pub discovery: AccessRules,
    /// What initiators may make grow, and how far.
    pub limits: TargetLimits,
    /// How long a connection that ends waits for writes that are under way.
    pub write_grace: Duration,
    /// How long initiators have to log out when the target stops.
    pub logout_grace: Duration,
    /// How long a discovery session may ask nothing: it cannot be pinged (RFC 7143 §7.4.3).
    pub discovery_grace: Duration,
    /// How long an initiator may take nothing of what it has asked for while all sessions together hold too much.
    pub stall_grace: Duration,
}

/// What the initiators of a target may make grow, all together, and how far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TargetLimits {
    /// Sessions at once; a login beyond is told that the target is out of resources.
    pub sessions: usize,
    /// Of these, sessions of one initiator name.
    pub sessions_per_initiator: usize,
    /// Connections at once that have not logged in yet. For one beyond, the oldest of whoever has most is closed.
    pub logins: usize,
    /// Bytes of read and write data held at once. Beyond, every session gets through with little at a time.
    pub bytes_in_flight: u64,
    /// Logical units of one export.
    pub units: usize,
}

impl Default for TargetOptions {
    fn default() -> Self {
        Self {
            portal_group_tag: 1,
            session: TargetConfig::default(),
            discovery: AccessRules::default(),
            limits: TargetLimits::default(),
            write_grace: Duration::from_secs(5),
            logout_grace: Duration::from_secs(2),
            discovery_grace: Duration::from_secs(60),
            stall_grace: Duration::from_secs(30),
        }
    }
}

impl Default for TargetLimits {
    fn default() -> Self {
        Self {
            sessions: 4096,
            sessions_per_initiator: 1024,
            logins: 512,
            bytes_in_flight: 1 << 30,
            units: 256,
        }
    }
}

/// Serves exports over iSCSI.
#[derive(Debug)]
pub struct Target<V> {
    options: TargetOptions,
    exports: Exports<V>,
    sessions: Arc<Sessions>,
    portals: Portals,
    lobby: Arc<Lobby>,
    budget: Arc<Budget>,
    failures: LoginFailures,
    counters: Counters,
    /// About initiators that break the rules.
    complaints: Complaints,
    /// About initiators that are turned away.
    refusals: Complaints,
}

impl<V: Volume> Target<V> {
    /// A target that exports nothing yet.
    pub fn new(options: TargetOptions) -> Arc<Self> {
        let (limits, grace) = (options.limits, options.session.limits.abort_grace);
        Arc::new(Self {
            exports: Exports::new(&options.discovery),
            options,
            sessions: Arc::new(Sessions::new(limits, grace)),
            portals: Portals::default(),
            lobby: Arc::new(Lobby::new(limits.logins)),
            budget: Arc::new(Budget::new(limits.bytes_in_flight)),
            failures: LoginFailures::default(),
            counters: Counters::default(),
            complaints: Complaints::default(),
            refusals: Complaints::default(),
        })
    }

    /// Offers an export to initiators from now on.
    pub fn export(&self, export: Export<V>) -> Result<(), ExportError> {
        let portal_group_tag = self.options.portal_group_tag;
        self.exports
            .add(export, portal_group_tag, self.options.limits.units)
    }

    /// Takes an export back and closes its sessions; false if there was none of this name.
    pub fn withdraw(&self, name: &IscsiName) -> bool {
        let found = self.exports.remove(name);
        self.sessions.close_target(name, Whom::All);
        found
    }

    /// Adds a unit to an export, and tells its initiators that there are others now (SPC-4 §6.33).
    pub fn add_unit(&self, name: &IscsiName, unit: Unit<V>) -> Result<(), ExportError> {
        let most = self.options.limits.units;
        self.exports.add_unit(name, unit, most)?;
        self.tell_of_units(name);
        Ok(())
    }

    /// Takes a unit out of an export and tells its initiators. Returns when no command touches its volume any more, or
    /// when it is no use waiting.
    pub async fn remove_unit(&self, name: &IscsiName, number: u16) -> Result<(), ExportError> {
        self.exports.remove_unit(name, number)?;
        let tracker = TaskTracker::new();
        let sessions = &self.sessions;
        sessions.order_purge(name, None, number, Whom::All, None, &tracker);
        sessions.forget_unit(name, number);
        self.tell_of_units(name);
        sessions.purged(tracker).await;
        Ok(())
    }

    /// The names of all exports, in order.
    pub fn names(&self) -> Vec<IscsiName> {
        self.exports.names()
    }

    /// A unit of an export has another size now: all its initiators are told (SBC-3 §4.7).
    pub fn resized(&self, name: &IscsiName, unit: u16) {
        let sense = Sense::CAPACITY_CHANGED;
        self.sessions.raise(name, unit, Whom::All, sense);
        self.sessions.announce(name, unit, sense);
    }

    /// Who is logged in.
    pub fn sessions(&self) -> Vec<SessionSummary> {
        self.sessions.summaries()
    }

    /// What was counted so far.
    pub fn stats(&self) -> TargetStats {
        self.counters
            .snapshot(self.sessions.count(), self.budget.used())
    }

    /// What somebody wants to log in to; nothing in a discovery session.
    fn exported(&self, identity: &Identity) -> Result<Option<Arc<Served<V>>>, LoginStatus> {
        match (identity.session_type, &identity.target_name) {
            (SessionType::Discovery, _) => Ok(None),
            (SessionType::Normal, None) => Err(LoginStatus::MISSING_PARAMETER),
            (SessionType::Normal, Some(name)) => {
                let export = self.exports.get(name).ok_or(LoginStatus::NOT_FOUND)?;
                Ok(Some(export))
            }
        }
    }

    /// The records of the exports that `wanted` chooses, all at every portal that the initiator can reach.
    fn records(
        &self,
        local: SocketAddr,
        wanted: impl Fn(&IscsiName, &Served<V>) -> bool,
    ) -> Vec<TargetRecord> {
        let tag = self.options.portal_group_tag;
        let portals = self.portals.reachable(local).into_iter();
        let addresses: Vec<_> = portals.map(|portal| (portal.to_string(), tag)).collect();
        let exports = self.exports.all().into_iter();
        let chosen = exports.filter(|(name, export)| wanted(name, export));
        chosen
            .map(|(name, _)| TargetRecord {
                name,
                addresses: addresses.clone(),
            })
            .collect()
    }

    fn tell_of_units(&self, name: &IscsiName) {
        let Some(export) = self.exports.get(name) else {
            return;
        };
        let (units, _) = export.units();
        let sense = Sense::REPORTED_LUNS_CHANGED;
        for unit in units.keys() {
            self.sessions.raise(name, *unit, Whom::All, sense);
        }
        if let Some(first) = units.keys().next() {
            self.sessions.announce(name, *first, sense);
        }
    }
}
