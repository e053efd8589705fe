//! Task management functions and their outcomes, as the wire numbers them (RFC 7143 §11.5.1 and §11.6.1).

/// A task management function that the driver has to carry out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ManagementFunction {
    /// One task.
    AbortTask,
    /// All tasks of this session on the unit.
    AbortTaskSet,
    /// The auto contingent allegiance condition of the unit.
    ClearAca,
    /// All tasks in the unit's task set.
    ClearTaskSet,
    /// The unit: all tasks of all initiators.
    LogicalUnitReset,
    /// All units that the session can reach.
    TargetWarmReset,
    /// The whole target, as if its power had failed.
    TargetColdReset,
}

/// The outcome of a task management function (RFC 7143 §11.6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ManagementAnswer {
    /// Function complete.
    Complete,
    /// Task does not exist.
    NoTask,
    /// LUN does not exist.
    NoLun,
    /// Task still allegiant.
    StillAllegiant,
    /// Task allegiance reassignment not supported.
    ReassignUnsupported,
    /// Task management function not supported.
    Unsupported,
    /// Function authorization failed.
    Unauthorized,
    /// Function rejected.
    Rejected,
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
        Self::Function(match byte & 0x7f {
            1 => ManagementFunction::AbortTask,
            2 => ManagementFunction::AbortTaskSet,
            3 => ManagementFunction::ClearAca,
            4 => ManagementFunction::ClearTaskSet,
            5 => ManagementFunction::LogicalUnitReset,
            6 => ManagementFunction::TargetWarmReset,
            7 => ManagementFunction::TargetColdReset,
            8 => return Self::Reassign,
            _ => return Self::Unknown,
        })
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

impl ManagementAnswer {
    /// The response code.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Complete => 0,
            Self::NoTask => 1,
            Self::NoLun => 2,
            Self::StillAllegiant => 3,
            Self::ReassignUnsupported => 4,
            Self::Unsupported => 5,
            Self::Unauthorized => 6,
            Self::Rejected => 255,
        }
    }
}
