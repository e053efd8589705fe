//! INQUIRY and its standard data (SPC-4 §6.4).

use crate::check::checks;

checks! {}
