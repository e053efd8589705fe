//! Targets that break the rules of `sense`.

use crate::broken::Fault;

pub(crate) const FAULTS: &[Fault] = &[];
