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
mod complaints;
mod connection;
mod exports;
mod failure;
mod inquiry;
mod metrics;
mod nexus;
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
use vmthunder_volume::Volume;

pub use crate::access::AccessRules;
use crate::complaints::Complaints;
use crate::exports::Exports;
pub use crate::exports::{Export, ExportError};
use crate::metrics::Counters;
pub use crate::metrics::TargetStats;
pub use crate::sessions::SessionSummary;
use crate::sessions::{Key, Seat, Sessions, Whom};
pub use crate::unit::{Unit, UnitIdentity};

/// How a target behaves.
#[derive(Clone, Debug)]
pub struct TargetOptions {
    /// The portal group of all portals of this target; not 0.
    pub portal_group_tag: u16,
    /// What each session is like.
    pub session: TargetConfig,
    /// Sessions at once.
    pub max_sessions: usize,
    /// Connections at once that have not logged in yet; more are closed at once.
    pub max_logins: usize,
    /// How long a connection that ends waits for writes that are under way.
    pub write_grace: Duration,
}

impl Default for TargetOptions {
    fn default() -> Self {
        Self {
            portal_group_tag: 1,
            session: TargetConfig::default(),
            max_sessions: 4096,
            max_logins: 512,
            write_grace: Duration::from_secs(5),
        }
    }
}

/// Serves exports over iSCSI.
#[derive(Debug)]
pub struct Target<V> {
    options: TargetOptions,
    exports: Exports<V>,
    sessions: Arc<Sessions>,
    counters: Counters,
    /// About initiators.
    complaints: Complaints,
}

impl<V: Volume> Target<V> {
    /// A target that exports nothing yet.
    pub fn new(options: TargetOptions) -> Arc<Self> {
        let sessions = Arc::new(Sessions::new(options.max_sessions));
        Arc::new(Self {
            options,
            exports: Exports::new(),
            sessions,
            counters: Counters::default(),
            complaints: Complaints::default(),
        })
    }

    /// Offers an export to initiators from now on.
    pub fn export(&self, export: Export<V>) -> Result<(), ExportError> {
        self.exports.add(export, self.options.portal_group_tag)
    }

    /// Takes an export back and closes its sessions; false if there was none of this name.
    pub fn withdraw(&self, name: &IscsiName) -> bool {
        let found = self.exports.remove(name);
        self.sessions.close_target(name);
        found
    }

    /// The names of all exports, in order.
    pub fn names(&self) -> Vec<IscsiName> {
        self.exports.names()
    }

    /// A unit of an export has another size now: all its initiators are told (SBC-3 §4.7).
    pub fn resized(&self, name: &IscsiName, unit: u16) {
        self.sessions
            .raise(name, unit, Whom::All, Sense::CAPACITY_CHANGED);
    }

    /// Who is logged in.
    pub fn sessions(&self) -> Vec<SessionSummary> {
        self.sessions.summaries()
    }

    /// What was counted so far.
    pub fn stats(&self) -> TargetStats {
        self.counters.snapshot(self.sessions.count())
    }

    /// Decides about a login and takes a seat for it.
    fn seat(&self, identity: &Identity, peer: SocketAddr) -> Result<Seat<V>, LoginStatus> {
        let export = match (identity.session_type, &identity.target_name) {
            (SessionType::Discovery, _) => None,
            (SessionType::Normal, None) => return Err(LoginStatus::MISSING_PARAMETER),
            (SessionType::Normal, Some(name)) => {
                Some(self.exports.get(name).ok_or(LoginStatus::NOT_FOUND)?)
            }
        };
        let key = Key::of(identity);
        if identity.tsih != 0 {
            return Err(self.sessions.refusal_to_join(&key, identity.tsih));
        }
        let seat = self.sessions.enter(key, peer, export.clone())?;
        // Whoever withdrew the export meanwhile may have missed this session.
        match &identity.target_name {
            Some(name) if export.is_some() && self.exports.get(name).is_none() => {
                Err(LoginStatus::TARGET_REMOVED)
            }
            _ => Ok(seat),
        }
    }

    /// The records of the exports that `wanted` chooses, all at the address that the initiator found us at.
    fn records(&self, local: SocketAddr, wanted: impl Fn(&IscsiName) -> bool) -> Vec<TargetRecord> {
        let addresses = vec![(local.to_string(), self.options.portal_group_tag)];
        let names = self.exports.names().into_iter().filter(wanted);
        names
            .map(|name| TargetRecord {
                name,
                addresses: addresses.clone(),
            })
            .collect()
    }
}
