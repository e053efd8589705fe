//! Targets that break the rules of `login_values`.

use crate::broken::Fault;

pub(crate) const FAULTS: &[Fault] = &[];
