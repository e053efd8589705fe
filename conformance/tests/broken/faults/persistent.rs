//! Targets that break the rules of `persistent`.

use crate::broken::Fault;

pub(crate) const FAULTS: &[Fault] = &[];
