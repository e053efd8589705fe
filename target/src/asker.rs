//! Who sends a command, and whom else the command may concern.

use std::sync::Arc;

use iscsi_proto::scsi::Sense;
use iscsi_proto::wire::lun::Lun;
use tokio_util::task::TaskTracker;

use crate::exports::{Served, Units};
use crate::sessions::{ItNexus, Sessions, Whom};
use crate::unit::LogicalUnit;

/// The session that commands come from, as a logical unit sees it.
#[derive(Debug)]
pub(crate) struct Asker<V> {
    pub(crate) nexus: ItNexus,
    pub(crate) export: Arc<Served<V>>,
    pub(crate) sessions: Arc<Sessions>,
    /// The units of the export as the session sees them.
    pub(crate) units: Arc<Units<V>>,
    changes: u64,
}

impl<V> Asker<V> {
    pub(crate) fn new(nexus: ItNexus, export: Arc<Served<V>>, sessions: Arc<Sessions>) -> Self {
        let (units, changes) = export.units();
        Self {
            nexus,
            export,
            sessions,
            units,
            changes,
        }
    }

    /// The unit that a command names.
    pub(crate) fn unit(&self, lun: Lun) -> Option<&LogicalUnit<V>> {
        let number = lun.number()?;
        self.units.get(&number).map(|unit| &**unit)
    }

    /// The same asker with the units as they are now, if they are others.
    pub(crate) fn renewed(&self) -> Option<Self> {
        let other = self.export.changes() != self.changes;
        other.then(|| {
            let (export, sessions) = (Arc::clone(&self.export), Arc::clone(&self.sessions));
            Self::new(self.nexus.clone(), export, sessions)
        })
    }

    /// Raises a unit attention condition for sessions of the same target.
    pub(crate) fn raise(&self, unit: u16, whom: Whom<'_>, sense: Sense) {
        self.sessions
            .raise(&self.export.port.target, unit, whom, sense);
    }

    /// Takes the tasks of other sessions of the same target away from a unit, without an answer; who lost one is told
    /// `cleared`. The tracker is empty when none of them touches the volume any more. The asker's own tasks stay.
    ///
    /// An order comes before the conditions that are raised with it: who is told of a condition has lost what it sent
    /// before, and nothing that it sends then.
    pub(crate) fn order_purge(
        &self,
        unit: u16,
        whom: Whom<'_>,
        cleared: Option<Sense>,
        tracker: &TaskTracker,
    ) {
        let target = &self.export.port.target;
        self.sessions
            .order_purge(target, Some(&self.nexus), unit, whom, cleared, tracker);
    }
}
