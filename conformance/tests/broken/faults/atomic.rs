//! Targets that break the rules of `atomic`.

use crate::broken::Fault;

pub(crate) const FAULTS: &[Fault] = &[];
