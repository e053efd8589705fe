//! Sense: why a command failed (SPC-4 §4.5; the codes are those of annex F).

use std::fmt;

use bytes::Bytes;

pub use detailed::{SenseData, SenseSpecific};

mod detailed;
#[cfg(test)]
mod detailed_tests;

/// Sense key, additional sense code and its qualifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sense {
    /// The sense key, four bits.
    pub key: u8,
    /// The additional sense code.
    pub asc: u8,
    /// The additional sense code qualifier.
    pub ascq: u8,
}

impl Sense {
    /// Sense of the given codes.
    pub const fn new(key: u8, asc: u8, ascq: u8) -> Self {
        Self { key, asc, ascq }
    }

    /// Current sense in fixed format, without details.
    pub fn to_fixed_bytes(self) -> Bytes {
        SenseData::from(self).to_fixed_bytes()
    }

    /// Current sense in descriptor format, without descriptors.
    pub fn to_descriptor_bytes(self) -> Bytes {
        SenseData::from(self).to_descriptor_bytes()
    }

    /// Reads current or deferred sense of either format, leaving out details.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        SenseData::parse(bytes).map(|detailed| detailed.sense)
    }
}

macro_rules! senses {
    ($($(#[$doc:meta])* $name:ident = $key:literal / $asc:literal / $ascq:literal,)*) => {
        impl Sense {
            $($(#[$doc])* pub const $name: Self = Self::new($key, $asc, $ascq);)*
        }

        impl fmt::Display for Sense {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let name = match *self {
                    $(Self::$name => stringify!($name),)*
                    _ => "sense",
                };
                write!(f, "{name} {:x}/{:02x}/{:02x}", self.key, self.asc, self.ascq)
            }
        }
    };
}

senses! {
    /// Nothing to report.
    NO_SENSE = 0x0 / 0x00 / 0x00,
    /// The unit waits to be started.
    BECOMING_READY = 0x2 / 0x04 / 0x01,
    /// The port's way to the unit changes its asymmetric access state.
    ACCESS_STATE_TRANSITION = 0x2 / 0x04 / 0x0a,
    /// The port is in the state standby.
    PORT_IN_STANDBY = 0x2 / 0x04 / 0x0b,
    /// The port is in the state unavailable.
    PORT_UNAVAILABLE = 0x2 / 0x04 / 0x0c,
    /// SANITIZE is going on.
    SANITIZE_IN_PROGRESS = 0x2 / 0x04 / 0x1b,
    /// The medium was ejected.
    MEDIUM_NOT_PRESENT = 0x2 / 0x3a / 0x00,
    /// The medium was stopped by the initiator.
    INITIALIZING_COMMAND_REQUIRED = 0x2 / 0x04 / 0x02,
    /// What was read is not what was written.
    UNRECOVERED_READ_ERROR = 0x3 / 0x11 / 0x00,
    /// SANITIZE failed.
    SANITIZE_FAILED = 0x3 / 0x31 / 0x03,
    /// Writing failed.
    WRITE_ERROR = 0x3 / 0x0c / 0x00,
    /// The device is broken inside.
    INTERNAL_TARGET_FAILURE = 0x4 / 0x44 / 0x00,
    /// The parameter list is shorter or longer than it says.
    PARAMETER_LIST_LENGTH_ERROR = 0x5 / 0x1a / 0x00,
    /// No such command.
    INVALID_OPERATION_CODE = 0x5 / 0x20 / 0x00,
    /// Blocks that do not exist.
    LBA_OUT_OF_RANGE = 0x5 / 0x21 / 0x00,
    /// A field of the command has a value that is not supported.
    INVALID_FIELD_IN_CDB = 0x5 / 0x24 / 0x00,
    /// No such logical unit.
    LOGICAL_UNIT_NOT_SUPPORTED = 0x5 / 0x25 / 0x00,
    /// A field of the parameter list has a value that is not supported.
    INVALID_FIELD_IN_PARAMETER_LIST = 0x5 / 0x26 / 0x00,
    /// SAVING PARAMETERS NOT SUPPORTED.
    SAVING_NOT_SUPPORTED = 0x5 / 0x39 / 0x00,
    /// A release that is not the holder's.
    INVALID_RELEASE = 0x5 / 0x26 / 0x04,
    /// More CSCD descriptors than a copy may have.
    TOO_MANY_CSCD_DESCRIPTORS = 0x5 / 0x26 / 0x06,
    /// A CSCD descriptor of a type that is not supported.
    UNSUPPORTED_CSCD_DESCRIPTOR = 0x5 / 0x26 / 0x07,
    /// More segment descriptors than a copy may have.
    TOO_MANY_SEGMENT_DESCRIPTORS = 0x5 / 0x26 / 0x08,
    /// A segment descriptor of a type that is not supported.
    UNSUPPORTED_SEGMENT_DESCRIPTOR = 0x5 / 0x26 / 0x09,
    /// Inline data longer than supported.
    INLINE_DATA_EXCEEDED = 0x5 / 0x26 / 0x0b,
    /// Nothing is left to register with.
    INSUFFICIENT_REGISTRATION_RESOURCES = 0x5 / 0x55 / 0x04,
    /// Nothing is left to do the command with.
    INSUFFICIENT_RESOURCES = 0x5 / 0x55 / 0x03,
    /// The initiator forbade the removal of the medium.
    MEDIUM_REMOVAL_PREVENTED = 0x5 / 0x53 / 0x02,
    /// Power on, reset, or bus device reset occurred.
    POWER_ON_OR_RESET = 0x6 / 0x29 / 0x00,
    /// Bus device reset function occurred: a LOGICAL UNIT RESET.
    DEVICE_RESET = 0x6 / 0x29 / 0x03,
    /// The nexus was lost.
    NEXUS_LOST = 0x6 / 0x29 / 0x07,
    /// Another initiator changed mode pages.
    MODE_PARAMETERS_CHANGED = 0x6 / 0x2a / 0x01,
    /// Another initiator preempted the own reservation.
    RESERVATIONS_PREEMPTED = 0x6 / 0x2a / 0x03,
    /// A reservation was released.
    RESERVATIONS_RELEASED = 0x6 / 0x2a / 0x04,
    /// Another initiator removed the own registration.
    REGISTRATIONS_PREEMPTED = 0x6 / 0x2a / 0x05,
    /// A port group has another asymmetric access state.
    ACCESS_STATE_CHANGED = 0x6 / 0x2a / 0x06,
    /// An implicit change of the asymmetric access state failed.
    IMPLICIT_TRANSITION_FAILED = 0x6 / 0x2a / 0x07,
    /// The medium may have changed.
    MEDIUM_MAY_HAVE_CHANGED = 0x6 / 0x28 / 0x00,
    /// The capacity has changed.
    CAPACITY_CHANGED = 0x6 / 0x2a / 0x09,
    /// Another initiator cleared the commands.
    COMMANDS_CLEARED = 0x6 / 0x2f / 0x00,
    /// The list of logical units has changed.
    REPORTED_LUNS_CHANGED = 0x6 / 0x3f / 0x0e,
    /// The unit is write protected.
    WRITE_PROTECTED = 0x7 / 0x27 / 0x00,
    /// A thin volume has no space left.
    SPACE_ALLOCATION_FAILED = 0x7 / 0x27 / 0x07,
    /// Software write protected.
    SOFTWARE_WRITE_PROTECTED = 0x7 / 0x27 / 0x02,
    /// A copy cannot reach what it names.
    COPY_TARGET_NOT_REACHABLE = 0xa / 0x0d / 0x02,
    /// Data digest error on the wire (RFC 7143 §11.4.7.2).
    PROTOCOL_SERVICE_CRC_ERROR = 0xb / 0x47 / 0x05,
    /// Unexpected unsolicited data (RFC 7143 §11.4.7.2).
    UNEXPECTED_UNSOLICITED_DATA = 0xb / 0x0c / 0x0c,
    /// Incorrect amount of data (RFC 7143 §11.4.7.2).
    INCORRECT_AMOUNT_OF_DATA = 0xb / 0x0c / 0x0d,
    /// The compared data differs.
    MISCOMPARE = 0xe / 0x1d / 0x00,
}

#[cfg(test)]
mod tests {
    use super::Sense;

    /// The codes as SPC-4 prints them, written down a second time.
    #[test]
    fn codes_are_those_of_the_standard() {
        let expected = [
            (Sense::NO_SENSE, [0x00, 0x00, 0x00]),
            (Sense::BECOMING_READY, [0x02, 0x04, 0x01]),
            (Sense::INITIALIZING_COMMAND_REQUIRED, [0x02, 0x04, 0x02]),
            (Sense::UNRECOVERED_READ_ERROR, [0x03, 0x11, 0x00]),
            (Sense::WRITE_ERROR, [0x03, 0x0c, 0x00]),
            (Sense::ACCESS_STATE_TRANSITION, [0x02, 0x04, 0x0a]),
            (Sense::PORT_IN_STANDBY, [0x02, 0x04, 0x0b]),
            (Sense::PORT_UNAVAILABLE, [0x02, 0x04, 0x0c]),
            (Sense::SANITIZE_IN_PROGRESS, [0x02, 0x04, 0x1b]),
            (Sense::MEDIUM_NOT_PRESENT, [0x02, 0x3a, 0x00]),
            (Sense::SANITIZE_FAILED, [0x03, 0x31, 0x03]),
            (Sense::INTERNAL_TARGET_FAILURE, [0x04, 0x44, 0x00]),
            (Sense::PARAMETER_LIST_LENGTH_ERROR, [0x05, 0x1a, 0x00]),
            (Sense::INVALID_OPERATION_CODE, [0x05, 0x20, 0x00]),
            (Sense::LBA_OUT_OF_RANGE, [0x05, 0x21, 0x00]),
            (Sense::INVALID_FIELD_IN_CDB, [0x05, 0x24, 0x00]),
            (Sense::LOGICAL_UNIT_NOT_SUPPORTED, [0x05, 0x25, 0x00]),
            (Sense::INVALID_FIELD_IN_PARAMETER_LIST, [0x05, 0x26, 0x00]),
            (Sense::SAVING_NOT_SUPPORTED, [0x05, 0x39, 0x00]),
            (Sense::INVALID_RELEASE, [0x05, 0x26, 0x04]),
            (Sense::TOO_MANY_CSCD_DESCRIPTORS, [0x05, 0x26, 0x06]),
            (Sense::UNSUPPORTED_CSCD_DESCRIPTOR, [0x05, 0x26, 0x07]),
            (Sense::TOO_MANY_SEGMENT_DESCRIPTORS, [0x05, 0x26, 0x08]),
            (Sense::UNSUPPORTED_SEGMENT_DESCRIPTOR, [0x05, 0x26, 0x09]),
            (Sense::INLINE_DATA_EXCEEDED, [0x05, 0x26, 0x0b]),
            (
                Sense::INSUFFICIENT_REGISTRATION_RESOURCES,
                [0x05, 0x55, 0x04],
            ),
            (Sense::INSUFFICIENT_RESOURCES, [0x05, 0x55, 0x03]),
            (Sense::MEDIUM_REMOVAL_PREVENTED, [0x05, 0x53, 0x02]),
            (Sense::POWER_ON_OR_RESET, [0x06, 0x29, 0x00]),
            (Sense::DEVICE_RESET, [0x06, 0x29, 0x03]),
            (Sense::NEXUS_LOST, [0x06, 0x29, 0x07]),
            (Sense::MODE_PARAMETERS_CHANGED, [0x06, 0x2a, 0x01]),
            (Sense::RESERVATIONS_PREEMPTED, [0x06, 0x2a, 0x03]),
            (Sense::RESERVATIONS_RELEASED, [0x06, 0x2a, 0x04]),
            (Sense::REGISTRATIONS_PREEMPTED, [0x06, 0x2a, 0x05]),
            (Sense::ACCESS_STATE_CHANGED, [0x06, 0x2a, 0x06]),
            (Sense::IMPLICIT_TRANSITION_FAILED, [0x06, 0x2a, 0x07]),
            (Sense::MEDIUM_MAY_HAVE_CHANGED, [0x06, 0x28, 0x00]),
            (Sense::CAPACITY_CHANGED, [0x06, 0x2a, 0x09]),
            (Sense::COMMANDS_CLEARED, [0x06, 0x2f, 0x00]),
            (Sense::REPORTED_LUNS_CHANGED, [0x06, 0x3f, 0x0e]),
            (Sense::WRITE_PROTECTED, [0x07, 0x27, 0x00]),
            (Sense::SPACE_ALLOCATION_FAILED, [0x07, 0x27, 0x07]),
            (Sense::SOFTWARE_WRITE_PROTECTED, [0x07, 0x27, 0x02]),
            (Sense::COPY_TARGET_NOT_REACHABLE, [0x0a, 0x0d, 0x02]),
            (Sense::PROTOCOL_SERVICE_CRC_ERROR, [0x0b, 0x47, 0x05]),
            (Sense::UNEXPECTED_UNSOLICITED_DATA, [0x0b, 0x0c, 0x0c]),
            (Sense::INCORRECT_AMOUNT_OF_DATA, [0x0b, 0x0c, 0x0d]),
            (Sense::MISCOMPARE, [0x0e, 0x1d, 0x00]),
        ];
        for (sense, [key, asc, ascq]) in expected {
            let bytes = [
                0x70, 0, key, 0, 0, 0, 0, 0x0a, 0, 0, 0, 0, asc, ascq, 0, 0, 0, 0,
            ];
            assert_eq!(sense.to_fixed_bytes().as_ref(), bytes, "{sense}");
            assert_eq!(
                sense.to_descriptor_bytes().as_ref(),
                [0x72, key, asc, ascq, 0, 0, 0, 0],
                "{sense}"
            );
            assert_eq!(Sense::parse(&bytes), Some(sense));
        }
    }

    #[test]
    fn foreign_and_short_sense_parses() {
        // Deferred, with the VALID bit and end-of-medium flags set.
        let fixed = [
            0xf1, 0, 0x63, 1, 2, 3, 4, 10, 0, 0, 0, 0, 0x11, 0x04, 0, 0, 0, 0,
        ];
        assert_eq!(Sense::parse(&fixed), Some(Sense::new(3, 0x11, 0x04)));
        assert_eq!(
            Sense::parse(&[0x73, 0x05, 0x20]),
            Some(Sense::new(5, 0x20, 0))
        );
        assert_eq!(Sense::parse(&[0x70, 0, 2]), Some(Sense::new(2, 0, 0)));
        assert_eq!(Sense::parse(&[]), None);
        assert_eq!(Sense::parse(&[0x7f, 0, 2]), None);
    }
}
