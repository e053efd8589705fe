//! Asynchronous Messages (RFC 7143 §11.9).

use crate::check::checks;

checks! {}
