//! Targets that break the rules of `recovery`.

use crate::broken::Fault;

pub(crate) const FAULTS: &[Fault] = &[];
