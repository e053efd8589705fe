//! Targets that break the rules of `modes`.

use crate::broken::Fault;

pub(crate) const FAULTS: &[Fault] = &[];
