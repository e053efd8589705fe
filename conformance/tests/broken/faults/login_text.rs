//! Targets that break the rules of `login_text`.

use crate::broken::Fault;

pub(crate) const FAULTS: &[Fault] = &[];
