//! The options of `vmthunder target`, and the same in the configuration of `serve`: each as an initiator sees it.
#![allow(clippy::unwrap_used, reason = "what a test cannot set up must end it")]

#[path = "../harness/mod.rs"]
mod harness;

mod access;
mod control;
mod disks;
mod limits;
mod refusals;
mod reservations;
mod serve;
