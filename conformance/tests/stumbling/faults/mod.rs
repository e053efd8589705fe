//! What initiators get wrong, by the family of the drill that has to notice.

mod login;
mod login_keys;
mod login_status;
mod nop;
mod numbering;

use super::Fault;

/// Every fault.
pub(crate) fn all() -> Vec<&'static Fault> {
    [
        login::FAULTS,
        login_keys::FAULTS,
        login_status::FAULTS,
        numbering::FAULTS,
        nop::FAULTS,
    ]
    .into_iter()
    .flatten()
    .collect()
}
