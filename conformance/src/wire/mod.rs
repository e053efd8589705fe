//! A connection that can also send nonsense, and that writes down everything.

mod connection;
mod describe;
mod transcript;

pub use connection::CannotReach;
pub(crate) use connection::{Heard, NO_ANSWER, Wire};
pub(crate) use transcript::Transcript;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use transcript::{Entry, Way};
