//! Logical unit numbers as they stand on the wire (SAM-5 §4.7; RFC 7143 §11.2.1.7).

use std::fmt;

/// A logical unit number: eight bytes, big endian. Any value survives; only some name a unit by a plain number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lun(pub u64);

impl Lun {
    /// The single-level form of a unit's number: peripheral device addressing up to 255, flat space addressing up to
    /// 16,383, extended flat space addressing above.
    pub fn from_number(number: u16) -> Self {
        let number = u64::from(number);
        if number <= PERIPHERAL_MAX {
            Self(number << 48)
        } else if number <= FLAT_MAX {
            Self((FLAT_METHOD | number) << 48)
        } else {
            Self((EXTENDED_FLAT << 56) | (number << 32))
        }
    }

    /// The unit's number, if this is a single-level form of one.
    pub fn number(self) -> Option<u16> {
        let (first, below) = (self.0 >> 48, self.0 & 0x0000_ffff_ffff_ffff);
        let number = match first >> 14 {
            0 if below == 0 && first <= PERIPHERAL_MAX => first,
            1 if below == 0 => first & FLAT_MAX,
            3 if first == EXTENDED_FLAT << 8 && below & 0xffff_ffff == 0 => below >> 32,
            _ => return None,
        };
        u16::try_from(number).ok()
    }
}

impl fmt::Display for Lun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.number() {
            Some(number) => number.fmt(f),
            None => write!(f, "{:#018x}", self.0),
        }
    }
}

const PERIPHERAL_MAX: u64 = 0xff;
const FLAT_MAX: u64 = 0x3fff;
const FLAT_METHOD: u64 = 0x4000;
/// Address method 3, length 1, extended address method 2: a number of 24 bits follows.
const EXTENDED_FLAT: u64 = 0xd2;

#[cfg(test)]
mod tests {
    use super::Lun;
    use proptest::prelude::{any, prop_assert_eq, proptest};

    /// RFC 7143 §11.2.1.7, with SAM-5 §4.7.7: where the number of a unit is within the eight bytes.
    #[test]
    fn numbers_take_the_form_that_fits() {
        assert_eq!(Lun::from_number(0).0, 0);
        assert_eq!(Lun::from_number(5).0, 0x0005_0000_0000_0000);
        assert_eq!(Lun::from_number(255).0, 0x00ff_0000_0000_0000);
        assert_eq!(Lun::from_number(256).0, 0x4100_0000_0000_0000);
        assert_eq!(Lun::from_number(0x3fff).0, 0x7fff_0000_0000_0000);
        assert_eq!(Lun::from_number(0x4000).0, 0xd200_4000_0000_0000);
    }

    #[test]
    fn what_is_no_plain_number_has_none() {
        // A unit on bus 1, a second level, the REPORT LUNS well-known unit, a 24-bit number.
        for lun in [
            0x0105_0000_0000_0000,
            0x0005_0001_0000_0000,
            0xc101_0000_0000_0000,
            0xd201_0000_0000_0000,
        ] {
            assert_eq!(Lun(lun).number(), None, "{lun:#x}");
        }
        assert_eq!(
            Lun(0x4005_0000_0000_0000).number(),
            Some(5),
            "small numbers may come in the flat form"
        );
    }

    proptest! {
        #[test]
        fn numbers_survive(number in any::<u16>()) {
            prop_assert_eq!(Lun::from_number(number).number(), Some(number));
        }
    }
}
