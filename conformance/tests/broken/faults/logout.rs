//! Targets that break the rules of `logout`.

use crate::broken::Fault;

pub(crate) const FAULTS: &[Fault] = &[];
