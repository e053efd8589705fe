//! Targets that break the rules of `tasks`.

use crate::broken::Fault;

pub(crate) const FAULTS: &[Fault] = &[];
