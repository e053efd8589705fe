//! Judging initiators: a portal with a target for every [`Drill`], each of which does something that an initiator has
//! to bear or to answer, and looks at what it does.
//!
//! Whoever logs in to `iqn.2013-07.org.vmthunder:drill.NAME` is driven by the script of that drill. LUN 0 is a disk in
//! memory that reads as a known [`pattern`] and keeps what is written.

mod caller;
mod disk;
mod drill;
mod drills;
mod hall;
mod login;
mod manner;
mod negotiate;
mod play;
mod scsi;
mod stage;
mod terms;
mod text;
mod visitor;
mod write;

pub use disk::pattern;
pub use drill::{Drill, Ends, SessionKind};
pub use drills::drills;
pub use hall::Listener;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use negotiate::numeral;
pub use play::{Options, TARGET_PREFIX, run};
pub use visitor::{ACCOUNTS, Account, Accounts, Invitation, Visiting, Visitor};
