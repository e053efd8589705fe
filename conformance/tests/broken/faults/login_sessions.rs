//! Targets that break the rules of `login_sessions`.

use crate::broken::Fault;

pub(crate) const FAULTS: &[Fault] = &[];
