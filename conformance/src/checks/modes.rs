//! MODE SENSE and MODE SELECT (SPC-4 §6.11, §7.5).

use crate::check::checks;

checks! {}
