//! What a login does to sessions that exist: new, reinstated, a further connection (RFC 7143 §6.3.1, §6.3.5).

use crate::check::checks;

checks! {}
