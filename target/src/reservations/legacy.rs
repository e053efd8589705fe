//! RESERVE and RELEASE (SPC-2 §7.21, §7.16), beside persistent reservations (SPC-4 §5.13.3, with CRH).

use super::State;
use crate::sessions::ItNexus;

impl State {
    /// RESERVE is not refused.
    pub(super) fn may_reserve(&self, nexus: &ItNexus) -> bool {
        match &self.legacy {
            Some(holder) => holder == nexus,
            None => self.may_release(nexus),
        }
    }

    /// RELEASE is not refused. Somebody else's reservation is no reason: it just stays.
    pub(super) fn may_release(&self, nexus: &ItNexus) -> bool {
        self.persistent.registrations.is_empty() || self.is_privileged(nexus)
    }

    /// RESERVE of a nexus that may.
    pub(super) fn reserve(&mut self, nexus: &ItNexus) {
        // With a persistent reservation nothing more is reserved.
        if self.persistent.registrations.is_empty() {
            self.legacy = Some(nexus.clone());
        }
    }

    /// RELEASE of a nexus, or its end.
    pub(super) fn release(&mut self, nexus: &ItNexus) {
        if self.legacy.as_ref() == Some(nexus) {
            self.legacy = None;
        }
    }

    /// A persistent reservation is in force and does not restrict the nexus.
    fn is_privileged(&self, nexus: &ItNexus) -> bool {
        self.persistent.reservation.is_some() && self.persistent.restriction(nexus).is_none()
    }
}
