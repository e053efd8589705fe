//! Targets that break the rules of `redirect`.

use crate::broken::Fault;

pub(crate) const FAULTS: &[Fault] = &[];
