//! Stages of a login: transit, order, what may be sent when (RFC 7143 §6.3, §11.12, §11.13).

use crate::check::checks;

checks! {}
