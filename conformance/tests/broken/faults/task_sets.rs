//! Targets that break the rules of `task_sets`.

use crate::broken::Fault;

pub(crate) const FAULTS: &[Fault] = &[];
