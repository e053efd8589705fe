//! CHAP, one way (RFC 7143 §12.1.3).

use crate::check::checks;

checks! {}
