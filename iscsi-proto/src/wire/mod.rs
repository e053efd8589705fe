//! The shape of bytes on the wire; no state (RFC 7143 §11). Nothing here panics, whatever the bytes.

pub mod ahs;
pub mod bhs;
pub mod digest;
pub mod framer;
pub mod lun;
pub mod opcode;
mod pdu;
pub mod serial;
pub mod text;

pub use pdu::{Header, Pdu};
