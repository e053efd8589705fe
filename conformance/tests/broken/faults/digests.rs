//! Targets that break the rules of `digests`.

use crate::broken::Fault;

pub(crate) const FAULTS: &[Fault] = &[];
