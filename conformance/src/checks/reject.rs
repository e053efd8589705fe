//! Reject, and PDUs that are wrong in form (RFC 7143 §7.7, §11.17).

use crate::check::checks;

checks! {}
