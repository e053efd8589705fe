//! READ CAPACITY and REPORT LUNS (SBC-3 §5.15, SPC-4 §6.33).

use crate::check::checks;

checks! {}
