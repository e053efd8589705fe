//! Targets that break the rules of `write`.

use crate::broken::Fault;

pub(crate) const FAULTS: &[Fault] = &[];
