//! Nexuses, orders and short names for what tests of reservations tell stories of.

use std::collections::BTreeSet;

use iscsi_proto::scsi::Sense;
use iscsi_proto::scsi::persistent::ReservationType;

use super::order::{Change, Moving, Order, Registering};
use super::persistent::Persistent;
use crate::failure::Failure;
use crate::sessions::ItNexus;

/// A nexus of its own for each number.
pub(super) fn nexus(number: u8) -> ItNexus {
    ItNexus {
        initiator: format!("iqn.2001-04.com.example:{number}").parse().unwrap(),
        isid: [0, 2, 0x3d, 0, 0, number],
        relative_port: 1,
    }
}

pub(super) fn nexuses(numbers: &[u8]) -> BTreeSet<ItNexus> {
    numbers.iter().map(|number| nexus(*number)).collect()
}

/// REGISTER.
pub(super) fn register(key: u64, new_key: u64) -> Order {
    Order::Register(Registering {
        key: Some(key),
        new_key,
        others: None,
        persist: false,
    })
}

/// REGISTER with SPEC_I_PT.
pub(super) fn register_others(key: u64, new_key: u64, others: &[u8]) -> Order {
    Order::Register(Registering {
        key: Some(key),
        new_key,
        others: Some(others.iter().map(|number| nexus(*number)).collect()),
        persist: false,
    })
}

/// REGISTER AND IGNORE EXISTING KEY.
pub(super) fn register_and_ignore(new_key: u64) -> Order {
    Order::Register(Registering {
        key: None,
        new_key,
        others: None,
        persist: false,
    })
}

/// REGISTER AND IGNORE EXISTING KEY with APTPL.
pub(super) fn register_for_good(new_key: u64) -> Order {
    Order::Register(Registering {
        key: None,
        new_key,
        others: None,
        persist: true,
    })
}

pub(super) fn reserve(key: u64, kind: ReservationType) -> Order {
    Order::Reserve {
        key,
        kind: Ok(kind),
    }
}

pub(super) fn release(key: u64, kind: ReservationType) -> Order {
    Order::Release {
        key,
        kind: Ok(kind),
    }
}

pub(super) fn preempt(key: u64, victims: u64, kind: ReservationType) -> Order {
    Order::Preempt {
        key,
        victims,
        kind: Ok(kind),
        abort: false,
    }
}

pub(super) fn preempt_and_abort(key: u64, victims: u64, kind: ReservationType) -> Order {
    Order::Preempt {
        key,
        victims,
        kind: Ok(kind),
        abort: true,
    }
}

/// REGISTER AND MOVE.
pub(super) fn move_to(key: u64, new_key: u64, to: u8, unregister: bool) -> Order {
    Order::Move(Moving {
        key,
        new_key,
        to: nexus(to),
        unregister,
        persist: false,
    })
}

/// Registrations that change with every order.
#[derive(Debug, Default)]
pub(super) struct Story {
    pub(super) now: Persistent,
}

impl Story {
    /// Nexuses that are registered with these keys.
    pub(super) fn of(registered: &[(u8, u64)]) -> Self {
        let mut story = Self::default();
        for (number, key) in registered {
            story.tell(*number, register(0, *key));
        }
        story
    }

    /// An order that succeeds, and whom it has told what.
    pub(super) fn tell(&mut self, number: u8, order: Order) -> Vec<([u8; 3], BTreeSet<ItNexus>)> {
        let notices = self.change(number, order).notices;
        let codes = |sense: Sense| [sense.key, sense.asc, sense.ascq];
        let notices = notices.into_iter();
        notices.map(|(sense, whom)| (codes(sense), whom)).collect()
    }

    /// An order that succeeds and changes something.
    pub(super) fn change(&mut self, number: u8, order: Order) -> Change {
        let verdict = self.now.obey(&nexus(number), &order);
        let change = verdict.unwrap().expect("something changes");
        self.now = change.next.clone();
        change
    }

    /// An order that succeeds and leaves everything as it is.
    pub(super) fn idle(&self, number: u8, order: Order) {
        assert_eq!(self.now.obey(&nexus(number), &order), Ok(None));
    }

    /// An order that is refused with RESERVATION CONFLICT.
    pub(super) fn conflict(&self, number: u8, order: Order) {
        let verdict = self.now.obey(&nexus(number), &order);
        assert_eq!(verdict, Err(Failure::Conflict));
    }

    /// An order that is refused with CHECK CONDITION; the last six bytes of the sense data.
    pub(super) fn refused(&self, number: u8, order: Order) -> Vec<u8> {
        match self.now.obey(&nexus(number), &order) {
            Err(Failure::Check(sense)) => sense.to_fixed_bytes()[12..].to_vec(),
            other => panic!("{other:?}"),
        }
    }

    /// The keys of these nexuses; zero where there is none.
    pub(super) fn keys<const N: usize>(&self, numbers: [u8; N]) -> [u64; N] {
        numbers.map(|number| self.now.key_of(&nexus(number)).unwrap_or(0))
    }

    /// Who of the nexuses 0 to 9 holds the reservation, and its type.
    pub(super) fn holders(&self) -> (Vec<u8>, Option<u8>) {
        let holders = (0..10).filter(|number| self.now.is_holder(&nexus(*number)));
        let kind = self.now.reservation.as_ref().map(|held| held.kind().code());
        (holders.collect(), kind)
    }
}
