//! Who has to prove what, and the methods to do so: AuthMethod (RFC 7143 §6.3.2, §12.1).

use crate::check::checks;

checks! {}
