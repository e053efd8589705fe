//! All drills, by what they are about.

mod nop;
mod numbering;

use crate::initiator::drill::Drill;

/// Every drill, in the order of the suite.
pub fn drills() -> Vec<&'static Drill> {
    [numbering::DRILLS, nop::DRILLS]
        .into_iter()
        .flatten()
        .collect()
}
