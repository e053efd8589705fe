//! Values that are negotiated in a login: booleans, numbers, lists (RFC 7143 §6.2, §13).

use crate::check::checks;

checks! {}
