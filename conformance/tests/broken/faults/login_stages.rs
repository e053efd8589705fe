//! Targets that break the rules of `login_stages`.

use crate::broken::Fault;

pub(crate) const FAULTS: &[Fault] = &[];
