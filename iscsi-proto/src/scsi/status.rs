//! SCSI status (SAM-5 §5.3.1).

use std::fmt;

/// How a command ended, as the wire has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Status(pub u8);

macro_rules! statuses {
    ($($(#[$doc:meta])* $name:ident = $value:literal,)*) => {
        impl Status {
            $($(#[$doc])* pub const $name: Self = Self($value);)*
        }

        impl fmt::Display for Status {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match *self {
                    $(Self::$name => f.write_str(stringify!($name)),)*
                    Self(other) => write!(f, "status {other:02x}h"),
                }
            }
        }
    };
}

statuses! {
    /// Done.
    GOOD = 0x00,
    /// Failed, or worth a remark: the sense says what happened.
    CHECK_CONDITION = 0x02,
    /// A comparison was met; no command here answers it.
    CONDITION_MET = 0x04,
    /// The unit cannot take the command now and nothing of this nexus is under way.
    BUSY = 0x08,
    /// Another nexus holds a reservation.
    RESERVATION_CONFLICT = 0x18,
    /// Too many commands of this nexus are under way.
    TASK_SET_FULL = 0x28,
    /// An auto-contingent allegiance is in force.
    ACA_ACTIVE = 0x30,
    /// Another nexus aborted the command.
    TASK_ABORTED = 0x40,
}
