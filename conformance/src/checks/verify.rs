//! VERIFY, WRITE AND VERIFY, SYNCHRONIZE CACHE, PRE-FETCH (SBC-3 §5).

use crate::check::checks;

checks! {}
