//! Targets that break the rules of `login_headers`.

use crate::broken::Fault;

pub(crate) const FAULTS: &[Fault] = &[];
