//! Targets that break the rules of `chap_mutual`.

use crate::broken::Fault;

pub(crate) const FAULTS: &[Fault] = &[];
