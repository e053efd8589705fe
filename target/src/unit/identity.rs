//! What a logical unit is made of, before it is served.

use std::path::PathBuf;

/// What an initiator recognises a unit by. Two units with one identity are one unit to it: a multipath disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitIdentity {
    /// The NAA designator; its first four bits are 3, locally assigned.
    pub designator: [u8; 8],
    /// The serial number, printable ASCII.
    pub serial: String,
    /// The product name, at most 16 characters.
    pub product: String,
}

impl UnitIdentity {
    /// An identity with this designator, and its hexadecimal form as the serial number.
    pub fn new(designator: [u8; 8], product: &str) -> Self {
        let serial = designator
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Self {
            designator,
            serial,
            product: product.to_owned(),
        }
    }

    /// An identity whose designator is locally assigned, with these 60 bits.
    pub fn locally_assigned(bits: u64, product: &str) -> Self {
        let designator = bits & 0x0fff_ffff_ffff_ffff | 0x3000_0000_0000_0000;
        Self::new(designator.to_be_bytes(), product)
    }
}

/// A volume as a logical unit.
#[derive(Debug)]
pub struct Unit<V> {
    /// The logical unit number.
    pub number: u16,
    /// What is served.
    pub volume: V,
    /// What the unit is recognised by.
    pub identity: UnitIdentity,
    /// Writing is refused.
    pub read_only: bool,
    /// Blocks can be given back, and read as zeros then.
    pub thin: bool,
    /// The medium can be ejected, and its removal be prevented.
    pub removable: bool,
    /// The unit can be reserved. Not so for one that many initiators share unasked: a reservation shuts out the others.
    pub reservable: bool,
    /// Where registrations that shall survive the loss of power are kept (SPC-4 §5.13.5); none: that is not offered.
    pub reservations_file: Option<PathBuf>,
    /// The journal of atomic writes, which comes into being with the first one; none: there are no atomic writes.
    pub atomic_file: Option<PathBuf>,
}

impl<V> Unit<V> {
    /// A thin unit that can be written to and reserved, and not be removed.
    pub fn new(number: u16, volume: V, identity: UnitIdentity) -> Self {
        Self {
            number,
            volume,
            identity,
            read_only: false,
            thin: true,
            removable: false,
            reservable: true,
            reservations_file: None,
            atomic_file: None,
        }
    }
}
