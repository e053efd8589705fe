//! Targets that break the rules of `data_in`.

use crate::broken::Fault;

pub(crate) const FAULTS: &[Fault] = &[];
