//! Who sends a command, and whom else the command may concern.

use std::sync::Arc;

use iscsi_proto::scsi::Sense;

use crate::exports::Served;
use crate::sessions::{ItNexus, Sessions, Whom};

/// The session that commands come from, as a logical unit sees it.
#[derive(Debug)]
pub(crate) struct Asker<V> {
    pub(crate) nexus: ItNexus,
    pub(crate) export: Arc<Served<V>>,
    pub(crate) sessions: Arc<Sessions>,
}

impl<V> Asker<V> {
    /// Raises a unit attention condition for sessions of the same target.
    pub(crate) fn raise(&self, unit: u16, whom: Whom<'_>, sense: Sense) {
        self.sessions
            .raise(&self.export.port.target, unit, whom, sense);
    }
}
