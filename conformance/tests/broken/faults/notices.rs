//! Targets that break the rules of `notices`.

use crate::broken::Fault;

pub(crate) const FAULTS: &[Fault] = &[];
