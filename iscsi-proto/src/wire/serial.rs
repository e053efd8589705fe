//! Serial number arithmetic (RFC 1982) for CmdSN, StatSN, DataSN and R2TSN (RFC 7143 §4.2.2.1).

use std::fmt;
use std::ops::Add;

/// A 32-bit serial number. It wraps, so it has no total order: compare with [`Serial::lt`] and its kin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Serial(pub u32);

impl Serial {
    /// The number after this one.
    pub fn next(self) -> Self {
        self + 1
    }

    /// How many steps lead from this number up to `later`, going around if need be.
    pub fn distance(self, later: Self) -> u32 {
        later.0.wrapping_sub(self.0)
    }

    /// True if this number comes before `other`.
    pub fn lt(self, other: Self) -> bool {
        let ahead = self.distance(other);
        ahead != 0 && ahead < HALF
    }

    /// True if this number comes before `other` or is the same.
    pub fn le(self, other: Self) -> bool {
        self == other || self.lt(other)
    }

    /// True if this number comes after `other`.
    pub fn gt(self, other: Self) -> bool {
        other.lt(self)
    }

    /// True if this number comes after `other` or is the same.
    pub fn ge(self, other: Self) -> bool {
        other.le(self)
    }
}

impl Add<u32> for Serial {
    type Output = Self;

    fn add(self, steps: u32) -> Self {
        Self(self.0.wrapping_add(steps))
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Numbers this far apart have no order (RFC 1982 §3.2).
const HALF: u32 = 0x8000_0000;

#[cfg(test)]
mod tests {
    use super::Serial;
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    #[test]
    fn order_survives_the_wrap() {
        let last = Serial(0xffff_ffff);
        assert_eq!(last.next(), Serial(0));
        assert!(last.lt(Serial(0)) && Serial(0).gt(last));
        assert!(!Serial(0).lt(last) && !last.ge(Serial(0)));
        assert_eq!(last.distance(Serial(4)), 5);
    }

    #[test]
    fn numbers_half_the_circle_apart_have_no_order() {
        let (one, other) = (Serial(1), Serial(0x8000_0001));
        assert!(!one.lt(other) && !other.lt(one) && !one.le(other) && !other.ge(one));
    }

    proptest! {
        #[test]
        fn a_step_forward_is_later(start in any::<u32>(), steps in 1u32..0x8000_0000) {
            let (start, end) = (Serial(start), Serial(start) + steps);
            prop_assert!(start.lt(end) && start.le(end) && end.gt(start) && end.ge(start));
            prop_assert!(!end.lt(start) && !end.le(start));
            prop_assert_eq!(start.distance(end), steps);
        }
    }
}
