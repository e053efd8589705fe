//! What initiators get wrong, by the family of the drill that has to notice.

mod chap;
mod commands;
mod data_in;
mod data_out;
mod discovery;
mod leaving;
pub(super) mod login;
pub(super) mod login_keys;
mod login_status;
mod nop;
mod notices;
pub(super) mod numbering;
mod statuses;

use super::Fault;

/// Every fault.
pub(crate) fn all() -> Vec<&'static Fault> {
    [
        login::FAULTS,
        login_keys::FAULTS,
        login_status::FAULTS,
        chap::FAULTS,
        discovery::FAULTS,
        numbering::FAULTS,
        commands::FAULTS,
        data_out::FAULTS,
        data_in::FAULTS,
        nop::FAULTS,
        notices::FAULTS,
        statuses::FAULTS,
        leaving::FAULTS,
    ]
    .into_iter()
    .flatten()
    .collect()
}
