//! Targets that break the rules of `thin`.

use crate::broken::Fault;

pub(crate) const FAULTS: &[Fault] = &[];
