//! Header and data digests (RFC 7143 §7.8, §11.2.3, §13.1).

use crate::check::checks;

checks! {}
