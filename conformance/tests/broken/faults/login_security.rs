//! Targets that break the rules of `login_security`.

use crate::broken::Fault;

pub(crate) const FAULTS: &[Fault] = &[];
