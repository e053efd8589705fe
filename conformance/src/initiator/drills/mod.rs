//! All drills, by what they are about.

mod login;
mod login_keys;
mod login_status;
mod nop;
mod numbering;

use crate::initiator::drill::Drill;

/// Every drill, in the order of the suite.
pub fn drills() -> Vec<&'static Drill> {
    [
        login::DRILLS,
        login_keys::DRILLS,
        login_status::DRILLS,
        numbering::DRILLS,
        nop::DRILLS,
    ]
    .into_iter()
    .flatten()
    .collect()
}
