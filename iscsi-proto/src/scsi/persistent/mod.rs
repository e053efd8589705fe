//! Parameter data of PERSISTENT RESERVE IN and OUT (SPC-4 §6.15, §6.16), and the TransportIDs in it.

mod out;
mod reports;
mod transport_id;

pub use out::{LIST_BYTES, MoveList, OutList};
pub use reports::{
    Capabilities, FullStatus, Held, Keys, Registrant, ReservationReport, parse_full_status,
    parse_keys,
};
pub use transport_id::TransportId;

/// What a persistent reservation forbids to whom (SPC-4 §6.15.3.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ReservationType {
    /// Only the holder writes.
    WriteExclusive = 1,
    /// Only the holder reads and writes.
    ExclusiveAccess = 3,
    /// Only registrants write.
    WriteExclusiveRegistrantsOnly = 5,
    /// Only registrants read and write.
    ExclusiveAccessRegistrantsOnly = 6,
    /// Only registrants write, and each of them is a holder.
    WriteExclusiveAllRegistrants = 7,
    /// Only registrants read and write, and each of them is a holder.
    ExclusiveAccessAllRegistrants = 8,
}

impl ReservationType {
    /// All types, in the order of their codes.
    pub const ALL: [Self; 6] = [
        Self::WriteExclusive,
        Self::ExclusiveAccess,
        Self::WriteExclusiveRegistrantsOnly,
        Self::ExclusiveAccessRegistrantsOnly,
        Self::WriteExclusiveAllRegistrants,
        Self::ExclusiveAccessAllRegistrants,
    ];

    /// The type of a code, if there is one.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }

    /// The code of this type.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// Others may not even read.
    pub fn excludes_reading(self) -> bool {
        matches!(
            self,
            Self::ExclusiveAccess
                | Self::ExclusiveAccessRegistrantsOnly
                | Self::ExclusiveAccessAllRegistrants
        )
    }

    /// Whoever is registered may do what the holder may.
    pub fn admits_registrants(self) -> bool {
        !matches!(self, Self::WriteExclusive | Self::ExclusiveAccess)
    }

    /// Whoever is registered is a holder.
    pub fn all_registrants(self) -> bool {
        matches!(
            self,
            Self::WriteExclusiveAllRegistrants | Self::ExclusiveAccessAllRegistrants
        )
    }
}

#[cfg(test)]
mod tests;
