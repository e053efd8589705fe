//! Text of a login: pieces, lengths, form (RFC 7143 §6.1, §6.2).

use crate::check::checks;

checks! {}
