//! Targets that break the rules of `data_out`.

use crate::broken::Fault;

pub(crate) const FAULTS: &[Fault] = &[];
