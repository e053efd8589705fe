//! R2T, solicited and unsolicited data (RFC 7143 §11.7, §11.8, §4.2.5.2).

use crate::check::checks;

checks! {}
