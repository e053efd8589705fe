//! Targets that break the rules of `reject`.

use crate::broken::Fault;

pub(crate) const FAULTS: &[Fault] = &[];
