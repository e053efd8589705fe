//! READ in its forms (SBC-3 §5.8).

use crate::check::checks;

checks! {}
