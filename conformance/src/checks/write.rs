//! WRITE in its forms, and what is read back (SBC-3 §5.32).

use crate::check::checks;

checks! {}
