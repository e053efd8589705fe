//! A conformance suite for iSCSI (RFC 7143) and the SCSI commands that initiators rely on (SPC, SBC).
//!
//! It judges any target: every [`Check`] names the rule it is about, what it sends and what it expects, and when it
//! fails shows the PDUs that it saw, decoded. Nothing here knows our own target or initiator: only the shape of bytes
//! on the wire is shared with them (`iscsi_proto::wire`), so that a mistake of theirs cannot excuse itself.
#![forbid(unsafe_code)]

mod bench;
mod chap;
mod check;
mod checks;
mod fields;
pub mod initiator;
mod keys;
mod login;
mod management;
mod probe;
pub mod report;
mod run;
mod select;
mod session;
mod stretch;
mod subject;
mod texts;
mod waivers;
mod wire;

pub use check::{Check, Effect, Level, Rule};
pub use checks::all;
pub use probe::{Facts, Unusable, probe};
pub use run::{Judged, Outcome, Report, Run, judge};
pub use select::{Selection, UnknownCheck};
pub use subject::{Credentials, Subject};
pub use waivers::{Waiver, WaiverError, Waivers};
pub use wire::CannotReach;
