//! Targets that break the rules of `verify`.

use crate::broken::Fault;

pub(crate) const FAULTS: &[Fault] = &[];
