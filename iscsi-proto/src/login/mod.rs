//! The login phase (RFC 7143 §6), both ends: PDUs in, PDUs and outcomes out.
//!
//! A [`TargetLogin`] asks its driver twice: how the initiator has to prove itself, and whether to admit it; an [`InitiatorLogin`] ends in full feature
//! phase, in a redirection or in a refusal. Nothing that a peer sends makes either panic.

mod chap;
mod identity;
mod initiator;
mod ltds;
mod negotiate;
mod offer;
mod security;
mod stage;
mod status;
mod talk;
mod target;
mod value;
mod violation;

pub use chap::{
    Account, Algorithm, ChapPolicy, InitiatorChap, InvalidSecret, Secret, Unproven, UnusableChap,
    check_accounts,
};
pub use identity::Identity;
pub use initiator::{InitiatorLogin, InitiatorOutcome, InitiatorStep, LoginError};
pub use offer::{DigestChoice, DigestPolicy, InitiatorOffer, Operational, TargetOffer};
pub use status::LoginStatus;
pub use target::{Admission, Authentication, Outcome, TargetLogin, TargetStep};
pub use violation::Violation;

/// The most text that one side may send during one login (RFC 7143 §6.1).
pub const MAX_LOGIN_TEXT_BYTES: usize = 64 * 1024;

/// The most requests that one login may take. One key at a time needs some thirty.
pub const MAX_LOGIN_EXCHANGES: u32 = 128;

/// The most keys that one side may send during one login. The standard knows some forty.
pub const MAX_LOGIN_KEYS: usize = 1024;

/// The longest alias that we send, or keep, in bytes (RFC 7143 §6.1).
pub const MAX_ALIAS_BYTES: usize = 255;

/// The version of RFC 7143 (§11.12.4).
const VERSION: u8 = 0;
