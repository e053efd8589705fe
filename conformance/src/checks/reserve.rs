//! RESERVE and RELEASE (SPC-2 §7).

use crate::check::checks;

checks! {}
