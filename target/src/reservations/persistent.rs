//! Registrations and the reservation of a unit (SPC-4 §5.13), without locks and files, and what PERSISTENT RESERVE IN
//! tells of them.

use std::collections::BTreeMap;

use iscsi_proto::scsi::persistent::{
    Capabilities, FullStatus, Held, Keys, Registrant, ReservationReport, ReservationType,
    TransportId,
};

use crate::sessions::ItNexus;

/// Registrations of one unit; one more is refused (SPC-4 §5.13.7).
pub(crate) const MAX_REGISTRATIONS: usize = 1024;

/// Registrations, and the reservation that one of them, or all of them hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Persistent {
    /// The key of each registered nexus; never zero.
    pub(super) registrations: BTreeMap<ItNexus, u64>,
    pub(super) reservation: Option<Reservation>,
    /// Counts changes of registrations since the start (PRGENERATION).
    pub(super) generation: u32,
    /// Registrations and the reservation shall survive the loss of power (APTPL of the last registration).
    pub(super) persists: bool,
    /// They can, since there is a file to keep them in.
    pub(super) can_persist: bool,
}

/// A reservation of the whole unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reservation {
    kind: ReservationType,
    /// None where all registrants are holders.
    holder: Option<ItNexus>,
}

impl Reservation {
    /// A reservation that `nexus` asked for.
    pub(super) fn new(kind: ReservationType, nexus: &ItNexus) -> Self {
        Self {
            kind,
            holder: (!kind.all_registrants()).then(|| nexus.clone()),
        }
    }

    pub(super) fn kind(&self) -> ReservationType {
        self.kind
    }

    /// The one nexus that holds it, if not all registrants do.
    pub(super) fn holder(&self) -> Option<&ItNexus> {
        self.holder.as_ref()
    }
}

impl Persistent {
    /// The key that a nexus is registered with.
    pub(super) fn key_of(&self, nexus: &ItNexus) -> Option<u64> {
        self.registrations.get(nexus).copied()
    }

    /// The nexus holds the reservation, alone or as one of all registrants (SPC-4 §5.13.10).
    pub(super) fn is_holder(&self, nexus: &ItNexus) -> bool {
        self.reservation
            .as_ref()
            .is_some_and(|reservation| match reservation.holder() {
                Some(holder) => holder == nexus,
                None => self.registrations.contains_key(nexus),
            })
    }

    /// What the reservation forbids this nexus; none if it restricts it in nothing.
    pub(super) fn restriction(&self, nexus: &ItNexus) -> Option<ReservationType> {
        let kind = self.reservation.as_ref()?.kind();
        let admitted = kind.admits_registrants() && self.registrations.contains_key(nexus);
        (!admitted && !self.is_holder(nexus)).then_some(kind)
    }

    /// READ KEYS.
    pub(super) fn keys(&self) -> Keys {
        Keys {
            generation: self.generation,
            keys: self.registrations.values().copied().collect(),
        }
    }

    /// READ RESERVATION.
    pub(super) fn report(&self) -> ReservationReport {
        let held = self.reservation.as_ref().map(|reservation| Held {
            // Where all registrants are holders there is no one key to name.
            key: reservation
                .holder()
                .and_then(|holder| self.key_of(holder))
                .unwrap_or(0),
            kind: reservation.kind(),
        });
        ReservationReport {
            generation: self.generation,
            held,
        }
    }

    /// REPORT CAPABILITIES.
    pub(super) fn capabilities(&self) -> Capabilities {
        Capabilities {
            compatible: true,
            specify_initiators: true,
            // A unit is behind one port, so all ports are that one.
            all_ports: true,
            can_persist: self.can_persist,
            persists: self.persists,
            allow_commands: ALLOW_COMMANDS,
        }
    }

    /// READ FULL STATUS.
    pub(super) fn full_status(&self) -> FullStatus {
        let kind = self.reservation.as_ref().map(Reservation::kind);
        let registrants = self.registrations.iter().map(|(nexus, key)| Registrant {
            key: *key,
            all_ports: false,
            holds: kind.filter(|_| self.is_holder(nexus)),
            relative_port: nexus.relative_port,
            initiator: TransportId::Port(nexus.initiator.clone(), nexus.isid),
        });
        FullStatus {
            generation: self.generation,
            registrants: registrants.collect(),
        }
    }
}

/// TEST UNIT READY gets through reservations of others, and what only tells about the unit gets through Write
/// Exclusive ones: `rules` is the whole table (SPC-4 §6.15.4, ALLOW COMMANDS).
const ALLOW_COMMANDS: u8 = 0b011;
