//! Targets that break the rules of `reserve`.

use crate::broken::Fault;

pub(crate) const FAULTS: &[Fault] = &[];
