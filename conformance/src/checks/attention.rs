//! Unit Attention conditions (SAM-5 §5.14, SPC-4 §5).

use crate::check::checks;

checks! {}
