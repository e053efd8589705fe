//! Discovery sessions and SendTargets (RFC 7143 §4.3, appendix C).

use crate::check::checks;

checks! {}
