//! Several connections in one session, where a target offers them (RFC 7143 §4.2.2, §6.3).

use crate::check::checks;

checks! {}
