//! Targets that break the rules of `vpd`.

use crate::broken::Fault;

pub(crate) const FAULTS: &[Fault] = &[];
