//! What PERSISTENT RESERVE OUT does to registrations and the reservation (SPC-4 §5.13.7 to §5.13.11): an order and
//! what there is, in; what there is then, and who has to hear of it, out.

use std::collections::BTreeSet;

use iscsi_proto::scsi::persistent::ReservationType;
use iscsi_proto::scsi::{Sense, SenseData};

use super::persistent::{MAX_REGISTRATIONS, Persistent, Reservation};
use crate::failure::Failure;
use crate::sessions::ItNexus;

/// A PERSISTENT RESERVE OUT command with its parameter list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Register(Registering),
    Reserve {
        key: u64,
        kind: Kind,
    },
    Release {
        key: u64,
        kind: Kind,
    },
    Clear {
        key: u64,
    },
    Preempt {
        key: u64,
        /// The key of those who are preempted; zero for everybody else if all registrants are holders.
        victims: u64,
        kind: Kind,
        /// Their commands are aborted, too.
        abort: bool,
    },
    Move(Moving),
}

/// REGISTER, and REGISTER AND IGNORE EXISTING KEY.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Registering {
    /// The present key; none if it is ignored.
    pub(super) key: Option<u64>,
    /// The key from now on; zero ends the registration.
    pub(super) new_key: u64,
    /// Others to register as well; none if the list names nobody, not even no one.
    pub(super) others: Option<Vec<ItNexus>>,
    pub(super) persist: bool,
}

/// REGISTER AND MOVE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Moving {
    pub(super) key: u64,
    pub(super) new_key: u64,
    pub(super) to: ItNexus,
    /// The own registration ends.
    pub(super) unregister: bool,
    pub(super) persist: bool,
}

/// A scope and a type that can be reserved, or what is wrong with them: some orders never look at them.
pub(super) type Kind = Result<ReservationType, SenseData>;

/// What some have to be told.
pub(super) type Notice = (Sense, BTreeSet<ItNexus>);

/// What an order comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) next: Persistent,
    pub(super) notices: Vec<Notice>,
    /// Whose commands are aborted.
    pub(super) aborted: BTreeSet<ItNexus>,
}

impl Change {
    fn from(present: &Persistent) -> Self {
        Self {
            next: present.clone(),
            notices: Vec::new(),
            aborted: BTreeSet::new(),
        }
    }

    fn notify(&mut self, sense: Sense, whom: BTreeSet<ItNexus>) {
        if !whom.is_empty() {
            self.notices.push((sense, whom));
        }
    }

    /// A registration has changed (SPC-4 §6.15.2, PRGENERATION).
    fn count(mut self) -> Self {
        self.next.generation = self.next.generation.wrapping_add(1);
        self
    }
}

/// Nothing if the order asks for what is so already.
pub(super) type Verdict = Result<Option<Change>, Failure>;

impl Persistent {
    /// What an order of `nexus` comes to.
    pub(super) fn obey(&self, nexus: &ItNexus, order: &Order) -> Verdict {
        match order {
            Order::Register(registering) => self.register(nexus, registering),
            Order::Reserve { key, kind } => self.reserve(nexus, *key, *kind),
            Order::Release { key, kind } => self.release(nexus, *key, *kind),
            Order::Clear { key } => self.clear(nexus, *key).map(Some),
            Order::Preempt {
                key,
                victims,
                kind,
                abort,
            } => {
                self.verify(nexus, *key)?;
                let mut change = self.preempt(nexus, *victims, *kind)?;
                if !abort {
                    change.aborted.clear();
                }
                Ok(Some(change.count()))
            }
            Order::Move(moving) => self.move_to(nexus, moving).map(Some),
        }
    }

    /// All but REGISTER need a registration, and its key (SPC-4 §6.16.3).
    fn verify(&self, nexus: &ItNexus, key: u64) -> Result<(), Failure> {
        if self.key_of(nexus) == Some(key) {
            Ok(())
        } else {
            Err(Failure::Conflict)
        }
    }

    /// SPC-4 §5.13.7, the tables of register behaviors.
    fn register(&self, nexus: &ItNexus, order: &Registering) -> Verdict {
        let present = self.key_of(nexus);
        if order.key.is_some_and(|key| key != present.unwrap_or(0)) {
            return Err(Failure::Conflict);
        }
        if order.persist && !self.can_persist {
            return Err(SenseData::list_field(LIST_FLAGS, 0).into());
        }
        match (present, order.new_key) {
            (None, 0) => return Ok(None),
            (Some(_), _) if order.others.is_some() => {
                return Err(SenseData::list_field(LIST_FLAGS, 3).into());
            }
            _ => {}
        }
        let mut change = Change::from(self);
        change.next.persists = order.persist;
        if order.new_key == 0 {
            change.unregister(nexus);
            return Ok(Some(change.count()));
        }
        let registrations = &mut change.next.registrations;
        registrations.insert(nexus.clone(), order.new_key);
        for other in order.others.iter().flatten() {
            // Who is registered already keeps the key.
            registrations.entry(other.clone()).or_insert(order.new_key);
        }
        change.within_limit().map(|change| Some(change.count()))
    }

    /// SPC-4 §5.13.9.
    fn reserve(&self, nexus: &ItNexus, key: u64, kind: Kind) -> Verdict {
        self.verify(nexus, key)?;
        let Some(held) = &self.reservation else {
            let mut change = Change::from(self);
            change.next.reservation = Some(Reservation::new(kind?, nexus));
            return Ok(Some(change));
        };
        if self.is_holder(nexus) && kind? == held.kind() {
            Ok(None)
        } else {
            Err(Failure::Conflict)
        }
    }

    /// SPC-4 §5.13.11.2.
    fn release(&self, nexus: &ItNexus, key: u64, kind: Kind) -> Verdict {
        self.verify(nexus, key)?;
        let held = match &self.reservation {
            Some(held) if self.is_holder(nexus) => held.kind(),
            _ => return Ok(None),
        };
        if kind? != held {
            return Err(Sense::INVALID_RELEASE.into());
        }
        let mut change = Change::from(self);
        change.next.reservation = None;
        if held.admits_registrants() {
            change.notify(Sense::RESERVATIONS_RELEASED, self.others(nexus));
        }
        Ok(Some(change))
    }

    /// SPC-4 §5.13.11.6.
    fn clear(&self, nexus: &ItNexus, key: u64) -> Result<Change, Failure> {
        self.verify(nexus, key)?;
        let mut change = Change::from(self);
        change.next.registrations.clear();
        change.next.reservation = None;
        change.notify(Sense::RESERVATIONS_PREEMPTED, self.others(nexus));
        Ok(change.count())
    }

    /// SPC-4 §5.13.11.4, the table of preempting actions.
    fn preempt(&self, nexus: &ItNexus, victims: u64, kind: Kind) -> Result<Change, Failure> {
        let holder = self.reservation.as_ref().map(Reservation::holder);
        match holder {
            Some(None) if victims == 0 => Ok(self.take_over(nexus, self.others(nexus), kind?)),
            Some(Some(holder)) if self.key_of(holder) == Some(victims) => {
                let mut removed = self.with_key(victims);
                removed.remove(nexus);
                Ok(self.take_over(nexus, removed, kind?))
            }
            _ if victims == 0 => Err(SenseData::list_field(LIST_ACTION_KEY, 7).into()),
            _ => self.remove(nexus, self.with_key(victims)),
        }
    }

    /// The reservation passes to `nexus`, and the registrations of `removed` end.
    fn take_over(
        &self,
        nexus: &ItNexus,
        removed: BTreeSet<ItNexus>,
        kind: ReservationType,
    ) -> Change {
        let mut change = Change::from(self);
        let next = &mut change.next;
        next.registrations
            .retain(|other, _| !removed.contains(other));
        next.reservation = Some(Reservation::new(kind, nexus));
        let others = next.others(nexus);
        change.aborted = removed.clone();
        change.notify(Sense::REGISTRATIONS_PREEMPTED, removed);
        if self.reservation.as_ref().map(Reservation::kind) != Some(kind) {
            change.notify(Sense::RESERVATIONS_RELEASED, others);
        }
        change
    }

    /// The registrations of `removed` end, which may be the own one; the reservation stays as it is.
    fn remove(&self, nexus: &ItNexus, mut removed: BTreeSet<ItNexus>) -> Result<Change, Failure> {
        if removed.is_empty() {
            return Err(Failure::Conflict);
        }
        let mut change = Change::from(self);
        let next = &mut change.next;
        next.registrations
            .retain(|other, _| !removed.contains(other));
        if next.registrations.is_empty() {
            // Without registrants there is none of all registrants that holds it.
            next.reservation = None;
        }
        removed.remove(nexus);
        change.aborted = removed.clone();
        change.notify(Sense::REGISTRATIONS_PREEMPTED, removed);
        Ok(change)
    }

    /// SPC-4 §5.13.8.
    fn move_to(&self, nexus: &ItNexus, order: &Moving) -> Result<Change, Failure> {
        self.verify(nexus, order.key)?;
        let Some(held) = &self.reservation else {
            return Err(SenseData::cdb_field(CDB_ACTION, 4).into());
        };
        if held.holder() != Some(nexus) {
            return Err(Failure::Conflict);
        }
        if order.new_key == 0 {
            return Err(SenseData::list_field(LIST_ACTION_KEY, 7).into());
        }
        if order.to == *nexus {
            return Err(SenseData::list_field(LIST_MOVE_ID, 7).into());
        }
        if order.persist && !self.can_persist {
            return Err(SenseData::list_field(LIST_MOVE_FLAGS, 0).into());
        }
        let mut change = Change::from(self);
        let next = &mut change.next;
        next.persists = order.persist;
        next.registrations.insert(order.to.clone(), order.new_key);
        next.reservation = Some(Reservation::new(held.kind(), &order.to));
        if order.unregister {
            next.registrations.remove(nexus);
        }
        change.within_limit().map(Change::count)
    }

    /// Everybody else who is registered.
    fn others(&self, nexus: &ItNexus) -> BTreeSet<ItNexus> {
        let others = self.registrations.keys().filter(|other| *other != nexus);
        others.cloned().collect()
    }

    fn with_key(&self, wanted: u64) -> BTreeSet<ItNexus> {
        let registered = self.registrations.iter();
        let found = registered.filter(|(_, key)| **key == wanted);
        found.map(|(nexus, _)| nexus.clone()).collect()
    }
}

impl Change {
    /// Ends a registration, and the reservation with it if nobody else holds it (SPC-4 §5.13.11.3).
    fn unregister(&mut self, nexus: &ItNexus) {
        let was_holder = self.next.is_holder(nexus);
        self.next.registrations.remove(nexus);
        let Some(held) = &self.next.reservation else {
            return;
        };
        let kind = held.kind();
        if !was_holder || (kind.all_registrants() && !self.next.registrations.is_empty()) {
            return;
        }
        self.next.reservation = None;
        if kind.admits_registrants() {
            let rest = self.next.others(nexus);
            self.notify(Sense::RESERVATIONS_RELEASED, rest);
        }
    }

    fn within_limit(self) -> Result<Self, Failure> {
        if self.next.registrations.len() > MAX_REGISTRATIONS {
            Err(Sense::INSUFFICIENT_REGISTRATION_RESOURCES.into())
        } else {
            Ok(self)
        }
    }
}

/// Where sense data points in the command and in the parameter lists (SPC-4 §6.16).
const CDB_ACTION: usize = 1;
const LIST_ACTION_KEY: usize = 8;
const LIST_FLAGS: usize = 20;
const LIST_MOVE_FLAGS: usize = 17;
const LIST_MOVE_ID: usize = 24;

#[cfg(test)]
#[path = "order_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "model_tests.rs"]
mod model;
