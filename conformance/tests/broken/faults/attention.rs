//! Targets that break the rules of `attention`.

use crate::broken::Fault;

pub(crate) const FAULTS: &[Fault] = &[];
