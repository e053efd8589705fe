//! Persistent reservations (SPC-4 §5.13, §6.15, §6.16).

use crate::check::checks;

checks! {}
