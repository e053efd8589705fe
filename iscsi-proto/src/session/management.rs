//! Task management (RFC 7143 §11.5 and §11.6): functions, answers, and what is still awaited before an answer may go
//! out.

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
