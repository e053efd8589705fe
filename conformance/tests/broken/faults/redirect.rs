//! Targets that break the rules of `redirect`.

use crate::broken::faults::chap::{restated, say};
use crate::broken::{Act, Fault, Kind, Saboteur, Seen, edit};

pub(crate) const FAULTS: &[Fault] = &[
    fault("redirect.address", "nobody is told where to", || {
        edit::answered_keys(|pairs| {
            // A list has names; a redirection has none.
            if !pairs.iter().any(|(key, _)| key == "TargetName") {
                pairs.retain(|(key, _)| key != "TargetAddress");
            }
        })
    }),
    fault(
        "redirect.address",
        "the status is none that there is",
        || restated(0x0101, 0x0100),
    ),
    fault("redirect.address.form", "the address has a tag", || {
        say("TargetAddress", |address| format!("{address},1"))
    }),
    fault("redirect.address.form", "the address is a URL", || {
        say("TargetAddress", |address| format!("iscsi://{address}/"))
    }),
    fault("redirect.closes", "the connection stays open", || {
        Box::new(|seen, lane| {
            if matches!(seen, Seen::TargetClosed) {
                lane.stay();
            }
            Act::Pass
        })
    }),
];

const fn fault(trips: &'static str, name: &'static str, saboteur: fn() -> Saboteur) -> Fault {
    Fault {
        name,
        trips,
        behind: Kind::Redirecting,
        saboteur,
    }
}
