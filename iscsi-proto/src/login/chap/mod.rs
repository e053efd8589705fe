//! CHAP: who has the secret proves it without sending it (RFC 7143 §12.1.3, RFC 1994).
//!
//! A [`Verifier`] is the target's end, a [`Prover`] the initiator's. Both know nothing of PDUs and stages: keys in,
//! keys out, once per request or response.

mod account;
mod algorithm;
mod binary;
mod policy;
mod prover;
mod step;
mod verifier;

pub use account::{Account, InvalidSecret, Secret};
pub use algorithm::Algorithm;
pub use policy::{ChapPolicy, InitiatorChap, UnusableChap, check_accounts};
pub(crate) use prover::Prover;
pub use prover::Unproven;
pub(crate) use step::Step;
pub(crate) use verifier::Verifier;
