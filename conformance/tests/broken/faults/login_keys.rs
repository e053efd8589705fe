//! Targets that break the rules of `login_keys`.

use crate::broken::Fault;

pub(crate) const FAULTS: &[Fault] = &[];
