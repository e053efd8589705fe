//! Targets that break the rules of `chap`.

use crate::broken::Fault;

pub(crate) const FAULTS: &[Fault] = &[];
