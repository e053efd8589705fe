//! Text requests in the full feature phase (RFC 7143 §11.10, §11.11).

use crate::check::checks;

checks! {}
