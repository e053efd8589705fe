//! Vital product data pages (SPC-4 §7.8, SBC-3 §6.6).

use crate::check::checks;

checks! {}
