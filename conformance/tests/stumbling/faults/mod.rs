//! What initiators get wrong, by the family of the drill that has to notice.

mod nop;
mod numbering;

use super::Fault;

/// Every fault.
pub(crate) fn all() -> Vec<&'static Fault> {
    [numbering::FAULTS, nop::FAULTS]
        .into_iter()
        .flatten()
        .collect()
}
