//! Unit attention conditions of one nexus (SAM-5 §5.14): what an initiator must be told before anything else.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use iscsi_proto::scsi::Sense;

/// Conditions of one unit that wait to be reported; further ones are dropped, as SAM-5 allows.
const MAX_PENDING_PER_UNIT: usize = 8;

/// The conditions that one session has not been told yet. Other sessions add to it.
#[derive(Debug)]
pub(crate) struct Attention {
    /// Spares the lock while there is nothing to tell.
    any: AtomicBool,
    pending: Mutex<BTreeMap<u16, Vec<Sense>>>,
}

impl Attention {
    /// A new nexus: the same condition for every unit.
    pub(crate) fn at_login(units: impl Iterator<Item = u16>, sense: Sense) -> Self {
        let pending: BTreeMap<_, _> = units.map(|unit| (unit, vec![sense])).collect();
        Self {
            any: AtomicBool::new(!pending.is_empty()),
            pending: Mutex::new(pending),
        }
    }

    /// Adds a condition, unless it is pending already. Resets are told first and at most one of them: what is the
    /// greater reset comprises the lesser ones (SAM-5 table 44).
    pub(crate) fn raise(&self, unit: u16, sense: Sense) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let of_unit = pending.entry(unit).or_default();
        match severity(sense) {
            Some(new) => {
                let known = of_unit.iter().copied().filter_map(severity).max();
                if known.is_none_or(|known| known < new) {
                    of_unit.retain(|old| severity(*old).is_none());
                    of_unit.insert(0, sense);
                    of_unit.truncate(MAX_PENDING_PER_UNIT);
                }
            }
            None if of_unit.len() < MAX_PENDING_PER_UNIT && !of_unit.contains(&sense) => {
                of_unit.push(sense);
            }
            None => {}
        }
        self.any.store(true, Ordering::Release);
    }

    /// Something waits to be told.
    pub(crate) fn is_pending(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    /// The first condition of a unit; it counts as told.
    pub(crate) fn take(&self, unit: u16) -> Option<Sense> {
        self.take_unless(unit, || false)
    }

    /// The same, but only a reset is told before a reservation conflict; all else waits until there is none
    /// (SAM-5 §5.3.3).
    pub(crate) fn take_unless(&self, unit: u16, conflicts: impl FnOnce() -> bool) -> Option<Sense> {
        if !self.is_pending() {
            return None;
        }
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let of_unit = pending.get_mut(&unit)?;
        let first = of_unit.first()?;
        if severity(*first).is_none() && conflicts() {
            return None;
        }
        let sense = (!of_unit.is_empty()).then(|| of_unit.remove(0));
        if of_unit.is_empty() {
            pending.remove(&unit);
        }
        self.any.store(!pending.is_empty(), Ordering::Release);
        sense
    }

    /// A condition counts as told for all units: the initiator has found out by itself.
    pub(crate) fn forget(&self, sense: Sense) {
        if !self.is_pending() {
            return;
        }
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.retain(|_, of_unit| {
            of_unit.retain(|pending| *pending != sense);
            !of_unit.is_empty()
        });
        self.any.store(!pending.is_empty(), Ordering::Release);
    }

    /// A unit is gone, and what there was to tell about it.
    pub(crate) fn forget_unit(&self, unit: u16) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.remove(&unit);
        self.any.store(!pending.is_empty(), Ordering::Release);
    }
}

/// How much a reset comprises; nothing for conditions that are no resets.
fn severity(sense: Sense) -> Option<u8> {
    match (sense.asc, sense.ascq) {
        // Power on, or any reset.
        (0x29, 0x00 | 0x01 | 0x04) => Some(4),
        // Hard reset.
        (0x29, 0x02) => Some(3),
        // Logical unit reset.
        (0x29, 0x03) => Some(2),
        // I_T nexus loss.
        (0x29, _) => Some(1),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use iscsi_proto::scsi::Sense;

    use super::Attention;

    const POWER_ON: Sense = Sense::new(6, 0x29, 0);
    const UNIT_RESET: Sense = Sense::new(6, 0x29, 3);
    const NEXUS_LOST: Sense = Sense::new(6, 0x29, 7);
    const CAPACITY: Sense = Sense::new(6, 0x2a, 9);
    const LUNS: Sense = Sense::new(6, 0x3f, 0x0e);

    fn told(attention: &Attention, unit: u16) -> Vec<Sense> {
        std::iter::from_fn(|| attention.take(unit)).collect()
    }

    #[test]
    fn each_condition_is_told_once() {
        let attention = Attention::at_login([0, 3].into_iter(), POWER_ON);
        attention.raise(3, CAPACITY);
        attention.raise(3, CAPACITY);
        assert_eq!(told(&attention, 3), [POWER_ON, CAPACITY]);
        assert_eq!(told(&attention, 0), [POWER_ON]);
        attention.raise(0, CAPACITY);
        assert_eq!(told(&attention, 0), [CAPACITY]);
        assert_eq!(told(&attention, 7), []);
    }

    #[test]
    fn a_reset_comes_first_and_comprises_lesser_ones() {
        let attention = Attention::at_login([0].into_iter(), NEXUS_LOST);
        attention.raise(0, CAPACITY);
        attention.raise(0, UNIT_RESET);
        attention.raise(0, NEXUS_LOST);
        assert_eq!(told(&attention, 0), [UNIT_RESET, CAPACITY]);
        attention.raise(0, POWER_ON);
        attention.raise(0, UNIT_RESET);
        assert_eq!(told(&attention, 0), [POWER_ON]);
    }

    #[test]
    fn what_is_known_is_not_told() {
        let attention = Attention::at_login([0, 1].into_iter(), POWER_ON);
        attention.raise(0, LUNS);
        attention.raise(1, LUNS);
        attention.forget(LUNS);
        attention.forget_unit(0);
        assert_eq!(told(&attention, 1), [POWER_ON]);
        assert_eq!(told(&attention, 0), []);
    }

    #[test]
    fn conditions_are_bounded_and_a_reset_always_has_room() {
        let attention = Attention::at_login(std::iter::empty(), POWER_ON);
        for ascq in 0..100 {
            attention.raise(0, Sense::new(6, 0x2a, ascq));
        }
        attention.raise(0, UNIT_RESET);
        let told = told(&attention, 0);
        assert_eq!((told.len(), told[0]), (8, UNIT_RESET));
    }

    /// SAM-5 §5.3.3: first a reset, then a reservation conflict, then any other condition.
    #[test]
    fn a_conflict_comes_between() {
        let attention = Attention::at_login([0].into_iter(), POWER_ON);
        attention.raise(0, Sense::new(6, 0x2a, 5));
        assert_eq!(attention.take_unless(0, || true), Some(POWER_ON));
        assert_eq!(attention.take_unless(0, || true), None);
        assert_eq!(
            attention.take_unless(0, || false),
            Some(Sense::new(6, 0x2a, 5))
        );
        assert_eq!(attention.take_unless(0, || unreachable!()), None);
    }
}
