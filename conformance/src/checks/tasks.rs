//! Task management (RFC 7143 §11.5, §11.6).

use crate::check::checks;

checks! {}
