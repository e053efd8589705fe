//! An iSCSI initiator: reaches the logical units of any target as volumes.
//!
//! [`discover()`] asks an address what targets it has. A [`Session`] is a handle on one target; it may be cloned and
//! shared, reconnects by itself, repeats what can be repeated without harm, and follows redirections. A [`Remote`]
//! is one logical unit of a session as a [`Volume`](vmthunder_volume::Volume). A unit that is not the same after a
//! reconnect, by its size or its designators, answers nothing but errors from then on: content never mixes.
//!
//! [`Credentials`] prove who the initiator is by CHAP, and can make the target prove itself, too; a URL may carry them
//! as `user%secret@`.
//!
//! Nothing here panics on what a target sends.
#![forbid(unsafe_code)]

mod connection;
mod dial;
mod discover;
mod error;
mod guard;
mod identity;
mod job;
mod link;
mod options;
mod outage;
mod queue;
mod remote;
mod reset;
mod session;
mod status;

pub use discover::discover;
pub use error::Error;
pub use iscsi_proto::login::{Account, Algorithm, InvalidSecret, Secret, UnusableChap};
pub use iscsi_proto::name::IscsiName;
pub use iscsi_proto::scsi::vpd::Designator;
pub use options::{Credentials, Options, Outage, Reconnect};
pub use remote::Remote;
pub use session::Session;
