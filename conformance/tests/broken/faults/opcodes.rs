//! Targets that break the rules of `opcodes`.

use crate::broken::Fault;

pub(crate) const FAULTS: &[Fault] = &[];
