//! Stories about a target session in virtual time. The initiator's part is written byte by byte after RFC 7143 §11,
//! so that nothing here shares a mistake with the code under test.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "what a test cannot set up must end it; an Instant has no other beginning"
)]

mod chaos;
mod commands;
mod formats;
mod harness;
mod keepalive;
mod login;
mod management;
mod notices;
mod numbering;
mod purge;
mod texts;
mod writes;
