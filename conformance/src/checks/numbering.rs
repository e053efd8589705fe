//! CmdSN, StatSN and the command window (RFC 7143 §4.2.2).

use crate::check::checks;

checks! {}
