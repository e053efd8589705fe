//! Targets that break the rules of `numbering`.

use crate::broken::Fault;

pub(crate) const FAULTS: &[Fault] = &[];
