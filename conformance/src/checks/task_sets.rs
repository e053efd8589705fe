//! Task management that acts on many tasks: sets, units, targets (RFC 7143 §4.2.3, §11.5).

use crate::check::checks;

checks! {}
