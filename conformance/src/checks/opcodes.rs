//! REPORT SUPPORTED OPERATION CODES and commands that must exist (SPC-4 §6.35).

use crate::check::checks;

checks! {}
