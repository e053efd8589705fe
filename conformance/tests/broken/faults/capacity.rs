//! Targets that break the rules of `capacity`.

use crate::broken::Fault;

pub(crate) const FAULTS: &[Fault] = &[];
