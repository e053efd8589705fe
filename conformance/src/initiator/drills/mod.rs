//! All drills, by what they are about.

mod chap;
mod commands;
mod data_in;
mod data_out;
mod digests;
mod discovery;
mod leaving;
mod login;
mod login_keys;
mod login_status;
mod nop;
mod notices;
mod numbering;
mod spoil;
mod statuses;

use crate::initiator::drill::Drill;

/// Every drill, in the order of the suite.
pub fn drills() -> Vec<&'static Drill> {
    [
        login::DRILLS,
        login_keys::DRILLS,
        login_status::DRILLS,
        chap::DRILLS,
        discovery::DRILLS,
        numbering::DRILLS,
        commands::DRILLS,
        data_out::DRILLS,
        data_in::DRILLS,
        digests::DRILLS,
        nop::DRILLS,
        notices::DRILLS,
        statuses::DRILLS,
        leaving::DRILLS,
    ]
    .into_iter()
    .flatten()
    .collect()
}
