//! Targets that break the rules of `text`.

use crate::broken::Fault;

pub(crate) const FAULTS: &[Fault] = &[];
