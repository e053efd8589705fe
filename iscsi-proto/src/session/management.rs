//! Task management functions and their outcomes, as the wire numbers them (RFC 7143 §11.5.1 and §11.6.1).

macro_rules! coded {
    ($(#[$doc:meta])* $name:ident { $($(#[$value_doc:meta])* $value:ident = $code:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$value_doc])* $value,)*
        }

        impl $name {
            /// The number on the wire.
            pub(crate) fn code(self) -> u8 {
                match self {
                    $(Self::$value => $code,)*
                }
            }

            /// What a number on the wire stands for.
            pub(crate) fn from_code(code: u8) -> Option<Self> {
                Some(match code {
                    $($code => Self::$value,)*
                    _ => return None,
                })
            }
        }
    };
}

coded! {
    /// A task management function that the driver has to carry out.
    ManagementFunction {
        /// One task.
        AbortTask = 1,
        /// All tasks of this session on the unit.
        AbortTaskSet = 2,
        /// The auto contingent allegiance condition of the unit.
        ClearAca = 3,
        /// All tasks in the unit's task set.
        ClearTaskSet = 4,
        /// The unit: all tasks of all initiators.
        LogicalUnitReset = 5,
        /// All units that the session can reach.
        TargetWarmReset = 6,
        /// The whole target, as if its power had failed.
        TargetColdReset = 7,
    }
}

coded! {
    /// The outcome of a task management function (RFC 7143 §11.6.1).
    ManagementAnswer {
        /// Function complete.
        Complete = 0,
        /// Task does not exist.
        NoTask = 1,
        /// LUN does not exist.
        NoLun = 2,
        /// Task still allegiant.
        StillAllegiant = 3,
        /// Task allegiance reassignment not supported.
        ReassignUnsupported = 4,
        /// Task management function not supported.
        Unsupported = 5,
        /// Function authorization failed.
        Unauthorized = 6,
        /// Function rejected.
        Rejected = 255,
    }
}

/// A function as it stands on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Requested {
    /// One that is carried out.
    Function(ManagementFunction),
    /// TASK REASSIGN, which needs a recovery level that is not offered.
    Reassign,
    /// A number that nobody knows here.
    Unknown,
}

impl Requested {
    /// Reads byte 1 of the request.
    pub(crate) fn from_byte(byte: u8) -> Self {
        match (byte & 0x7f, ManagementFunction::from_code(byte & 0x7f)) {
            (_, Some(function)) => Self::Function(function),
            (TASK_REASSIGN, None) => Self::Reassign,
            (_, None) => Self::Unknown,
        }
    }
}

impl ManagementFunction {
    /// True if the function is on the whole target and not on a unit.
    pub(crate) fn is_on_target(self) -> bool {
        matches!(self, Self::TargetWarmReset | Self::TargetColdReset)
    }

    /// True if commands that came after the function are affected as well (RFC 7143 §11.5.1).
    pub(crate) fn is_reset(self) -> bool {
        self.is_on_target() || self == Self::LogicalUnitReset
    }
}

const TASK_REASSIGN: u8 = 8;
