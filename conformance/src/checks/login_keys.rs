//! Negotiation of keys in a login (RFC 7143 §6.2, §13).

use crate::check::checks;

checks! {}
