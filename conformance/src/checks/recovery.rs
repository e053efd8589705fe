//! Error recovery and SNACK, where a target claims them (RFC 7143 §7, §11.16).

use crate::check::checks;

checks! {}
