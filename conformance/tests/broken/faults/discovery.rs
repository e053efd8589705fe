//! Targets that break the rules of `discovery`.

use crate::broken::Fault;

pub(crate) const FAULTS: &[Fault] = &[];
