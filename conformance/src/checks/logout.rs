//! Logging out (RFC 7143 §11.14, §11.15).

use crate::check::checks;

checks! {}
