//! SCSI without a transport: commands and the bytes that answer them (SPC-4, SBC-3, SAM-5).
//!
//! Both directions are here, side by side: a target parses a [`Command`] and builds responses, an initiator encodes
//! the same [`Command`] and parses the same responses. Parsers take hostile bytes and never panic; a response that
//! is cut short by an allocation length parses as far as it goes, or is refused as a whole.

pub mod capacity;
mod cdb;
mod command;
pub mod copy;
pub mod defects;
mod encode;
pub mod inquiry;
mod layout;
pub mod lba_status;
pub mod log;
pub mod luns;
pub mod mode;
pub mod opcodes;
mod operands;
pub mod persistent;
pub mod port_groups;
mod range;
pub mod sanitize;
mod sense;
mod status;
pub mod task_management;
pub mod unmap;
pub mod vpd;

pub use command::Command;
pub use operands::{
    ByteCheck, CopyResults, LogControl, ModeForm, OpcodeQuery, PageControl, ReserveIn, ReserveOut,
    SanitizeAction, WriteSame,
};
pub use range::{Caching, Form, LbaRange};
pub use sense::{Sense, SenseData, SenseSpecific};
pub use status::Status;

#[cfg(test)]
mod command_tests;
#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod opcodes_tests;
