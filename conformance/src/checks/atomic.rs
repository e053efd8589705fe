//! COMPARE AND WRITE, ORWRITE, WRITE ATOMIC (SBC-3 §5.3, SBC-4).

use crate::check::checks;

checks! {}
