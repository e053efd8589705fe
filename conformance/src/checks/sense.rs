//! Sense data, and which errors have which codes (SPC-4 §4.5).

use crate::check::checks;

checks! {}
