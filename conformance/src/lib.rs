//! A conformance suite for iSCSI (RFC 7143) and the SCSI commands that initiators rely on (SPC, SBC).
//!
//! It judges any target: every [`Check`] names the rule it is about, what it sends and what it expects, and when it
//! fails shows the PDUs that it saw, decoded. Nothing here knows our own target or initiator: only the shape of bytes
//! is shared with them (PDUs, `iscsi_proto::wire`; sense data, `iscsi_proto::scsi::SenseData`) and the names of
//! statuses, so that a mistake of theirs cannot excuse itself: states, numbers, CHAP and what a command has to do are
//! written here once more.
//!
//! A [`Subject`] says whom to judge and how to get in. [`probe()`] finds out what its disk is, or why it cannot be judged
//! at all; a [`Run`] plays checks against it, each bounded in time and all of them together, and leaves out what
//! writes unless that was allowed. A [`Selection`] chooses checks by name, [`Waivers`] know what is known to fail, and
//! [`report`] makes JSON, JUnit XML and an HTML page of the verdicts. [`initiator`] is the other side: a portal that
//! judges whoever logs in.
//!
//! ```no_run
//! # async fn judge() -> Result<(), Box<dyn std::error::Error>> {
//! use iscsi_conformance::{Outcome, Run, Subject, all, probe};
//!
//! let subject = Subject {
//!     address: "192.0.2.7:3260".to_owned(),
//!     target: "iqn.2026-11.org.example:disk".to_owned(),
//!     lun: 1,
//!     initiator: "iqn.2026-11.org.example:judge".to_owned(),
//!     chap: None,
//!     mutual: None,
//!     patience: std::time::Duration::from_secs(3),
//! };
//! let facts = probe(&subject).await?;
//! let run = Run::new(&subject, &facts);
//! let report = run.judge(&all(), std::future::pending(), |_| {}).await;
//! for judged in report.judged.iter().filter(|judged| judged.outcome == Outcome::Failed) {
//!     println!("{} ({}): {}", judged.rule.name, judged.rule.section, judged.detail);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Whatever a target does, a run ends, and nothing here panics on it or grows without bound.
#![forbid(unsafe_code)]

mod bench;
mod chap;
mod check;
mod checks;
mod fields;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
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
mod words;

pub use check::{Check, Effect, Level, Rule};
pub use checks::all;
pub use probe::{Facts, Unusable, probe};
pub use run::{Judged, Outcome, Report, Run, judge};
pub use select::{Selection, UnknownCheck};
pub use subject::{Credentials, Subject};
pub use waivers::{Waiver, WaiverError, Waivers};
pub use wire::CannotReach;
