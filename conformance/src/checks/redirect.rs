//! Login redirection (RFC 7143 §11.13.5).

use crate::check::checks;

checks! {}
