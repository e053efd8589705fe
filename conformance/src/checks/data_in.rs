//! Data-In PDUs and residuals (RFC 7143 §11.7, §11.4.5).

use crate::check::checks;

checks! {}
