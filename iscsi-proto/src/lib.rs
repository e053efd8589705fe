//! The iSCSI protocol (RFC 7143) and the SCSI commands that it carries, without I/O.
//!
//! Bytes and time go in, bytes and events come out: the crate opens no socket, asks no clock and draws no random
//! number. A driver owns a [`session::TargetSession`] or a [`session::InitiatorSession`] and calls four kinds of
//! methods: getters, `handle_*` (something happened), the user's verbs (`submit`, `complete`), and `poll_*` (what is
//! to be done). Everything from the wire is hostile until it was checked; nothing here panics on it.
#![forbid(unsafe_code)]
#![deny(clippy::host_endian_bytes, clippy::little_endian_bytes)]

pub mod discovery;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod login;
pub mod name;
pub mod params;
pub mod scsi;
pub mod session;
pub mod url;
pub mod wire;
