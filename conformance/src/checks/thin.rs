//! UNMAP, WRITE SAME, GET LBA STATUS (SBC-3 §4.7, §5).

use crate::check::checks;

checks! {}
