//! Instances as their users meet them: created by the dozen, kept, brought back, limited, and alive through deaths of
//! the daemon and absences of the origin.
#![allow(clippy::unwrap_used, reason = "what a test cannot set up must end it")]
#![allow(unreachable_pub, reason = "a module of a test binary has no outside")]

mod deaths;
mod exports;
#[path = "../harness/mod.rs"]
mod harness;
mod modes;
mod outages;
mod snapshots;
mod stage;
mod troubles;
mod turning;
