//! The shape of bytes on the wire; no state (RFC 7143 §11).

pub mod bhs;
mod pdu;

pub use pdu::{Header, Pdu};
