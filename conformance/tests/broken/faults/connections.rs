//! Targets that break the rules of `connections`.

use crate::broken::Fault;

pub(crate) const FAULTS: &[Fault] = &[];
