//! CHAP in both directions (RFC 7143 §12.1.3, §9.2.1).

use crate::check::checks;

checks! {}
