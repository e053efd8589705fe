//! Targets that break the rules of `read`.

use crate::broken::Fault;

pub(crate) const FAULTS: &[Fault] = &[];
