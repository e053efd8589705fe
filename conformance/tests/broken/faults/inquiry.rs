//! Targets that break the rules of `inquiry`.

use crate::broken::Fault;

pub(crate) const FAULTS: &[Fault] = &[];
