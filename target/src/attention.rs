//! Unit attention conditions of one nexus (SAM-5 §5.14): what an initiator must be told before anything else.

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
    pending: Mutex<Vec<(u16, Sense)>>,
}

impl Attention {
    /// A new nexus: power on, for every unit.
    pub(crate) fn at_login(units: impl Iterator<Item = u16>) -> Self {
        let pending: Vec<_> = units.map(|unit| (unit, Sense::POWER_ON_OR_RESET)).collect();
        Self {
            any: AtomicBool::new(!pending.is_empty()),
            pending: Mutex::new(pending),
        }
    }

    /// Adds a condition, unless it is pending already.
    pub(crate) fn raise(&self, unit: u16, sense: Sense) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let room =
            pending.iter().filter(|(other, _)| *other == unit).count() < MAX_PENDING_PER_UNIT;
        if room && !pending.contains(&(unit, sense)) {
            pending.push((unit, sense));
        }
        self.any.store(true, Ordering::Release);
    }

    /// The oldest condition of a unit; it counts as told.
    pub(crate) fn take(&self, unit: u16) -> Option<Sense> {
        if !self.any.load(Ordering::Acquire) {
            return None;
        }
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let at = pending.iter().position(|(other, _)| *other == unit)?;
        let (_, sense) = pending.remove(at);
        self.any.store(!pending.is_empty(), Ordering::Release);
        Some(sense)
    }
}

#[cfg(test)]
mod tests {
    use iscsi_proto::scsi::Sense;

    use super::Attention;

    #[test]
    fn each_condition_is_told_once() {
        let attention = Attention::at_login([0, 3].into_iter());
        attention.raise(3, Sense::DEVICE_RESET);
        attention.raise(3, Sense::DEVICE_RESET);
        assert_eq!(attention.take(3), Some(Sense::new(6, 0x29, 0)));
        assert_eq!(attention.take(3), Some(Sense::new(6, 0x29, 3)));
        assert_eq!(attention.take(3), None);
        assert_eq!(attention.take(0), Some(Sense::new(6, 0x29, 0)));
        assert_eq!(attention.take(0), None);
        attention.raise(0, Sense::CAPACITY_CHANGED);
        assert_eq!(attention.take(0), Some(Sense::new(6, 0x2a, 9)));
    }
}
